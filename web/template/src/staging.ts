/** Turns tiles, layout and focus into rectangles: the whole picture as a value. */

import type { Arrangement } from "./layout";
import { focusRects, GRID_CAPACITY, gridRects, type Rect, type Size, sideCapacity } from "./rectangles";
import type { Tile } from "./tiles";

export interface Scene {
  readonly arrangement: Arrangement;
  readonly tiles: readonly Tile[];
  /** Identity of the active speaker. */
  readonly speaker: string | null;
  /** Identities by when they spoke last, the latest first: they are shown when there is no room for all. */
  readonly recent: readonly string[];
  readonly canvas: Size;
  readonly previous: Staging;
}

/** The picture, and the state that keeps tiles in their places in the next one. */
export interface Staging {
  /** Rectangles of the shown tiles by their keys; a tile without one is hidden. */
  readonly rects: ReadonlyMap<string, Rect>;
  /** Key of the tile in focus; null in a grid. */
  readonly focus: string | null;
  /** Keys of the other tiles in their order. */
  readonly others: readonly string[];
}

export const EMPTY_STAGING: Staging = { rects: new Map(), focus: null, others: [] };

/** A screen share replaces the active speaker, and the first one stays. */
export function focusTile(tiles: readonly Tile[], speaker: string | null): Tile | null {
  return (
    tiles.find((tile) => tile.screen && !tile.muted) ??
    tiles.find((tile) => tile.identity === speaker && !tile.screen) ??
    tiles[0] ??
    null
  );
}

/** The latest speakers first, then the others in order of arrival. */
export function byRecency(tiles: readonly Tile[], recent: readonly string[]): readonly Tile[] {
  const rank = (tile: Tile): number => {
    const spoke = recent.indexOf(tile.identity);
    return spoke < 0 ? recent.length : spoke;
  };
  return [...tiles].sort((a, b) => rank(a) - rank(b));
}

/** Those shown when there is no room for all, in their order. */
export function choose(tiles: readonly Tile[], capacity: number, recent: readonly string[]): readonly Tile[] {
  if (tiles.length <= capacity) return tiles;
  const chosen = new Set(byRecency(tiles, recent).slice(0, capacity));
  return tiles.filter((tile) => chosen.has(tile));
}

/** Those who were there keep their places (`previous`, keys in order); newcomers fill the gaps, then the end. */
export function keepPlaces(tiles: readonly Tile[], previous: readonly string[]): readonly Tile[] {
  const staying = new Map(
    tiles.filter((tile) => previous.includes(tile.key)).map((tile) => [tile.key, tile]),
  );
  const coming = tiles.filter((tile) => !staying.has(tile.key));
  const kept = previous.flatMap((key) => staying.get(key) ?? coming.shift() ?? []);
  return [...kept, ...coming];
}

/** The whole picture. */
export function stage(scene: Scene): Staging {
  const focus = focusTile(scene.tiles, scene.speaker);
  if (focus === null) return EMPTY_STAGING;
  const sharing = focus.screen && !focus.muted;
  if (scene.arrangement === "grid" && !sharing) return stageGrid(scene);
  if (scene.arrangement !== "single-speaker") return stageFocus(scene, focus);
  return { rects: zip([focus], gridRects(1, scene.canvas)), focus: focus.key, others: [] };
}

function stageGrid({ tiles, recent, canvas, previous }: Scene): Staging {
  const shown =
    tiles.length <= GRID_CAPACITY ? tiles : keepPlaces(choose(tiles, GRID_CAPACITY, recent), previous.others);
  const rects = zip(shown, gridRects(shown.length, canvas));
  return { rects, focus: null, others: [...rects.keys()] };
}

function stageFocus({ tiles, recent, canvas, previous }: Scene, focus: Tile): Staging {
  const beside = tiles.filter((tile) => tile !== focus);
  // The one who loses the focus takes the place of the one who gets it.
  const places = previous.others.flatMap((key) => (key === focus.key ? (previous.focus ?? []) : key));
  const others = keepPlaces(choose(beside, sideCapacity(canvas), recent), places);
  const layout = focusRects(others.length, canvas);
  return {
    rects: zip([focus, ...others], [layout.focus, ...layout.others]),
    focus: focus.key,
    others: others.map((tile) => tile.key),
  };
}

function zip(tiles: readonly Tile[], rects: readonly Rect[]): ReadonlyMap<string, Rect> {
  return new Map(
    tiles.flatMap((tile, index) => {
      const rect = rects[index];
      return rect ? [[tile.key, rect] as const] : [];
    }),
  );
}
