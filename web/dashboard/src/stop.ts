/** Asks before an egress is stopped, and says when that failed. */

import type { Api } from "./api";
import { type Entry, sourceOf } from "./egress";
import { find } from "./elements";

export class StopDialog {
  readonly #dialog = find<HTMLDialogElement>("stop");
  readonly #title = find("stop-title");
  readonly #failed = find("stop-failed");
  readonly #confirm = find<HTMLButtonElement>("stop-confirm");
  readonly #api: Api;
  #egressId = "";

  constructor(api: Api) {
    this.#api = api;
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
      await this.#api.call("StopEgress", { egress_id: this.#egressId });
      this.#dialog.close();
    } catch (error) {
      this.#failed.textContent = `not stopped (${error instanceof Error ? error.message : String(error)})`;
    } finally {
      this.#confirm.disabled = false;
    }
  }
}
