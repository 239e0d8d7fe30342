import { expect, test } from "vitest";
import type { EgressInfo, Entry } from "../src/egress";
import { EVERYTHING, type Filter, matches, roomsOf } from "../src/filter";

function entry(more: Partial<EgressInfo> = {}): Entry {
  const info: EgressInfo = {
    egress_id: "EG_abc",
    status: "EGRESS_ACTIVE",
    room_name: "Kitchen",
    room_composite: { room_name: "Kitchen", layout: "grid" },
    file_results: [{ filename: "talks/Monday.mp4" }],
    ...more,
  };
  return { info, progress: null, thumbnail: null };
}

test.each<[Partial<Filter>, Partial<EgressInfo>, boolean]>([
  [{}, {}, true],
  [{ text: "eg_ABC" }, {}, true],
  [{ text: "kitchen monday" }, {}, true],
  [{ text: "kitchen tuesday" }, {}, false],
  [{ text: " " }, {}, true],
  [{ text: "bucket" }, { error: "bucket gone" }, true],
  [{ status: "running" }, {}, true],
  [{ status: "running" }, { status: "EGRESS_ENDING" }, true],
  [{ status: "running" }, { status: "EGRESS_COMPLETE" }, false],
  [{ status: "failed" }, { status: "EGRESS_FAILED" }, true],
  [{ status: "failed" }, {}, false],
  [{ kind: "room composite" }, {}, true],
  [{ kind: "web" }, {}, false],
  [{ room: "Kitchen" }, {}, true],
  [{ room: "Kit" }, {}, false],
  [{ room: "Kitchen", kind: "room composite", status: "running", text: "mp4" }, {}, true],
])("%j of %j", (filter, more, shown) => {
  expect(matches(entry(more), { ...EVERYTHING, ...filter })).toBe(shown);
});

test("rooms are offered once each, sorted, without those that have none", () => {
  const entries = ["b", "a", "b", ""].map((room_name) => entry({ room_name }));
  expect(roomsOf(entries)).toEqual(["a", "b"]);
});
