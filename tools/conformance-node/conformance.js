// Drives a running Egress API with LiveKit's Node SDK. Prints "ok <step>" for each step; a failure ends it.
// LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... node conformance.js URL ROOM
// The room must exist; nothing need be published in it.
import assert from "node:assert/strict";
import {
  AccessToken,
  DirectFileOutput,
  EgressClient,
  EgressInfo,
  EgressStatus,
  EncodedFileOutput,
  EncodedFileType,
  EncodingOptionsPreset,
  FileOutput,
  ImageOutput,
  Output,
  S3Upload,
  SegmentedFileOutput,
  StartEgressRequest,
  StorageConfig,
  StreamOutput,
  StreamProtocol,
  TemplateSource,
  WebhookConfig,
} from "livekit-server-sdk";

const [url, room] = process.argv.slice(2);
const { LIVEKIT_API_KEY: apiKey, LIVEKIT_API_SECRET: apiSecret } = process.env;
const client = new EgressClient(url, apiKey, apiSecret);
const started = [];

const s3 = () =>
  new S3Upload({ bucket: "conformance", accessKey: "KEYSECRET", secret: "SECRET", region: "eu-west-1" });
const file = (output) => new EncodedFileOutput({ filepath: "conformance/{room_name}-{time}", ...output });
const stream = () => new StreamOutput({ protocol: StreamProtocol.RTMP, urls: ["rtmp://127.0.0.1:1/app/aaaSECRETaaa"] });

async function step(name, run) {
  await run();
  console.log(`ok ${name}`);
}

async function start(name, call) {
  await step(name, async () => {
    const info = await call();
    assert.match(info.egressId, /^EG_[0-9A-Za-z]{12}$/);
    assert.equal(info.status, EgressStatus.EGRESS_STARTING);
    assert.ok(info.startedAt > 0n);
    assert.ok(!JSON.stringify(info.toJson()).includes("SECRET"), "a secret came back");
    started.push(info);
  });
}

async function refused(name, code, status, message, call) {
  await step(name, () =>
    assert.rejects(call, (error) => {
      assert.equal(error.code, code, error.message);
      assert.equal(error.status, status);
      assert.ok(error.message.includes(message), error.message);
      return true;
    }),
  );
}

