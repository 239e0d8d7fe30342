// Steers a recording with LiveKit's Node SDK as it is: people, looks, markers, parts, a pause and a limit.
// LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... node control.js URL LIVEKIT_URL ROOM
// URL is that of the Egress API. In the room, bob and somebody else must publish. Prints the egress id.
import { EgressClient, EgressStatus, EncodedFileOutput, RoomServiceClient } from "livekit-server-sdk";

const [url, livekitUrl, room] = process.argv.slice(2);
const { LIVEKIT_API_KEY: apiKey, LIVEKIT_API_SECRET: apiSecret } = process.env;
const client = new EgressClient(url, apiKey, apiSecret);
const rooms = new RoomServiceClient(livekitUrl, apiKey, apiSecret);
const everyMs = 100;
const withinMs = 30_000;
const longMs = 2_500; // enough to be seen and heard in the recording

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(isSo) {
  for (const endMs = Date.now() + withinMs; Date.now() < endMs; ) {
    const [info] = await client.listEgress({ egressId });
    if (isSo(info)) return;
    await sleep(everyMs);
  }
  throw new Error(`not within ${withinMs} ms: ${isSo}`);
}

const isPaused = (info) => info.details.split("; ").includes("Paused");
const file = new EncodedFileOutput({ filepath: `${room}.mp4` });
const layout =
  "grid?leave_out=staff-*&split_every=10s&max_duration=1h&text=MMMMMMMM&text_corner=bottom-right&text_size=20%25";
const encodingOptions = { width: 640, height: 360, framerate: 15 };
const { egressId } = await client.startRoomCompositeEgress(room, { file }, { layout, encodingOptions });
await until((info) => info.status === EgressStatus.EGRESS_ACTIVE);
await sleep(longMs);
await client.updateLayout(egressId, "@marker=Bob%20leaves");
await rooms.updateParticipant(room, "bob", { attributes: { "egress.exclude": "true" } });
await sleep(longMs);
await client.updateLayout(egressId, "@pause");
await until(isPaused);
await sleep(longMs);
await client.updateLayout(egressId, "@resume");
await until((info) => !isPaused(info));
await client.updateLayout(egressId, "?text=");
await client.updateLayout(egressId, "@marker=No%20text&ago=0s");
await until((info) => info.fileResults.length === 2);
await sleep(longMs);
await client.updateLayout(egressId, "speaker?max_duration=1s");
await until((info) => info.status > EgressStatus.EGRESS_ENDING);
console.log(egressId);
