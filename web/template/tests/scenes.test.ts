/** The same table of scenes that the layout without a browser is checked against. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { Arrangement } from "../src/layout";
import { EMPTY_STAGING, stage } from "../src/staging";
import { type ParticipantView, tilesOf } from "../src/tiles";

interface Person {
  readonly identity: string;
  readonly kind?: string;
  readonly publishes: readonly string[];
}

interface Step {
  readonly arrangement: Arrangement;
  readonly people: readonly Person[];
  readonly speaker: string | null;
  readonly recent: readonly string[];
  readonly tiles: readonly (readonly [string, string, readonly number[]])[];
}

interface SceneTable {
  readonly name: string;
  readonly canvas: readonly [number, number];
  readonly steps: readonly Step[];
}

const table = new URL("../../../tests/unit/data/scenes.json", import.meta.url);
const scenes: readonly SceneTable[] = JSON.parse(readFileSync(table, "utf8"));

function viewOf(person: Person, index: number): ParticipantView {
  const { identity, publishes } = person;
  return {
    identity,
    name: identity,
    agent: person.kind === "agent",
    joinedAtMs: 1000 + index,
    videos: publishes
      .filter((one) => !one.startsWith("microphone"))
      .map((one, order) => ({
        sid: `TR_${identity}_${order}`,
        screen: one.startsWith("screen"),
        muted: one.endsWith("-muted"),
        size: { width: 1280, height: 720 },
      })),
    hasAudio: publishes.some((one) => one.startsWith("microphone")),
  };
}

test.each(scenes.map((scene) => [scene.name, scene] as const))("%s", (_, { canvas, steps }) => {
  let previous = EMPTY_STAGING;
  for (const { arrangement, people, speaker, recent, tiles: expected } of steps) {
    // Recorders are left out before (roster.ts).
    const views = people.flatMap((one, index) => (one.kind === "egress" ? [] : viewOf(one, index)));
    const tiles = tilesOf(views);
    const [width, height] = canvas;
    previous = stage({ arrangement, tiles, speaker, recent, canvas: { width, height }, previous });
    const placed = tiles.flatMap(({ key, identity, screen }) => {
      const rect = previous.rects.get(key);
      const slot = screen ? "screen" : "camera";
      return rect ? [[identity, slot, [rect.x, rect.y, rect.width, rect.height]]] : [];
    });
    expect(placed).toEqual(expected);
  }
});
