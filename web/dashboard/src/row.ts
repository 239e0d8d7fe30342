/** One row of the table. Its cells and buttons stay while what they say changes, so focus is not lost. */

import {
  type Entry,
  elapsedMs,
  isActive,
  outputsOf,
  phasedError,
  requestOf,
  sizeBytes,
  sourceOf,
  statusOf,
} from "./egress";
import { make, say } from "./elements";
import { bytes, duration } from "./wording";

export interface RowActions {
  stop(entry: Entry): void;
  showRequest(entry: Entry): void;
}

export class Row {
  readonly element = make("tr");
  readonly #picture = make("img", "picture");
  readonly #id = make("div", "id");
  readonly #type = make("div", "quiet");
  readonly #source = make("td", "source");
  readonly #status = make("div");
  readonly #error = make("div", "error");
  readonly #elapsed = make("td", "number");
  readonly #size = make("td", "number");
  readonly #live = make("td", "number");
  readonly #outputs = make("ul");
  readonly #stop = make("button", "", "Stop");
  readonly #request = make("button", "", "Request");
  #entry: Entry;
  #shownOutputs = "";

  constructor(entry: Entry, actions: RowActions) {
    this.#entry = entry;
    const egress = make("th");
    egress.scope = "row";
    egress.append(this.#id, this.#type);
    const cells = [this.#picture, egress, this.#source, [this.#status, this.#error]];
    for (const content of [...cells, this.#elapsed, this.#size, this.#live]) this.#add(content);
    const outputs = make("td", "outputs");
    outputs.append(this.#outputs);
    this.element.append(outputs);
    this.#add([this.#stop, this.#request]);
    this.#stop.addEventListener("click", () => actions.stop(this.#entry));
    this.#request.addEventListener("click", () => actions.showRequest(this.#entry));
    this.update(entry);
  }

  get entry(): Entry {
    return this.#entry;
  }

  update(entry: Entry): void {
    this.#entry = entry;
    const { info } = entry;
    const [status, mood] = statusOf(info);
    this.element.dataset.egress = info.egress_id;
    say(this.#id, info.egress_id);
    say(this.#type, requestOf(info)?.type ?? "");
    say(this.#source, sourceOf(info));
    say(this.#status, status);
    this.#status.className = mood;
    this.#showError();
    say(this.#size, bytes(sizeBytes(entry)));
    say(this.#live, isActive(info) ? liveText(entry) : "–");
    this.#showOutputs();
    this.#showPicture();
    this.#stop.hidden = !isActive(info);
    this.#stop.setAttribute("aria-label", `Stop ${info.egress_id}`);
    this.#request.hidden = requestOf(info) === null;
    this.#request.setAttribute("aria-label", `Request of ${info.egress_id}`);
    this.tick(Date.now());
  }

  /** Time passes. */
  tick(nowMs: number): void {
    say(this.#elapsed, duration(elapsedMs(this.#entry.info, nowMs)));
  }

  #add(content: HTMLElement | readonly HTMLElement[]): void {
    const nodes = content instanceof HTMLElement ? [content] : content;
    const cell = nodes[0] instanceof HTMLTableCellElement ? nodes[0] : make("td");
    if (cell !== nodes[0]) cell.append(...nodes);
    this.element.append(cell);
  }

  #showError(): void {
    const { error, details } = this.#entry.info;
    const text = error || (isActive(this.#entry.info) ? "" : details || "");
    if (this.#error.title === text) return;
    this.#error.title = text;
    this.#error.className = error ? "error bad" : "error quiet";
    const { phase, message } = phasedError(text);
    this.#error.replaceChildren(...(phase ? [make("span", "phase", phase)] : []), message);
  }

  #showOutputs(): void {
    const lines = outputsOf(this.#entry.info);
    const shown = JSON.stringify(lines);
    if (shown === this.#shownOutputs) return;
    this.#shownOutputs = shown;
    this.#outputs.replaceChildren(
      ...lines.map(({ kind, name, state, mood }) => {
        const item = make("li");
        item.append(`${kind} ${name} `, make("span", mood, state));
        return item;
      }),
    );
  }

  #showPicture(): void {
    const { thumbnail, info } = this.#entry;
    this.#picture.hidden = thumbnail === null;
    this.#picture.alt = `What ${info.egress_id} records`;
    if (thumbnail !== null && this.#picture.getAttribute("src") !== thumbnail) this.#picture.src = thumbnail;
  }
}

function liveText({ progress }: Entry): string {
  if (progress === null) return "–";
  const parts = [`${(progress.fps ?? 0).toFixed(1)} fps`, `${progress.dropped_frames} dropped`];
  if (progress.cpu_cores !== undefined) parts.push(`${progress.cpu_cores.toFixed(2)} cores`);
  if (progress.queue) parts.push(`${progress.queue} queued`);
  return parts.join(", ");
}
