/** All egresses: running ones with large pictures, ended ones as a history, the newest first. */

import { Card, type CardActions } from "./card";
import { compareNewest, type Entry, isActive, type Progress } from "./egress";
import { EVERYTHING, type Filter, matches, roomsOf } from "./filter";
import { type Sample, Samples } from "./samples";

export interface Places {
  readonly running: HTMLElement;
  readonly history: HTMLElement;
  readonly nothingRunning: HTMLElement;
  readonly nothingEnded: HTMLElement;
}

export class Board {
  readonly #places: Places;
  readonly #actions: CardActions;
  readonly #cards = new Map<string, Card>();
  readonly #samples = new Map<string, Samples>();
  #filter = EVERYTHING;

  constructor(places: Places, actions: CardActions) {
    this.#places = places;
    this.#actions = actions;
  }

  set filter(value: Filter) {
    this.#filter = value;
    for (const card of this.#cards.values()) this.#show(card);
    this.#count();
  }

  get rooms(): readonly string[] {
    return roomsOf([...this.#cards.values()].map((card) => card.entry));
  }

  /** How many are shown, and how many exist. */
  get counts(): readonly [number, number] {
    const cards = [...this.#cards.values()];
    return [cards.filter((card) => !card.element.hidden).length, cards.length];
  }

  entry(egressId: string): Entry | null {
    return this.#cards.get(egressId)?.entry ?? null;
  }

  samples(egressId: string): readonly Sample[] {
    return this.#samples.get(egressId)?.all ?? [];
  }

  /** Shows exactly these. */
  replace(entries: readonly Entry[], progress: Readonly<Record<string, readonly Progress[]>> = {}): void {
    const ids = new Set(entries.map((entry) => entry.info.egress_id));
    for (const [id, card] of this.#cards) {
      if (ids.has(id)) continue;
      card.element.remove();
      this.#cards.delete(id);
      this.#samples.delete(id);
    }
    for (const [id, past] of Object.entries(progress)) for (const one of past) this.#sample(id, one);
    for (const entry of entries) this.update(entry);
    this.#count();
  }

  update(entry: Entry): void {
    const id = entry.info.egress_id;
    if (entry.progress) this.#sample(id, entry.progress);
    if (!isActive(entry.info)) this.#samples.delete(id);
    const known = this.#cards.get(id);
    const card = known ?? new Card(entry, this.#actions);
    this.#cards.set(id, card);
    card.update(entry, this.samples(id));
    this.#place(card);
    this.#show(card);
    this.#count();
  }

  clear(): void {
    this.replace([]);
  }

  tick(nowMs: number): void {
    for (const card of this.#cards.values()) card.tick(nowMs);
  }

  #sample(id: string, progress: Progress): void {
    let samples = this.#samples.get(id);
    if (!samples) {
      samples = new Samples();
      this.#samples.set(id, samples);
    }
    samples.add(progress);
  }

  #place(card: Card): void {
    const list = isActive(card.entry.info) ? this.#places.running : this.#places.history;
    if (card.element.parentElement === list) return;
    const after = [...this.#cards.values()]
      .filter((other) => other !== card && other.element.parentElement === list)
      .sort((a, b) => compareNewest(a.entry, b.entry))
      .find((other) => compareNewest(card.entry, other.entry) < 0);
    list.insertBefore(card.element, after?.element ?? null);
  }

  #show(card: Card): void {
    card.element.hidden = !matches(card.entry, this.#filter);
  }

  #count(): void {
    const { running, history, nothingRunning, nothingEnded } = this.#places;
    const isEmpty = (list: HTMLElement) =>
      ![...list.children].some((child) => !(child as HTMLElement).hidden);
    nothingRunning.hidden = !isEmpty(running);
    nothingEnded.hidden = !isEmpty(history);
  }
}
