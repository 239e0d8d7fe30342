import { expect, test } from "vitest";
import { fitOf, type ParticipantView, tilesOf, type VideoView } from "../src/tiles";

function video(sid: string, more: Partial<VideoView> = {}): VideoView {
  return { sid, screen: false, muted: false, size: { width: 1280, height: 720 }, ...more };
}

function person(identity: string, joinedAtMs: number, more: Partial<ParticipantView> = {}): ParticipantView {
  return {
    identity,
    name: identity,
    agent: false,
    joinedAtMs,
    videos: [video(`TR_${identity}`)],
    hasAudio: true,
    ...more,
  };
}

const summary = (participants: readonly ParticipantView[]) =>
  tilesOf(participants).map((tile) => `${tile.identity}${tile.screen ? "*" : ""}:${tile.videoSid ?? "-"}`);

test.each<[string, ParticipantView[], string[]]>([
  ["by time of joining", [person("b", 2), person("a", 3), person("c", 1)], ["c:TR_c", "b:TR_b", "a:TR_a"]],
  ["at the same time by identity", [person("b", 1), person("a", 1)], ["a:TR_a", "b:TR_b"]],
  ["sound only", [person("a", 1, { videos: [] })], ["a:-"]],
  ["nothing published", [person("a", 1, { videos: [], hasAudio: false })], []],
  [
    "screen after camera",
    [person("a", 1, { videos: [video("s", { screen: true }), video("c")] })],
    ["a:c", "a*:s"],
  ],
  ["screen and sound", [person("a", 1, { videos: [video("s", { screen: true })] })], ["a:-", "a*:s"]],
  ["two cameras", [person("a", 1, { videos: [video("c1"), video("c2")] })], ["a:c1", "a:c2"]],
  ["agent beside people", [person("bot", 1, { agent: true, videos: [] }), person("a", 2)], ["a:TR_a"]],
  ["agent alone", [person("bot", 1, { agent: true, videos: [] })], ["bot:-"]],
  [
    "agent with an avatar",
    [person("bot", 1, { agent: true }), person("a", 2, { videos: [] })],
    ["bot:TR_bot", "a:-"],
  ],
])("tiles: %s", (_, participants, tiles) => {
  expect(summary(participants)).toEqual(tiles);
});

test("a tile keeps its key when its video is published anew, and no two tiles share one", () => {
  const keys = (sid: string) => tilesOf([person("a", 1, { videos: [video(sid)] })]).map((tile) => tile.key);
  expect(keys("TR_1")).toEqual(keys("TR_2"));
  expect(keys("TR_1")).toEqual(tilesOf([person("a", 1, { videos: [] })]).map((tile) => tile.key));
  const all = tilesOf([
    person("a", 1, { videos: [video("1"), video("2"), video("3", { screen: true })] }),
    person('a","screen', 1),
  ]);
  expect(new Set(all.map((tile) => tile.key)).size).toBe(4);
});

test.each([
  [video("c"), "cover"],
  [video("c", { size: { width: 720, height: 1280 } }), "contain"],
  [video("c", { screen: true }), "contain"],
] as const)("fit of %o is %s", (one, fit) => {
  const tile = tilesOf([person("a", 1, { videos: [one], hasAudio: false })])[0];
  expect(tile && fitOf(tile)).toBe(fit);
});
