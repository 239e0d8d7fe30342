/**
 * Where tiles lie on the canvas, in whole pixels. Positions and sizes are even: the recording's chroma
 * has half the resolution, and an odd edge would bleed.
 */

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Rect extends Size {
  readonly x: number;
  readonly y: number;
}

export interface FocusRects {
  readonly focus: Rect;
  readonly others: readonly Rect[];
}

/** With more tiles than this, nobody can be recognised. */
export const GRID_CAPACITY = 25;

const ASPECT = 16 / 9;

function even(value: number): number {
  return Math.max(2, 2 * Math.floor(value / 2));
}

/** Space between tiles and around them: 8 at 720 lines, 12 at 1080. */
export function gapOf(canvas: Size): number {
  return even(Math.min(canvas.width, canvas.height) / 90);
}

function whole(canvas: Size): Rect {
  return { x: 0, y: 0, width: canvas.width, height: canvas.height };
}

/** The number of columns that makes a 16:9 picture largest. */
function columnsFor(count: number, canvas: Size): number {
  const gap = gapOf(canvas);
  let best = 1;
  let bestWidth = 0;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (canvas.width - gap) / columns - gap;
    const cellHeight = (canvas.height - gap) / rows - gap;
    const pictureWidth = Math.min(cellWidth, cellHeight * ASPECT);
    if (pictureWidth > bestWidth) {
      best = columns;
      bestWidth = pictureWidth;
    }
  }
  return best;
}

/** `count` equal cells that fill the canvas row by row, a short last row centred; one tile has no border. */
export function gridRects(count: number, canvas: Size): readonly Rect[] {
  if (count <= 0) return [];
  if (count === 1) return [whole(canvas)];
  const gap = gapOf(canvas);
  const columns = columnsFor(count, canvas);
  const rows = Math.ceil(count / columns);
  const width = even((canvas.width - gap) / columns - gap);
  const height = even((canvas.height - gap) / rows - gap);
  const top = even((canvas.height - rows * (height + gap) + gap) / 2);
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const left = even((canvas.width - inRow * (width + gap) + gap) / 2);
    return { x: left + (index % columns) * (width + gap), y: top + row * (height + gap), width, height };
  });
}

/** The size of a tile beside the focus: a sixth of a wide canvas at its left, of a tall one at its top. */
function sideTile(canvas: Size): Size {
  const gap = gapOf(canvas);
  if (canvas.width >= canvas.height) {
    const width = even((canvas.width - 3 * gap) / 6);
    return { width, height: even(Math.min(width / ASPECT, canvas.height - 2 * gap)) };
  }
  const height = even((canvas.height - 3 * gap) / 6);
  return { width: even(Math.min(height * ASPECT, canvas.width - 2 * gap)), height };
}

/** How many tiles fit beside the focus. */
export function sideCapacity(canvas: Size): number {
  const gap = gapOf(canvas);
  const tile = sideTile(canvas);
  return canvas.width >= canvas.height
    ? Math.max(1, Math.floor((canvas.height - gap) / (tile.height + gap)))
    : Math.max(1, Math.floor((canvas.width - gap) / (tile.width + gap)));
}

/** The focus tile with up to `sideCapacity` others beside it; alone it takes the whole canvas. */
export function focusRects(others: number, canvas: Size): FocusRects {
  if (others <= 0) return { focus: whole(canvas), others: [] };
  const gap = gapOf(canvas);
  const tile = sideTile(canvas);
  const wide = canvas.width >= canvas.height;
  const x = wide ? 2 * gap + tile.width : gap;
  const y = wide ? gap : 2 * gap + tile.height;
  return {
    focus: { x, y, width: even(canvas.width - x - gap), height: even(canvas.height - y - gap) },
    others: Array.from({ length: others }, (_, index) => ({
      x: wide ? gap : gap + index * (tile.width + gap),
      y: wide ? gap + index * (tile.height + gap) : gap,
      ...tile,
    })),
  };
}

export type Fit = "cover" | "contain";

/** The size at which a picture is drawn in its tile, which decides the simulcast layer. */
export function drawnSize(picture: Size, tile: Size, fit: Fit): Size {
  if (picture.width <= 0 || picture.height <= 0) return { width: tile.width, height: tile.height };
  const across = tile.width / picture.width;
  const down = tile.height / picture.height;
  const scale = fit === "cover" ? Math.max(across, down) : Math.min(across, down);
  return { width: Math.ceil(picture.width * scale), height: Math.ceil(picture.height * scale) };
}
