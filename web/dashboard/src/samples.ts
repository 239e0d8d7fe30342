/** The last two minutes of a recording's numbers, one sample a second. */

import type { Progress } from "./egress";

const KEPT = 120;
/** The shortest time for a rate: a file header alone would count as megabytes a second. */
const SHORTEST_S = 0.1;

export interface Sample {
  readonly fps: number;
  readonly cpuCores: number;
  readonly bytesPerSecond: number;
}

export class Samples {
  readonly #all: Sample[] = [];
  #last: Progress | null = null;

  add(progress: Progress): void {
    const last = this.#last;
    if (last !== null && progress.media_ns <= last.media_ns) return;
    this.#last = progress;
    // The first report covers everything since the start.
    const seconds = (progress.media_ns - (last?.media_ns ?? 0)) / 1e9;
    const grown = Math.max(0, progress.size_bytes - (last?.size_bytes ?? 0));
    this.#all.push({
      fps: progress.fps ?? 0,
      cpuCores: progress.cpu_cores ?? 0,
      bytesPerSecond: seconds >= SHORTEST_S ? grown / seconds : 0,
    });
    if (this.#all.length > KEPT) this.#all.shift();
  }

  get all(): readonly Sample[] {
    return this.#all;
  }
}

/**
 * The points of a line through values, the newest at the right edge, for an SVG of this size.
 *
 * @param top the value at the upper edge
 */
export function pointsOf(values: readonly number[], width: number, height: number, top: number): string {
  const step = width / (KEPT - 1);
  const left = width - step * (values.length - 1);
  return values
    .map((value, index) => {
      const y = height - (Math.min(value, top) / top) * height;
      return `${(left + index * step).toFixed(1)},${y.toFixed(1)}`;
    })
    .join(" ");
}

/** A round number that is not below any of the values: 1, 2 or 5 times a power of ten. */
export function roundTop(values: readonly number[]): number {
  const most = Math.max(...values, 0);
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return ([1, 2, 5, 10].find((digit) => digit * power >= most) ?? 10) * power;
}
