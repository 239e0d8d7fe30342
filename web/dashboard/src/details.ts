/** All about one egress: its recording to play and save, outputs, timeline, numbers, request; and what can be
 * asked of it. */

import type { Api, RecordedFile } from "./api";
import { outputItem, showError } from "./card";
import { curlCommand } from "./curl";
import {
  type Entry,
  elapsedMs,
  isActive,
  outputsOf,
  requestOf,
  sizeBytes,
  sourceOf,
  statusOf,
} from "./egress";
import { find, make, say } from "./elements";
import { Graphs } from "./graph";
import { OrderForms } from "./orders";
import type { Sample } from "./samples";
import { bytes, clock, duration } from "./wording";

export class DetailsDialog {
  readonly #dialog = find<HTMLDialogElement>("details");
  readonly #title = find("details-title");
  readonly #status = find("details-status");
  readonly #error = find("details-error");
  readonly #player = find("details-player");
  readonly #picture = find<HTMLImageElement>("details-picture");
  readonly #graphRow = find("details-graphs");
  readonly #outputs = find("details-outputs");
  readonly #files = find("details-files");
  readonly #timeline = find("details-timeline");
  readonly #request = find("details-request");
  readonly #copied = find("details-copied");
  readonly #stop = find<HTMLButtonElement>("details-stop");
  readonly #graphs = new Graphs();
  readonly #orders: OrderForms;
  readonly #api: Api;
  #entry: Entry | null = null;
  #askedFor = "";
  readonly #shown = new Map<HTMLElement, string>();

  constructor(api: Api, stop: (entry: Entry) => void) {
    this.#api = api;
    this.#orders = new OrderForms(api);
    this.#graphRow.append(...this.#graphs.elements);
    find("details-close").addEventListener("click", () => this.#dialog.close());
    find("details-copy").addEventListener("click", () => void this.#copy());
    this.#stop.addEventListener("click", () => {
      if (this.#entry) stop(this.#entry);
    });
    this.#dialog.addEventListener("close", () => this.#clear());
  }

  open(entry: Entry, samples: readonly Sample[]): void {
    this.#clear();
    this.#entry = entry;
    this.update(entry, samples);
    this.#dialog.showModal();
  }

  close(): void {
    this.#dialog.close();
  }

  /** The egress has changed; shown only if its details are open. */
  update(entry: Entry, samples: readonly Sample[]): void {
    if (entry.info.egress_id !== this.#entry?.info.egress_id) return;
    this.#entry = entry;
    const { info } = entry;
    const active = isActive(info);
    say(this.#title, sourceOf(info) || info.egress_id);
    this.tick(Date.now());
    showError(this.#error, info.error || (active ? "" : (info.details ?? "")));
    this.#error.className = info.error ? "error bad" : "error quiet";
    this.#picture.hidden = entry.thumbnail === null || this.#player.childElementCount > 0;
    if (entry.thumbnail !== null && this.#picture.src !== entry.thumbnail)
      this.#picture.src = entry.thumbnail;
    this.#picture.alt = active ? "What is being recorded" : "A picture of the recording";
    this.#graphRow.hidden = !active || samples.length === 0;
    if (!this.#graphRow.hidden) this.#graphs.show(samples);
    this.#list(this.#outputs, outputsOf(info), outputItem);
    this.#list(this.#timeline, entry.moments ?? [], ({ at_ms, text, mood }) => {
      const item = make("li", mood);
      const time = make("time", "number quiet", clock(at_ms));
      time.dateTime = new Date(at_ms).toISOString();
      item.append(time, make("span", "", text));
      return item;
    });
    const request = requestOf(info);
    say(this.#request, request ? curlCommand(request, this.#api.base) : "The record holds no request.");
    this.#stop.hidden = !active;
    this.#orders.update(info);
    if (!active && this.#askedFor !== info.egress_id) void this.#loadFiles(info.egress_id);
  }

  tick(nowMs: number): void {
    if (!this.#entry) return;
    const { info } = this.#entry;
    const parts = [
      statusOf(info)[0],
      requestOf(info)?.type ?? "",
      duration(elapsedMs(info, nowMs)),
      bytes(sizeBytes(this.#entry)),
      info.egress_id,
    ];
    say(this.#status, parts.filter(Boolean).join(" · "));
  }

  #list<T>(element: HTMLElement, items: readonly T[], itemOf: (item: T) => HTMLElement): void {
    const shown = JSON.stringify(items);
    if (this.#shown.get(element) === shown) return;
    this.#shown.set(element, shown);
    element.replaceChildren(...items.map(itemOf));
  }

  async #loadFiles(egressId: string): Promise<void> {
    this.#askedFor = egressId;
    const files = await this.#api.files(egressId).catch((): readonly RecordedFile[] => []);
    if (egressId !== this.#entry?.info.egress_id) return;
    this.#files.replaceChildren(...files.map((file) => this.#fileItem(file)));
    const first = files.find((file) => isPlayable(file));
    if (first) this.#play(first, false);
  }

  #fileItem(file: RecordedFile): HTMLElement {
    const item = make("li");
    const save = make("a", "button", "Download");
    save.href = `${file.url}&download`;
    save.download = file.name;
    save.setAttribute("aria-label", `Download ${file.name}`);
    item.append(save);
    if (isPlayable(file)) {
      const play = make("button", "", "Play");
      play.type = "button";
      play.setAttribute("aria-label", `Play ${file.name}`);
      play.addEventListener("click", () => this.#play(file, true));
      item.append(play);
    }
    item.append(make("span", "", file.name), make("span", "quiet number", bytes(file.size_bytes)));
    return item;
  }

  #play(file: RecordedFile, now: boolean): void {
    const player = document.createElement(file.content_type.startsWith("audio/") ? "audio" : "video");
    player.controls = true;
    player.preload = "metadata";
    player.src = file.url;
    player.setAttribute("aria-label", file.name);
    this.#player.replaceChildren(player);
    this.#picture.hidden = true;
    if (now) void player.play();
  }

  async #copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this.#request.textContent ?? "");
      say(this.#copied, "Copied.");
    } catch {
      // Pages loaded over plain HTTP have no clipboard.
      window.getSelection()?.selectAllChildren(this.#request);
      say(this.#copied, "Selected: copy it with Ctrl+C.");
    }
  }

  #clear(): void {
    this.#entry = null;
    this.#askedFor = "";
    this.#shown.clear();
    this.#player.replaceChildren();
    this.#files.replaceChildren();
    this.#picture.removeAttribute("src");
    say(this.#copied, "");
    this.#orders.clear();
  }
}

function isPlayable({ content_type }: RecordedFile): boolean {
  return /^(audio|video)\/(?!x-)/.test(content_type);
}
