/** The form that starts an egress. */

import type { Api } from "./api";
import { find } from "./elements";
import { type FormText, startRequest } from "./start-request";

export class StartDialog {
  readonly #dialog = find<HTMLDialogElement>("start");
  readonly #form = find<HTMLFormElement>("start-form");
  readonly #failed = find("start-failed");
  readonly #api: Api;
  readonly #onStarted: (egressId: string) => void;

  constructor(api: Api, onStarted: (egressId: string) => void) {
    this.#api = api;
    this.#onStarted = onStarted;
    this.#form.addEventListener("change", () => this.#arrange());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#send();
    });
    find("start-cancel").addEventListener("click", () => this.#dialog.close());
  }

  open(): void {
    this.#failed.textContent = "";
    this.#arrange();
    this.#dialog.showModal();
  }

  #values(): FormText {
    return Object.fromEntries([...new FormData(this.#form)].map(([name, value]) => [name, String(value)]));
  }

  /** Shows the fields for this kind and these outputs. */
  #arrange(): void {
    const values = this.#values();
    for (const label of this.#form.querySelectorAll<HTMLElement>("[data-kinds], [data-output]")) {
      const { kinds, output } = label.dataset;
      const ofKind = kinds === undefined || kinds.split(" ").includes(values.kind ?? "");
      label.hidden = !ofKind || (output !== undefined && !values[output]);
    }
  }

  async #send(): Promise<void> {
    const submit = this.#form.querySelector<HTMLButtonElement>("[type=submit]");
    this.#failed.textContent = "";
    if (submit) submit.disabled = true;
    try {
      const { method, body } = startRequest(this.#values());
      const info = (await this.#api.call(method, body)) as { egress_id: string };
      // Stream URLs contain keys, which must not stay in the page for the next person.
      this.#form.reset();
      this.#dialog.close();
      this.#onStarted(info.egress_id);
    } catch (error) {
      this.#failed.textContent = error instanceof Error ? error.message : String(error);
    } finally {
      if (submit) submit.disabled = false;
    }
  }
}
