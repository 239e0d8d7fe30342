import { expect, test } from "vitest";
import { delayAfter, wordsOf } from "../src/feed";
import { bytes, duration } from "../src/wording";

test.each([
  [null, "–"],
  [0, "00:00"],
  [999, "00:00"],
  [61_000, "01:01"],
  [3_600_000, "1:00:00"],
  [90_061_000, "25:01:01"],
])("duration %j ms", (ms, words) => {
  expect(duration(ms)).toBe(words);
});

test.each([
  [null, "–"],
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1.0 kB"],
  [99_949, "99.9 kB"],
  [99_950, "100 kB"],
  [999_499, "999 kB"],
  [999_500, "1.0 MB"],
  [1_234_567_890, "1.2 GB"],
  [5e15, "5000 TB"],
])("%j bytes", (count, words) => {
  expect(bytes(count)).toBe(words);
});

test("reconnecting backs off, and not for ever", () => {
  expect([0, 1, 2, 3, 4, 5, 50].map(delayAfter)).toEqual([500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
  expect(wordsOf({ kind: "waiting", delayMs: 500, why: "gone" })).toBe(
    "not connected (gone); trying again in 0.5 s",
  );
});
