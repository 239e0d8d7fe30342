import { describe, expect, test } from "vitest";
import {
  type ActiveSpeaker,
  HOLD_MS,
  NO_SPEAKER,
  OVERLAP_MS,
  stepActiveSpeaker,
  TAKEOVER_MS,
} from "../src/active-speaker";

const ALL = ["a", "b", "c"];

/** Plays steps of (time, active, eligible) and tells who is in focus after each. */
function play(steps: readonly (readonly [number, string[], string[]?])[]): (string | null)[] {
  let speaker: ActiveSpeaker = NO_SPEAKER;
  return steps.map(([atMs, active, eligible]) => {
    speaker = stepActiveSpeaker(speaker, active, eligible ?? ALL, atMs).speaker;
    return speaker.focus;
  });
}

describe("active speaker", () => {
  test("nobody speaks: the first eligible has it, and gives it up to a better one", () => {
    expect(play([[0, []]])).toEqual(["a"]);
    expect(
      play([
        [0, [], ["b", "a"]],
        [10, [], ["a", "b"]],
      ]),
    ).toEqual(["b", "a"]);
    expect(play([[0, [], []]])).toEqual([null]);
  });

  test("the first to speak takes it at once", () => {
    expect(
      play([
        [0, []],
        [10, ["c"]],
      ]),
    ).toEqual(["a", "c"]);
  });

  test("a cough changes nothing", () => {
    const t = 10 * HOLD_MS;
    expect(
      play([
        [0, ["a"]],
        [t, ["b"]],
        [t + TAKEOVER_MS - 1, ["a"]],
        [t + TAKEOVER_MS + 1, ["b"]],
      ]),
    ).toEqual(["a", "a", "a", "a"]);
  });

  test("a new speaker takes over from a silent one", () => {
    const t = 10 * HOLD_MS;
    expect(
      play([
        [0, ["a"]],
        [t, ["b"]],
        [t + TAKEOVER_MS, ["b"]],
      ]),
    ).toEqual(["a", "a", "b"]);
  });

  test("over another speaker it takes longer", () => {
    const t = 10 * HOLD_MS;
    const both = ["b", "a"];
    expect(
      play([
        [0, ["a"]],
        [t, both],
        [t + TAKEOVER_MS, both],
        [t + OVERLAP_MS, both],
      ]),
    ).toEqual(["a", "a", "a", "b"]);
  });

  test("nobody loses it sooner than the hold", () => {
    expect(
      play([
        [0, ["a"]],
        [10, ["b"]],
        [TAKEOVER_MS + 10, ["b"]],
        [HOLD_MS, ["b"]],
      ]),
    ).toEqual(["a", "a", "a", "b"]);
  });

  test("silence leaves it where it is", () => {
    expect(
      play([
        [0, ["b"]],
        [60_000, []],
      ]),
    ).toEqual(["b", "b"]);
  });

  test("who leaves loses it at once, to a speaker if there is one", () => {
    expect(
      play([
        [0, ["a"]],
        [1, ["c"], ["b", "c"]],
      ]),
    ).toEqual(["a", "c"]);
    expect(
      play([
        [0, ["a"]],
        [1, [], ["b", "c"]],
      ]),
    ).toEqual(["a", "b"]);
  });

  test("who has no tile never gets it", () => {
    expect(play([[0, ["bot", "b"]]])).toEqual(["b"]);
  });

  test("says when to ask again", () => {
    const { speaker } = stepActiveSpeaker(NO_SPEAKER, ["a"], ALL, 0);
    const step = stepActiveSpeaker(speaker, ["b"], ALL, 5000);
    expect(step.recheckAtMs).toBe(5000 + TAKEOVER_MS);
    expect(stepActiveSpeaker(step.speaker, ["b"], ALL, 5100).recheckAtMs).toBe(5000 + TAKEOVER_MS);
    expect(stepActiveSpeaker(step.speaker, [], ALL, 5100).recheckAtMs).toBeNull();
  });
});
