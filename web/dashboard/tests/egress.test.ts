import { expect, test } from "vitest";
import {
  compareNewest,
  type EgressInfo,
  type Entry,
  elapsedMs,
  isActive,
  isPaused,
  mayPause,
  outputsOf,
  phasedError,
  requestOf,
  sizeBytes,
  sourceOf,
  statusOf,
  updated,
} from "../src/egress";

const SECOND = "1000000000";

function info(more: Partial<EgressInfo>): EgressInfo {
  return { egress_id: "EG_1", status: "EGRESS_ACTIVE", ...more };
}

function entry(more: Partial<EgressInfo>, size = 0): Entry {
  const progress = { media_ns: 0, frames: 0, unique_frames: 0, dropped_frames: 0, size_bytes: size };
  return { info: info(more), progress, thumbnail: null };
}

test.each<[Partial<EgressInfo>, string, string]>([
  [{ room_composite: { room_name: "r", layout: "grid" }, room_name: "r" }, "room composite", "r · grid"],
  [{ room_composite: { room_name: "r" } }, "room composite", "r"],
  [{ web: { url: "https://example.com/" } }, "web", "https://example.com/"],
  [{ web: { url: "https://ann:pw@example.com/p?token=SECRET#x" } }, "web", "https://example.com/p?…"],
  [{ web: { url: "not an address" } }, "web", ""],
  [{ participant: { identity: "ann" }, room_name: "r" }, "participant", "r · ann"],
  [
    { track_composite: { audio_track_id: "TR_a", video_track_id: "TR_v" }, room_name: "r" },
    "track composite",
    "r · TR_a + TR_v",
  ],
  [{ track: { track_id: "TR_1" }, room_name: "r" }, "track", "r · TR_1"],
  [{ egress: { web: { url: "https://example.com/" } } }, "egress", "https://example.com/"],
  [{ egress: { room_name: "r" }, room_name: "r" }, "egress", "r"],
])("source of %j", (request, type, source) => {
  expect(requestOf(info(request))?.type).toBe(type);
  expect(sourceOf(info(request))).toBe(source);
});

test("a record without a request has none, and an empty source", () => {
  expect(requestOf(info({}))).toBeNull();
  expect(sourceOf(info({}))).toBe("");
});

test.each([
  ["EGRESS_STARTING", "starting", true],
  ["EGRESS_ACTIVE", "active", true],
  ["EGRESS_ENDING", "ending", true],
  ["EGRESS_COMPLETE", "complete", false],
  ["EGRESS_FAILED", "failed", false],
  ["EGRESS_ABORTED", "aborted", false],
  ["EGRESS_LIMIT_REACHED", "limit reached", false],
  ["EGRESS_NEW_ONE", "EGRESS_NEW_ONE", false],
])("status %s", (status, words, active) => {
  expect(statusOf(info({ status }))[0]).toBe(words);
  expect(isActive(info({ status }))).toBe(active);
});

test("what is composed after it was recorded says how far it is", () => {
  const status = "EGRESS_ENDING";
  const details = "End reason: StopEgress API; Composing: 42 %";
  expect(statusOf(info({ status, details }))).toEqual(["composing: 42 %", "busy"]);
  expect(statusOf(info({ status, details: "End reason: x" }))[0]).toBe("ending");
  expect(statusOf(info({ status: "EGRESS_ACTIVE", details }))[0]).toBe("active");
});

test.each<[Partial<EgressInfo>, boolean, boolean]>([
  [{ status: "EGRESS_ACTIVE", room_composite: {} }, true, false],
  [{ status: "EGRESS_ACTIVE", room_composite: {}, details: "a notice; Paused" }, true, true],
  [{ status: "EGRESS_ACTIVE", room_composite: {}, stream_results: [{ url: "rtmp://h/a" }] }, true, false],
  [{ status: "EGRESS_ACTIVE", web: {} }, true, false],
  [{ status: "EGRESS_COMPLETE", room_composite: {}, details: "Paused" }, false, false],
])("pause %j", (more, may, is) => {
  expect(mayPause(info(more))).toBe(may);
  expect(isPaused(info(more))).toBe(is);
});

