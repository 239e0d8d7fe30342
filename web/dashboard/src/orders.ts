/** What can be asked of an egress that records: to name a moment, to store what was recorded last, and to go by other
 * limits. */

import type { Api } from "./api";
import { type EgressInfo, isRecording } from "./egress";
import { find, say } from "./elements";

export class OrderForms {
  readonly #section = find("details-orders");
  readonly #marker = find<HTMLFormElement>("details-marker");
  readonly #clip = find<HTMLFormElement>("details-clip");
  readonly #limits = find<HTMLFormElement>("details-limits");
  readonly #done = find("details-ordered");
  readonly #failed = find("details-refused");
  readonly #api: Api;
  #egressId = "";

  constructor(api: Api) {
    this.#api = api;
    this.#marker.addEventListener("submit", (event) => {
      event.preventDefault();
      const { name = "", ago = "" } = filledIn(this.#marker);
      void this.#send(this.#marker, "AddMarker", { name, ago }, `Marked: ${name}`);
    });
    this.#clip.addEventListener("submit", (event) => {
      event.preventDefault();
      const { last = "" } = filledIn(this.#clip);
      void this.#send(this.#clip, "Clip", { last }, `Stored: the last ${last}`);
    });
    this.#limits.addEventListener("submit", (event) => {
      event.preventDefault();
      const options = filledIn(this.#limits);
      const told = Object.entries(options).map(([key, value]) => `${key}=${value}`);
      void this.#send(this.#limits, "SetOptions", { options }, `Changed: ${told.join(", ")}`);
    });
  }

  update(info: EgressInfo): void {
    this.#egressId = info.egress_id;
    this.#section.hidden = !isRecording(info);
  }

  clear(): void {
    this.#egressId = "";
    for (const form of [this.#marker, this.#clip, this.#limits]) form.reset();
    say(this.#done, "");
    say(this.#failed, "");
  }

  async #send(
    form: HTMLFormElement,
    method: "AddMarker" | "SetOptions" | "Clip",
    body: Readonly<Record<string, unknown>>,
    done: string,
  ): Promise<void> {
    const egressId = this.#egressId;
    const submit = form.querySelector<HTMLButtonElement>("[type=submit]");
    if (submit === null || submit.disabled) return;
    // Only the button, not the field: the user may want to name another moment.
    submit.disabled = true;
    say(this.#done, "");
    say(this.#failed, "");
    let failed = "";
    try {
      await this.#api.control(method, egressId, body);
    } catch (error) {
      failed = error instanceof Error ? error.message : String(error);
    } finally {
      submit.disabled = false;
    }
    if (egressId !== this.#egressId) return;
    if (failed === "") form.reset();
    say(this.#done, failed === "" ? done : "");
    say(this.#failed, failed);
  }
}

/** What is filled in, by the names of the fields. */
function filledIn(form: HTMLFormElement): Readonly<Record<string, string>> {
  const values = [...new FormData(form)].map(([name, value]) => [name, String(value).trim()] as const);
  return Object.fromEntries(values.filter(([, value]) => value !== ""));
}
