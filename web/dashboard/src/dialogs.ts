/** The two questions the page asks: what was requested, and whether to stop. */

import { curlCommand } from "./curl";
import { type Entry, requestOf, sourceOf } from "./egress";
import { find } from "./elements";

/** Shows the request of an entry as a command to copy. */
export class RequestDialog {
  readonly #dialog = find<HTMLDialogElement>("request");
  readonly #text = find("request-text");
  readonly #copied = find("request-copied");
  readonly #api: string;

  constructor(api: string) {
    this.#api = api;
    find("request-copy").addEventListener("click", () => void this.#copy());
    find("request-close").addEventListener("click", () => this.#dialog.close());
  }

  show(entry: Entry): void {
    const request = requestOf(entry.info);
    if (request === null) return;
    this.#text.textContent = curlCommand(request, this.#api);
    this.#copied.textContent = "";
    this.#dialog.showModal();
  }

  async #copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this.#text.textContent ?? "");
      this.#copied.textContent = "Copied.";
    } catch {
      // Pages that came over plain HTTP have no clipboard.
      window.getSelection()?.selectAllChildren(this.#text);
      this.#copied.textContent = "Selected: copy it with Ctrl+C.";
    }
  }
}

/** Asks before an egress is stopped, and says when that failed. */
export class StopDialog {
  readonly #dialog = find<HTMLDialogElement>("stop");
  readonly #title = find("stop-title");
  readonly #failed = find("stop-failed");
  readonly #confirm = find<HTMLButtonElement>("stop-confirm");
  readonly #stop: (egressId: string) => Promise<void>;
  #egressId = "";

  /** @param stop rejects with an error whose message is shown */
  constructor(stop: (egressId: string) => Promise<void>) {
    this.#stop = stop;
    this.#confirm.addEventListener("click", () => void this.#send());
    find("stop-cancel").addEventListener("click", () => this.#dialog.close());
  }

  ask(entry: Entry): void {
    this.#egressId = entry.info.egress_id;
    this.#title.textContent = `Stop ${this.#egressId} (${sourceOf(entry.info)})?`;
    this.#failed.textContent = "";
    this.#dialog.showModal();
  }

  async #send(): Promise<void> {
    this.#confirm.disabled = true;
    this.#failed.textContent = "";
    try {
      await this.#stop(this.#egressId);
      this.#dialog.close();
    } catch (error) {
      this.#failed.textContent = error instanceof Error ? error.message : String(error);
    } finally {
      this.#confirm.disabled = false;
    }
  }
}
