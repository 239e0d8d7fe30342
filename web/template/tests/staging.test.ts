import { describe, expect, test } from "vitest";
import { focusRects, GRID_CAPACITY, gridRects, sideCapacity } from "../src/rectangles";
import { choose, EMPTY_STAGING, keepPlaces, type Scene, type Staging, stage } from "../src/staging";
import type { Tile } from "../src/tiles";

const canvas = { width: 1280, height: 720 };

function tile(identity: string, more: Partial<Tile> = {}): Tile {
  const size = { width: 1280, height: 720 };
  const key = more.screen ? `${identity}*` : identity;
  return { key, identity, name: identity, screen: false, videoSid: "TR", muted: false, size, ...more };
}

function scene(more: Partial<Scene>): Scene {
  const tiles = ["a", "b", "c"].map((identity) => tile(identity));
  return { arrangement: "grid", tiles, speaker: null, recent: [], canvas, previous: EMPTY_STAGING, ...more };
}

const many = (count: number) => Array.from({ length: count }, (_, index) => tile(`p${index}`));
const shared = [tile("a"), tile("b"), tile("b", { screen: true })];

describe("stage", () => {
  test("an empty room has an empty stage", () => {
    for (const arrangement of ["grid", "speaker", "single-speaker"] as const) {
      expect(stage(scene({ arrangement, tiles: [] })).rects.size).toBe(0);
    }
  });

  test("the grid's order is that of the tiles, whoever speaks", () => {
    expect([...stage(scene({ speaker: "c" })).rects.entries()]).toEqual(
      gridRects(3, canvas).map((rect, index) => ["abc"[index], rect]),
    );
  });

  test("speaker: the speaker in focus, the others beside in their order", () => {
    const rects = focusRects(2, canvas);
    expect(stage(scene({ arrangement: "speaker", speaker: "b" })).rects).toEqual(
      new Map([
        ["b", rects.focus],
        ["a", rects.others[0]],
        ["c", rects.others[1]],
      ]),
    );
  });

  test("single-speaker: the speaker and nobody else", () => {
    expect([...stage(scene({ arrangement: "single-speaker", speaker: "c" })).rects]).toEqual([
      ["c", { x: 0, y: 0, ...canvas }],
    ]);
  });

  test.each(["grid", "speaker"] as const)(
    "%s: a shared screen has the focus, its sharer's camera beside",
    (arrangement) => {
      const placed = stage(scene({ arrangement, tiles: shared, speaker: "a" })).rects;
      expect([...placed.keys()]).toEqual(["b*", "a", "b"]);
      expect(placed.get("b*")).toEqual(focusRects(2, canvas).focus);
    },
  );

  test("single-speaker shows a shared screen", () => {
    const placed = stage(scene({ arrangement: "single-speaker", tiles: shared, speaker: "a" })).rects;
    expect([...placed.keys()]).toEqual(["b*"]);
  });

  test("a shared screen that is muted has no claim", () => {
    const tiles = [tile("a"), tile("a", { screen: true, muted: true })];
    expect(stage(scene({ tiles })).rects).toEqual(
      new Map(gridRects(2, canvas).map((rect, index) => [["a", "a*"][index], rect])),
    );
  });

  test("no more tiles than can be recognised", () => {
    expect(stage(scene({ tiles: many(60) })).rects.size).toBe(GRID_CAPACITY);
    expect(stage(scene({ arrangement: "speaker", tiles: many(60) })).rects.size).toBe(
      1 + sideCapacity(canvas),
    );
  });
});

test("a change of speaker swaps two places", () => {
  const tiles = many(4);
  const order = ({ focus, others }: Staging) => `${focus} ${others.join(" ")}`;
  const first = stage(scene({ arrangement: "speaker", tiles, speaker: "p0" }));
  expect(order(first)).toBe("p0 p1 p2 p3");
  const second = stage(scene({ arrangement: "speaker", tiles, speaker: "p2", previous: first }));
  expect(order(second)).toBe("p2 p1 p0 p3");
  const grid = stage(scene({ tiles, speaker: "p2", previous: second }));
  expect(order(grid)).toBe("null p0 p1 p2 p3");
  expect(order(stage(scene({ arrangement: "speaker", tiles, speaker: "p2", previous: grid })))).toBe(
    "p2 p0 p1 p3",
  );
});

test.each([
  ["all fit", 5, ["p4"], "01234"],
  ["the first ones", 3, [], "012"],
  ["a late one speaks", 3, ["p4"], "014"],
  ["another one", 3, ["p4", "p3"], "034"],
])("chosen: %s", (_, capacity, recent, shown) => {
  const keys = choose(many(5), capacity, recent).map((one) => one.key);
  expect(keys).toEqual([...shown].map((digit) => `p${digit}`));
});

test.each([
  [[], "p0 p1 p2"],
  [["p2", "p0"], "p2 p0 p1"],
  [["p2", "gone", "p0"], "p2 p1 p0"],
  [["gone", "away", "p2", "p1", "p0"], "p2 p1 p0"],
])("places kept after %j", (previous, order) => {
  expect(
    keepPlaces(many(3), previous)
      .map((one) => one.key)
      .join(" "),
  ).toBe(order);
});
