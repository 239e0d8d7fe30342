/** The live table: entries by their ids, the newest first. */

import { compareNewest, type Entry, isActive } from "./egress";
import { Row, type RowActions } from "./row";

export class Table {
  readonly #body: HTMLTableSectionElement;
  readonly #nothing: HTMLElement;
  readonly #actions: RowActions;
  readonly #rows = new Map<string, Row>();
  #onlyActive = false;

  /** @param nothing shown while there are no rows */
  constructor(body: HTMLTableSectionElement, nothing: HTMLElement, actions: RowActions) {
    this.#body = body;
    this.#nothing = nothing;
    this.#actions = actions;
  }

  set onlyActive(value: boolean) {
    this.#onlyActive = value;
    for (const row of this.#rows.values()) this.#filter(row);
    this.#count();
  }

  /** These and no others. */
  replace(entries: readonly Entry[]): void {
    const ids = new Set(entries.map((entry) => entry.info.egress_id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    entries.forEach((entry) => {
      this.update(entry);
    });
    this.#count();
  }

  update(entry: Entry): void {
    const id = entry.info.egress_id;
    const known = this.#rows.get(id);
    if (known) known.update(entry);
    const row = known ?? new Row(entry, this.#actions);
    if (!known) {
      const after = [...this.#rows.values()]
        .sort((a, b) => compareNewest(a.entry, b.entry))
        .find((other) => compareNewest(entry, other.entry) < 0);
      this.#body.insertBefore(row.element, after?.element ?? null);
      this.#rows.set(id, row);
    }
    this.#filter(row);
    this.#count();
  }

  clear(): void {
    this.replace([]);
  }

  tick(nowMs: number): void {
    for (const row of this.#rows.values()) row.tick(nowMs);
  }

  #filter(row: Row): void {
    row.element.hidden = this.#onlyActive && !isActive(row.entry.info);
  }

  #count(): void {
    this.#nothing.hidden = [...this.#rows.values()].some((row) => !row.element.hidden);
  }
}
