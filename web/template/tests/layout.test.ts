import { expect, test } from "vitest";
import { LAYOUT_NAMES, layoutInMetadata, parseLayout, unknownLayout } from "../src/layout";

test.each([
  ["", { arrangement: "grid", theme: "dark" }],
  ["grid", { arrangement: "grid", theme: "dark" }],
  ["grid-light", { arrangement: "grid", theme: "light" }],
  ["speaker-dark", { arrangement: "speaker", theme: "dark" }],
  ["single-speaker", { arrangement: "single-speaker", theme: "dark" }],
  ["single-speaker-light", { arrangement: "single-speaker", theme: "light" }],
  ["single", null],
  ["-light", null],
  ["grid-blue", null],
  ["grid-light-dark", null],
  ["Grid", null],
  ["grid\n", null],
])("layout name %j", (name, layout) => {
  expect(parseLayout(name)).toEqual(layout);
});

test("every listed name is known, and an unknown one is answered with all of them", () => {
  expect(LAYOUT_NAMES).toHaveLength(9);
  for (const name of LAYOUT_NAMES) {
    expect(parseLayout(name)).not.toBeNull();
    expect(unknownLayout("x")).toContain(name);
  }
});

test.each([
  ['{"layout":"speaker"}', "speaker"],
  ['{"layout":""}', ""],
  ['{"layout":7}', null],
  ['{"other":1}', null],
  ['"layout"', null],
  ["null", null],
  ["not json", null],
  ["", null],
  [undefined, null],
])("layout in metadata %j", (metadata, layout) => {
  expect(layoutInMetadata(metadata)).toBe(layout);
});