test.each([
  ["page load: HTTP 404", "page load", "HTTP 404"],
  ["storage write: bucket: gone", "storage write", "bucket: gone"],
  ["Start signal not received", null, "Start signal not received"],
  ["something: else", null, "something: else"],
  ["", null, ""],
])("error %j", (error, phase, message) => {
  expect(phasedError(error)).toEqual({ phase, message });
});

test.each<[string, Partial<EgressInfo>, string[]]>([
  ["waiting", { file_results: [{ filename: "a.mp4", started_at: "0" }] }, ["file a.mp4 waiting quiet"]],
  ["writing", { file_results: [{ filename: "a.mp4", started_at: SECOND }] }, ["file a.mp4 writing good"]],
  [
    "storing",
    { file_results: [{ filename: "a.mp4", started_at: SECOND, ended_at: SECOND }] },
    ["file a.mp4 storing busy"],
  ],
  [
    "stored",
    { status: "EGRESS_COMPLETE", file_results: [{ filename: "a.mp4", location: "s3://b/a.mp4" }] },
    ["file a.mp4 stored: s3://b/a.mp4 good"],
  ],
  [
    "lost",
    { status: "EGRESS_FAILED", file_results: [{ filename: "a.mp4", started_at: SECOND }] },
    ["file a.mp4 not stored bad"],
  ],
  [
    "parts",
    {
      file_results: [
        { filename: "a-00001.mp4", location: "/o/a-00001.mp4" },
        { filename: "a-00002.mp4", started_at: SECOND },
      ],
    },
    ["part 1 a-00001.mp4 stored: /o/a-00001.mp4 good", "part 2 a-00002.mp4 writing good"],
  ],
  [
    "all kinds",
    {
      stream_results: [
        { url: "rtmp://h/a/{k}", status: "ACTIVE", retries: 2 },
        { url: "rtmp://g/a/{k}", status: "FAILED", error: "refused" },
      ],
      segment_results: [{ playlist_name: "p.m3u8", segment_count: "3", started_at: SECOND }],
      image_results: [{ filename_prefix: "i", image_count: "5" }],
    },
    [
      "segments (3) p.m3u8 writing good",
      "stream rtmp://h/a/{k} active, 2 retries good",
      "stream rtmp://g/a/{k} failed: refused bad",
      "images i 5 taken good",
    ],
  ],
])("outputs: %s", (_, more, lines) => {
  expect(outputsOf(info(more)).map((one) => `${one.kind} ${one.name} ${one.state} ${one.mood}`)).toEqual(
    lines,
  );
});

test.each([
  [undefined, undefined, null],
  ["0", "0", null],
  ["1700000000000000000", "0", 5000],
  ["1700000000000000000", "1700000002500000000", 2500],
  ["1700000060000000000", "0", 0],
])("elapsed from %s to %s", (started_at, ended_at, ms) => {
  const times = { ...(started_at && { started_at }), ...(ended_at && { ended_at }) };
  expect(elapsedMs(info(times), 1_700_000_005_000)).toBe(ms);
});

test("size: as reported, then as the finished files say", () => {
  expect(sizeBytes(entry({}))).toBeNull();
  expect(sizeBytes(entry({}, 500))).toBe(500);
  expect(sizeBytes(entry({ file_results: [{ size: "700" }], segment_results: [{ size: "50" }] }, 500))).toBe(
    750,
  );
});

test("newest first, beyond what a double can tell apart", () => {
  const older = entry({ egress_id: "EG_a", started_at: "1700000000000000001" });
  const newer = entry({ egress_id: "EG_b", started_at: "1700000000000000002" });
  const never = entry({ egress_id: "EG_c" });
  expect([never, older, newer].sort(compareNewest).map((one) => one.info.egress_id)).toEqual([
    "EG_b",
    "EG_a",
    "EG_c",
  ]);
});

test("an update brings what has changed, and leaves the rest", () => {
  const known = { ...entry({ room_name: "r" }), thumbnail: "data:,1", moments: [] };
  const progress = { ...entry({}, 7).progress };
  const news = { egress_id: "EG_1", progress: progress as Entry["progress"] };
  expect(updated(known, news)).toEqual({ ...known, progress });
  expect(updated(known, { egress_id: "EG_1", thumbnail: null })?.thumbnail).toBeNull();
  expect(updated(null, { egress_id: "EG_1", info: info({}) })).toEqual({
    info: info({}),
    progress: null,
    thumbnail: null,
  });
  expect(updated(null, news)).toBeNull();
});