async function until(egressId, reached) {
  for (let attempt = 0; attempt < 150; attempt += 1) {
    const [info] = await client.listEgress({ egressId });
    if (reached(info)) return info;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${egressId} did not get there in 15 s`);
}

await start("StartWebEgress", () =>
  client.startWebEgress("http://127.0.0.1:1/", { file: file(), stream: stream() }, {
    encodingOptions: EncodingOptionsPreset.H264_720P_30,
    webhooks: [new WebhookConfig({ url: "http://127.0.0.1:1/", signingKey: apiKey })],
  }),
);
await start("StartRoomCompositeEgress", () =>
  client.startRoomCompositeEgress(room, {
    file: file({ fileType: EncodedFileType.MP4 }),
    stream: stream(),
    segments: new SegmentedFileOutput({ filenamePrefix: "conformance/s", livePlaylistName: "live.m3u8" }),
    images: new ImageOutput({ captureInterval: 5, width: 320 }),
  }, { layout: "grid", encodingOptions: { width: 640, height: 360, framerate: 15 } }),
);
await start("StartRoomCompositeEgress of sound", () =>
  client.startRoomCompositeEgress(room, file({ output: { case: "s3", value: s3() } }), {
    audioOnly: true,
    audioMixing: 1, // DUAL_CHANNEL_AGENT, which the SDK does not export
  }),
);
await start("StartParticipantEgress", () => client.startParticipantEgress(room, "nobody", { file: file() }));
await start("StartTrackCompositeEgress", () =>
  client.startTrackCompositeEgress(room, { file: file() }, { audioTrackId: "TR_a", videoTrackId: "TR_v" }),
);
await start("StartTrackEgress to a file", () =>
  client.startTrackEgress(room, new DirectFileOutput({ filepath: "conformance/{track_id}" }), "TR_x"),
);
await start("StartTrackEgress to a websocket", () =>
  client.startTrackEgress(room, "ws://127.0.0.1:1/?token=SECRET", "TR_x"),
);
await start("StartEgress", () =>
  client.startEgress(
    new StartEgressRequest({
      roomName: room,
      source: { case: "template", value: new TemplateSource({ layout: "speaker" }) },
      encoding: { case: "preset", value: EncodingOptionsPreset.H264_720P_30 },
      outputs: [
        new Output({ config: { case: "file", value: new FileOutput({ filepath: "conformance/v2-{time}" }) } }),
      ],
      storage: new StorageConfig({ provider: { case: "s3", value: s3() } }),
    }),
  ),
);
// Fields of protocol v1.54.0, which the SDK does not know (2.19.2).
const raw = async (body) => {
  const token = new AccessToken(apiKey, apiSecret);
  token.addGrant({ roomRecord: true });
  const headers = { Authorization: `Bearer ${await token.toJwt()}`, "Content-Type": "application/json" };
  const answer = await fetch(`${url}/twirp/livekit.Egress/StartEgress`, {
    method: "POST",
    headers,
    body: JSON.stringify({ roomName: room, ...body }),
  });
  return { status: answer.status, body: await answer.json() };
};
await start("StartEgress of routes", async () => {
  const routes = [
    { participantKind: "AGENT", exclude: true },
    { participantIdentity: "ann", trackName: "music", channel: "AUDIO_CHANNEL_LEFT" },
  ];
  const outputs = [{ file: { filepath: "conformance/routes-{time}" } }];
  const { status, body } = await raw({ media: { audio: { captureAll: true, routes } }, outputs });
  assert.equal(status, 200, JSON.stringify(body));
  const echoed = body.egress.media.audio.routes;
  assert.deepEqual([echoed[0].exclude, echoed[1].track_name], [true, "music"]);
  return EgressInfo.fromJson(body, { ignoreUnknownFields: true });
});
await start("StartEgress into an MCAP file", async () => {
  const media = { videos: { captureAll: true } };
  const { status, body } = await raw({ media, outputs: [{ file: { fileType: "MCAP" } }] });
  assert.equal(status, 200, JSON.stringify(body));
  assert.equal(body.egress.media.videos.capture_all, true);
  return EgressInfo.fromJson(body, { ignoreUnknownFields: true });
});

const [web, composite] = started;

await step("ListEgress", async () => {
  const ids = (items) => items.map((item) => item.egressId);
  assert.deepEqual(ids(await client.listEgress({ egressId: web.egressId })), [web.egressId]);
  const inRoom = ids(await client.listEgress({ roomName: room }));
  assert.ok(inRoom.includes(composite.egressId) && !inRoom.includes(web.egressId));
  assert.deepEqual(await client.listEgress({ roomName: "no such room" }), []);
  const all = ids(await client.listEgress());
  for (const info of started) assert.ok(all.includes(info.egressId));
});
await step("UpdateStream", async () => {
  const added = "rtmp://127.0.0.1:1/app/bbbSECRETbbb";
  const info = await client.updateStream(composite.egressId, [added]);
  const urls = info.streamResults.map((result) => result.url);
  assert.ok(urls.includes("rtmp://127.0.0.1:1/app/{bbb...bbb}"), urls.join());
});
await step("UpdateLayout", async () => {
  const info = await client.updateLayout(composite.egressId, "single-speaker-light");
  assert.equal(info.request.value.layout, "single-speaker-light");
});
await step("UpdateLayout to an unknown layout", async () => {
  const info = await client.updateLayout(composite.egressId, "mosaic");
  assert.equal(info.request.value.layout, "mosaic");
  assert.match(info.details, /taken for grid/);
});
await step("UpdateLayout of a web page", async () => {
  const info = await client.updateLayout(web.egressId, "grid");
  assert.match(info.details, /the layout has no effect/);
});

await refused("no such room", "not_found", 404, "requested room does not exist", () =>
  client.startRoomCompositeEgress("no such room", file()),
);
await refused("no output", "invalid_argument", 400, "request has missing or invalid field: output", () =>
  client.startWebEgress("http://127.0.0.1:1/", {}),
);
await refused("bad page", "invalid_argument", 400, "request has missing or invalid field: web url", () =>
  client.startWebEgress("ftp://127.0.0.1/", { file: file() }),
);
await refused("bad stream", "invalid_argument", 400, "rtmp urls must be of format", () =>
  client.startWebEgress("http://127.0.0.1:1/", {
    stream: new StreamOutput({ protocol: StreamProtocol.RTMP, urls: ["rtmp://host/key"] }),
  }),
);
await refused("no such egress", "not_found", 404, "egress does not exist", () =>
  client.listEgress({ egressId: "EG_none" }),
);

for (const info of started) {
  await step(`StopEgress ${info.egressId}`, async () => {
    const before = (await client.listEgress({ egressId: info.egressId }))[0];
    if (before.status < EgressStatus.EGRESS_COMPLETE) await client.stopEgress(info.egressId);
    await until(info.egressId, ({ status }) => status >= EgressStatus.EGRESS_COMPLETE);
  });
}
await refused("stopped twice", "failed_precondition", 412, "cannot be stopped", () =>
  client.stopEgress(web.egressId),
);
await refused("wrong secret", undefined, 401, "", () =>
  new EgressClient(url, apiKey, "0".repeat(32)).listEgress(),
);
