/** One egress on the board. Its elements stay while their content changes, so that focus is not lost. */

import {
  type Entry,
  elapsedMs,
  isActive,
  isPaused,
  mayPause,
  outputsOf,
  phasedError,
  requestOf,
  sizeBytes,
  sourceOf,
  startedMs,
  statusOf,
} from "./egress";
import { make, say } from "./elements";
import { Graphs } from "./graph";
import type { Sample } from "./samples";
import { bytes, duration, moment } from "./wording";

export interface CardActions {
  open(egressId: string): void;
  stop(entry: Entry): void;
  /** Rejects with an error whose message is for people. */
  pause(entry: Entry): Promise<void>;
}

export class Card {
  readonly element = make("li", "card");
  readonly #picture = make("img", "picture");
  readonly #noPicture = make("div", "picture no-picture");
  readonly #title = make("button", "title");
  readonly #status = make("span", "badge");
  readonly #kind = make("span", "quiet");
  readonly #id = make("span", "id quiet");
  readonly #when = make("span", "quiet number");
  readonly #elapsed = make("span", "number");
  readonly #size = make("span", "number");
  readonly #dropped = make("span", "number busy");
  readonly #error = make("p", "error bad");
  readonly #outputs = make("ul", "outputs");
  readonly #graphs = new Graphs();
  readonly #graphRow = make("div", "graphs");
  readonly #stop = make("button", "danger", "Stop");
  readonly #pause = make("button", "", "Pause");
  readonly #paused = make("span", "badge busy");
  readonly #refused = make("p", "error bad");
  #entry: Entry;
  #shownOutputs = "";

  constructor(entry: Entry, actions: CardActions) {
    this.#entry = entry;
    this.#picture.alt = "";
    const heading = make("h3");
    heading.append(this.#title);
    const facts = make("p", "facts");
    facts.append(this.#status, this.#paused, this.#elapsed, this.#size, this.#dropped);
    const about = make("p", "facts");
    about.append(this.#kind, this.#when, this.#id);
    this.#graphRow.append(...this.#graphs.elements);
    const text = make("div", "text");
    const buttons = make("p", "facts");
    buttons.append(this.#pause, this.#stop);
    this.#refused.setAttribute("role", "alert");
    text.append(heading, facts, about, this.#error, this.#outputs, this.#graphRow, buttons, this.#refused);
    this.element.append(this.#picture, this.#noPicture, text);
    this.#title.type = "button";
    this.#stop.type = "button";
    this.#title.addEventListener("click", () => actions.open(this.#entry.info.egress_id));
    // For the mouse; keyboards and screen readers use the title.
    this.#picture.addEventListener("click", () => actions.open(this.#entry.info.egress_id));
    this.#pause.type = "button";
    this.#pause.addEventListener("click", () => void this.#order(actions));
    this.#stop.addEventListener("click", () => actions.stop(this.#entry));
    this.update(entry, []);
  }

  get entry(): Entry {
    return this.#entry;
  }

  update(entry: Entry, samples: readonly Sample[]): void {
    this.#entry = entry;
    const { info } = entry;
    const [status, mood] = statusOf(info);
    const active = isActive(info);
    this.element.dataset.egress = info.egress_id;
    say(this.#title, sourceOf(info) || info.egress_id);
    say(this.#status, status);
    this.#status.className = `badge ${mood}`;
    say(this.#kind, requestOf(info)?.type ?? "");
    say(this.#id, info.egress_id);
    say(this.#when, moment(startedMs(info), Date.now()));
    say(this.#size, bytes(sizeBytes(entry)));
    const dropped = active ? (entry.progress?.dropped_frames ?? 0) : 0;
    say(this.#dropped, dropped > 0 ? `${dropped} dropped` : "");
    this.#showError();
    this.#showOutputs();
    this.#showPicture();
    this.#graphRow.hidden = !active || samples.length === 0;
    if (!this.#graphRow.hidden) this.#graphs.show(samples);
    this.#stop.hidden = !active;
    this.#stop.setAttribute("aria-label", `Stop ${info.egress_id}`);
    const paused = isPaused(info);
    say(this.#paused, paused ? "paused" : "");
    this.#paused.hidden = !paused;
    const order = paused ? "Resume" : "Pause";
    say(this.#pause, order);
    this.#pause.setAttribute("aria-label", `${order} ${info.egress_id}`);
    this.#pause.hidden = !mayPause(info);
    if (this.#pause.hidden) say(this.#refused, "");
    this.tick(Date.now());
  }

  /** Time passes. */
  tick(nowMs: number): void {
    say(this.#elapsed, duration(elapsedMs(this.#entry.info, nowMs)));
  }

  async #order(actions: CardActions): Promise<void> {
    this.#pause.disabled = true;
    say(this.#refused, "");
    try {
      await actions.pause(this.#entry);
    } catch (error) {
      say(this.#refused, error instanceof Error ? error.message : String(error));
    } finally {
      this.#pause.disabled = false;
    }
  }

  #showError(): void {
    const text = this.#entry.info.error ?? "";
    this.#error.hidden = text === "";
    showError(this.#error, text);
  }

  #showOutputs(): void {
    const lines = outputsOf(this.#entry.info);
    const shown = JSON.stringify(lines);
    if (shown === this.#shownOutputs) return;
    this.#shownOutputs = shown;
    this.#outputs.replaceChildren(...lines.map(outputItem));
  }

  #showPicture(): void {
    const { thumbnail } = this.#entry;
    this.#picture.hidden = thumbnail === null;
    this.#noPicture.hidden = thumbnail !== null;
    say(this.#noPicture, isActive(this.#entry.info) ? "no picture yet" : "no picture");
    if (thumbnail !== null && this.#picture.getAttribute("src") !== thumbnail) this.#picture.src = thumbnail;
  }
}

export function outputItem({ kind, name, state, mood }: ReturnType<typeof outputsOf>[number]): HTMLLIElement {
  const item = make("li");
  item.append(make("span", "quiet", kind), ` ${name} `, make("span", mood, state));
  return item;
}

/** An error with its phase in front, if it says one. */
export function showError(element: HTMLElement, text: string): void {
  if (element.dataset.shown === text) return;
  element.dataset.shown = text;
  const { phase, message } = phasedError(text);
  element.replaceChildren(...(phase ? [make("span", "phase", phase)] : []), message);
}
