/** Which egresses are shown. */

import { type Entry, isActive, outputsOf, requestOf, sourceOf, statusOf } from "./egress";

export interface Filter {
  /** Words that must all occur in an egress. */
  readonly text: string;
  /** A word of statusOf(), or "running". */
  readonly status: string;
  readonly kind: string;
  readonly room: string;
}

export const EVERYTHING: Filter = { text: "", status: "", kind: "", room: "" };

export function matches(entry: Entry, filter: Filter): boolean {
  const { info } = entry;
  const [status] = statusOf(info);
  const inStatus =
    filter.status === "" || filter.status === status || (filter.status === "running" && isActive(info));
  if (!inStatus) return false;
  if (filter.kind !== "" && requestOf(info)?.type !== filter.kind) return false;
  if (filter.room !== "" && info.room_name !== filter.room) return false;
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const outputs = outputsOf(info).flatMap(({ name, state }) => [name, state]);
  const text = [info.egress_id, sourceOf(info), info.error ?? "", status, ...outputs]
    .join("\n")
    .toLowerCase();
  return words.every((word) => text.includes(word));
}

/** Names of rooms, sorted. */
export function roomsOf(entries: Iterable<Entry>): readonly string[] {
  const names = new Set<string>();
  for (const { info } of entries) if (info.room_name) names.add(info.room_name);
  return [...names].sort((a, b) => a.localeCompare(b));
}
