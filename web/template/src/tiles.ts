/** Which tiles a room has, in an order that does not change while people talk. */

import type { Fit, Size } from "./rectangles";

export interface VideoView {
  readonly sid: string;
  readonly screen: boolean;
  readonly muted: boolean;
  /** As published; zero if the publisher gave none. */
  readonly size: Size;
}

export interface ParticipantView {
  readonly identity: string;
  readonly name: string;
  readonly agent: boolean;
  readonly joinedAtMs: number;
  readonly videos: readonly VideoView[];
  readonly hasAudio: boolean;
}

export interface Tile {
  /** Outlives republishing and reconnecting: it is made from the identity, not from the track. */
  readonly key: string;
  readonly identity: string;
  readonly name: string;
  readonly screen: boolean;
  /** null: the participant publishes no video. */
  readonly videoSid: string | null;
  readonly muted: boolean;
  readonly size: Size;
}

/** Cameras are cropped to their tile, except portrait ones; a shared screen is always shown whole. */
export function fitOf(tile: Tile): Fit {
  return tile.screen || tile.size.height > tile.size.width ? "contain" : "cover";
}

function compareJoin(a: ParticipantView, b: ParticipantView): number {
  return a.joinedAtMs - b.joinedAtMs || (a.identity < b.identity ? -1 : 1);
}

function tilesOfOne(participant: ParticipantView): Tile[] {
  const { identity, name, videos } = participant;
  const tiles: Tile[] = [];
  const counts = { camera: 0, screen: 0 };
  for (const video of [...videos].sort((a, b) => Number(a.screen) - Number(b.screen))) {
    const slot = video.screen ? "screen" : "camera";
    const index = counts[slot]++;
    const key = JSON.stringify(index === 0 ? [identity, slot] : [identity, slot, index]);
    const { sid: videoSid, screen, muted, size } = video;
    tiles.push({ key, identity, name, screen, videoSid, muted, size });
  }
  if (counts.camera === 0 && participant.hasAudio) {
    tiles.unshift({
      key: JSON.stringify([identity, "camera"]),
      identity,
      name,
      screen: false,
      videoSid: null,
      muted: true,
      size: { width: 0, height: 0 },
    });
  }
  return tiles;
}

/**
 * The tiles of a room: a participant who publishes nothing has none, and an agent that only speaks has one
 * only while nobody else has.
 */
export function tilesOf(participants: readonly ParticipantView[]): readonly Tile[] {
  const ordered = [...participants].sort(compareJoin);
  const people = ordered.filter((one) => !one.agent || one.videos.length > 0).flatMap(tilesOfOne);
  return people.length > 0 ? people : ordered.flatMap(tilesOfOne);
}
