import { expect, test } from "vitest";
import type { Progress } from "../src/egress";
import { pointsOf, roundTop, Samples } from "../src/samples";

function progress(second: number, size: number): Progress {
  return {
    media_ns: second * 1e9,
    frames: 0,
    unique_frames: 0,
    dropped_frames: 0,
    size_bytes: size,
    fps: 30,
    cpu_cores: 0.5,
  };
}

test("bytes a second are those between two reports, and a report that is no news is no sample", () => {
  const samples = new Samples();
  samples.add(progress(1, 1000));
  samples.add(progress(3, 5000));
  samples.add(progress(3, 5000));
  samples.add(progress(4, 4000));
  expect(samples.all).toEqual([
    { fps: 30, cpuCores: 0.5, bytesPerSecond: 1000 },
    { fps: 30, cpuCores: 0.5, bytesPerSecond: 2000 },
    { fps: 30, cpuCores: 0.5, bytesPerSecond: 0 },
  ]);
});

test("a moment has no rate", () => {
  const samples = new Samples();
  samples.add(progress(1e-9, 5000));
  expect(samples.all[0]?.bytesPerSecond).toBe(0);
});

test("two minutes are kept", () => {
  const samples = new Samples();
  for (let second = 1; second <= 300; second++) samples.add(progress(second, 0));
  expect(samples.all).toHaveLength(120);
});

test("the newest is at the right edge, and the top at the upper one", () => {
  expect(pointsOf([0, 50, 100, 200], 119, 20, 100)).toBe("116.0,20.0 117.0,10.0 118.0,0.0 119.0,0.0");
  expect(pointsOf([], 119, 20, 1)).toBe("");
});

test.each([
  [[], 1],
  [[0], 1],
  [[30], 50],
  [[0.3, 0.14], 0.5],
  [[10], 10],
  [[7_000_000], 10_000_000],
])("top over %j is %d", (values, top) => {
  expect(roundTop(values)).toBeCloseTo(top, 9);
});
