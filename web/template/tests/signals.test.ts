import { expect, test } from "vitest";
import {
  endsInMs,
  FIRST_FRAME_MS,
  NO_VIDEO_MS,
  OTHER_FRAMES_MS,
  RETURN_MS,
  startsInMs,
} from "../src/signals";

const yes = true;
const no = false;

test.each([
  // since connected, since first frame, complete, video expected, audio -> starts in
  [0, 0, yes, yes, no, 0],
  [0, 0, no, yes, no, OTHER_FRAMES_MS],
  [900, 100, no, yes, yes, OTHER_FRAMES_MS - 100],
  [900, OTHER_FRAMES_MS, no, yes, no, 0],
  [0, null, no, yes, no, FIRST_FRAME_MS],
  [0, null, no, yes, yes, FIRST_FRAME_MS],
  [FIRST_FRAME_MS - 100, null, no, yes, no, 100],
  [FIRST_FRAME_MS + 100, null, no, yes, no, 0],
  [0, null, yes, no, no, NO_VIDEO_MS],
  [0, null, yes, no, yes, 0],
  [NO_VIDEO_MS, null, yes, no, no, 0],
])(
  "%i ms after joining, first frame %j ms ago, complete %s, video %s, audio %s: starts in %i ms",
  (sinceConnectedMs, sinceFirstFrameMs, complete, videoExpected, audioHeard, expected) => {
    expect(startsInMs({ sinceConnectedMs, sinceFirstFrameMs, complete, videoExpected, audioHeard })).toBe(
      expected,
    );
  },
);

test.each([
  // connected, participants, attended, since reconnected -> ends in
  [yes, 0, yes, null, 0],
  [yes, 1, yes, null, null],
  [yes, 0, no, null, null],
  [no, 0, yes, null, null],
  [yes, 0, yes, 0, RETURN_MS],
  [yes, 0, yes, RETURN_MS - 1, 1],
  [yes, 0, yes, RETURN_MS + 1, 0],
  [yes, 2, yes, RETURN_MS + 1, null],
])(
  "connected %s, %i there, attended %s, reconnected %j ms ago: ends in %j ms",
  (connected, participants, everAttended, sinceReconnectedMs, expected) => {
    expect(endsInMs({ connected, participants, everAttended, sinceReconnectedMs })).toBe(expected);
  },
);
