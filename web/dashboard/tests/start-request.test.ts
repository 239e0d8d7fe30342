import { expect, test } from "vitest";
import { messageOf } from "../src/api";
import { type FormText, Incomplete, startRequest } from "../src/start-request";

const ROOM = { kind: "room_composite", room: " r ", layout: "grid" };

test.each<[string, FormText, string, unknown]>([
  [
    "a room to a file",
    { ...ROOM, file: "on", filepath: "a.mp4" },
    "StartRoomCompositeEgress",
    { room_name: "r", layout: "grid", file_outputs: [{ filepath: "a.mp4" }] },
  ],
  [
    "a room to all there is",
    { ...ROOM, audio_only: "on", file: "on", hls: "on", stream: "on", urls: " rtmp://a/b/c\nrtmp://d/e/f " },
    "StartRoomCompositeEgress",
    {
      room_name: "r",
      layout: "grid",
      audio_only: true,
      file_outputs: [{}],
      segment_outputs: [{}],
      stream_outputs: [{ protocol: "RTMP", urls: ["rtmp://a/b/c", "rtmp://d/e/f"] }],
    },
  ],
  [
    "a page to SRT",
    { kind: "web", url: "https://x/", stream: "on", urls: "srt://h:1" },
    "StartWebEgress",
    { url: "https://x/", stream_outputs: [{ protocol: "SRT", urls: ["srt://h:1"] }] },
  ],
  [
    "a participant's screen to HLS",
    { kind: "participant", room: "r", identity: "ada", screen_share: "on", hls: "on", prefix: "p" },
    "StartParticipantEgress",
    { room_name: "r", identity: "ada", screen_share: true, segment_outputs: [{ filename_prefix: "p" }] },
  ],
  [
    "one track of two",
    { kind: "track_composite", room: "r", video_track_id: "TR_v", file: "on" },
    "StartTrackCompositeEgress",
    { room_name: "r", video_track_id: "TR_v", file_outputs: [{}] },
  ],
  [
    "a track, and nothing of a field that is not its own",
    { kind: "track", room: "r", track_id: "TR_v", file: "on", stream: "on", urls: "rtmp://a/b/c" },
    "StartTrackEgress",
    { room_name: "r", track_id: "TR_v", file: {} },
  ],
  [
    "a room with options",
    { ...ROOM, file: "on", options: " max_duration = 1h\n\ntext=a=b & c\nlogo=\n" },
    "StartRoomCompositeEgress",
    {
      room_name: "r",
      layout: "grid",
      file_outputs: [{}],
      openegress: { max_duration: "1h", text: "a=b & c", logo: "" },
    },
  ],
])("%s", (_, form, method, body) => {
  expect(startRequest(form)).toEqual({ method, body });
});

test.each<[FormText, string]>([
  [{ kind: "room_composite", file: "on" }, "Fill in the room."],
  [{ kind: "web", url: "  ", file: "on" }, "Fill in the address of the page."],
  [{ kind: "participant", room: "r", file: "on" }, "Fill in the identity of the participant."],
  [{ kind: "track_composite", room: "r", file: "on" }, "Fill in an audio track, a video track, or both."],
  [{ kind: "track", room: "r", track_id: "T" }, "A track is recorded to a file: select it."],
  [ROOM, "Choose at least one output."],
  [{ ...ROOM, stream: "on", urls: "\n" }, "Fill in where to stream to."],
  [{ ...ROOM, file: "on", options: "text=x\nlonger" }, 'Options: "longer" is not key=value.'],
  [{ ...ROOM, file: "on", options: "=1h" }, 'Options: "=1h" is not key=value.'],
  [{ ...ROOM, file: "on", options: "text=x\ntext=y" }, "Options: text is given twice."],
])("%j is incomplete", (form, words) => {
  expect(() => startRequest(form)).toThrow(new Incomplete(words));
});

test("refusals are told in the server's words", () => {
  expect(messageOf('{"code": "not_found", "msg": "no room"}')).toBe("no room");
  expect(messageOf("<p>Bad gateway")).toBe("<p>Bad gateway");
});
