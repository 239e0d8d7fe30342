import { expect, test } from "vitest";
import { LAYOUT_NAMES, layoutInMetadata, parseLayout, takenFor } from "../src/layout";

test.each([
  ["", { arrangement: "grid", theme: "dark" }],
  ["grid", { arrangement: "grid", theme: "dark" }],
  ["grid-light", { arrangement: "grid", theme: "light" }],
  ["speaker-dark", { arrangement: "speaker", theme: "dark" }],
  ["single-speaker", { arrangement: "single-speaker", theme: "dark" }],
  ["single-speaker-light", { arrangement: "single-speaker", theme: "light" }],
  ["single", { arrangement: "grid", theme: "dark" }],
  ["-light", { arrangement: "grid", theme: "light" }],
  ["grid-blue", { arrangement: "grid", theme: "dark" }],
  ["grid-light-dark", { arrangement: "grid", theme: "dark" }],
  ["speaker-of-the-house-light", { arrangement: "speaker", theme: "light" }],
  ["single-speakers", { arrangement: "single-speaker", theme: "dark" }],
  ["Speaker", { arrangement: "grid", theme: "dark" }],
  ["speaker-light\n", { arrangement: "speaker", theme: "dark" }],
])("layout name %j", (name, layout) => {
  expect(parseLayout(name)).toEqual(layout);
});

test("every listed name is known, and what is said of an unknown one has all of them", () => {
  expect(LAYOUT_NAMES).toHaveLength(9);
  expect(takenFor("")).toBe("");
  for (const name of LAYOUT_NAMES) {
    expect(takenFor(name)).toBe("");
    expect(takenFor("x")).toContain(name);
  }
  expect(takenFor("speaker-x-light")).toContain('"speaker-x-light" is unknown and taken for speaker-light;');
});

test.each([
  ['{"layout":"speaker"}', "speaker"],
  ['{"layout":""}', ""],
  ['{"layout":"@pause"}', null],
  ['{"layout":"?text=x"}', null],
  ['{"layout":"speaker?text=x&max_duration=2h"}', "speaker"],
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
