import { describe, expect, test } from "vitest";
import {
  drawnSize,
  focusRects,
  GRID_CAPACITY,
  gapOf,
  gridRects,
  type Rect,
  type Size,
  sideCapacity,
} from "../src/rectangles";

const HD: Size = { width: 1280, height: 720 };
const CANVASES: readonly Size[] = [
  HD,
  { width: 1920, height: 1080 },
  { width: 640, height: 360 },
  { width: 720, height: 1280 },
  { width: 1080, height: 1080 },
  { width: 1366, height: 768 },
  { width: 320, height: 240 },
];

function sound(rects: readonly Rect[], canvas: Size): void {
  for (const [index, one] of rects.entries()) {
    expect([one.x % 2, one.y % 2, one.width % 2, one.height % 2]).toEqual([0, 0, 0, 0]);
    expect(one.x).toBeGreaterThanOrEqual(0);
    expect(one.y).toBeGreaterThanOrEqual(0);
    expect(one.x + one.width).toBeLessThanOrEqual(canvas.width);
    expect(one.y + one.height).toBeLessThanOrEqual(canvas.height);
    for (const other of rects.slice(index + 1)) {
      const apart =
        one.x + one.width + gapOf(canvas) <= other.x ||
        other.x + other.width + gapOf(canvas) <= one.x ||
        one.y + one.height + gapOf(canvas) <= other.y ||
        other.y + other.height + gapOf(canvas) <= one.y;
      expect(apart).toBe(true);
    }
  }
}

describe("grid", () => {
  test("two at 1280x720", () => {
    expect(gridRects(2, HD)).toEqual([
      { x: 8, y: 8, width: 628, height: 704 },
      { x: 644, y: 8, width: 628, height: 704 },
    ]);
  });

  test("three: the last row is centred", () => {
    expect(gridRects(3, HD)).toEqual([
      { x: 8, y: 8, width: 628, height: 348 },
      { x: 644, y: 8, width: 628, height: 348 },
      { x: 326, y: 364, width: 628, height: 348 },
    ]);
  });

  test.each([
    [0, 0, 0],
    [1, 1, 1],
    [2, 2, 1],
    [4, 2, 2],
    [5, 3, 2],
    [6, 3, 2],
    [7, 3, 3],
    [9, 3, 3],
    [10, 4, 3],
    [12, 4, 3],
    [16, 4, 4],
    [25, 5, 5],
  ])("%i tiles at 1280x720 in %i columns and %i rows", (count, columns, rows) => {
    const rects = gridRects(count, HD);
    expect(rects).toHaveLength(count);
    expect(new Set(rects.map((rect) => rect.y)).size).toBe(rows);
    expect(rects.filter((rect) => rect.y === rects[0]?.y)).toHaveLength(columns);
  });

  test("upright canvases stack", () => {
    expect(gridRects(2, { width: 720, height: 1280 }).map((rect) => [rect.x, rect.y])).toEqual([
      [8, 8],
      [8, 644],
    ]);
  });

  test.each(CANVASES)("even, inside and apart at $width x $height", (canvas) => {
    for (let count = 1; count <= GRID_CAPACITY; count++) sound(gridRects(count, canvas), canvas);
  });
});

describe("focus", () => {
  test("alone it has the whole canvas", () => {
    expect(focusRects(0, HD)).toEqual({ focus: { x: 0, y: 0, ...HD }, others: [] });
  });

  test("others at the left of a wide canvas", () => {
    expect(focusRects(2, HD)).toEqual({
      focus: { x: 224, y: 8, width: 1048, height: 704 },
      others: [
        { x: 8, y: 8, width: 208, height: 116 },
        { x: 8, y: 132, width: 208, height: 116 },
      ],
    });
  });

  test("others at the top of an upright canvas", () => {
    const { focus, others } = focusRects(1, { width: 720, height: 1280 });
    expect(others).toEqual([{ x: 8, y: 8, width: 368, height: 208 }]);
    expect(focus).toEqual({ x: 8, y: 224, width: 704, height: 1048 });
  });

  test.each(CANVASES)("even, inside and apart at $width x $height", (canvas) => {
    for (let count = 1; count <= sideCapacity(canvas); count++) {
      const { focus, others } = focusRects(count, canvas);
      expect(others).toHaveLength(count);
      sound([focus, ...others], canvas);
    }
  });
});

test.each([
  [{ width: 1280, height: 720 }, { width: 628, height: 704 }, "cover", { width: 1252, height: 704 }],
  [{ width: 1280, height: 720 }, { width: 628, height: 704 }, "contain", { width: 628, height: 354 }],
  [{ width: 720, height: 1280 }, { width: 1280, height: 720 }, "contain", { width: 405, height: 720 }],
  [{ width: 0, height: 0 }, { width: 208, height: 116 }, "cover", { width: 208, height: 116 }],
] as const)("picture %o in tile %o, %s, is drawn %o", (picture, tile, fit, size) => {
  expect(drawnSize(picture, tile, fit)).toEqual(size);
});
