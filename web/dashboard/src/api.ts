/** Calls of the server that the page came from. */

export interface RecordedFile {
  readonly name: string;
  readonly size_bytes: number;
  readonly content_type: string;
  /** The whole URL, with a ticket for this file. */
  readonly url: string;
}

export class Api {
  /** URL of the Egress API, without a slash at its end. */
  readonly base: string;
  token = "";

  constructor(base: string) {
    this.base = base;
  }

  /** Rejects with an error whose message is for people. */
  async call(method: string, body: unknown): Promise<unknown> {
    return this.#post(`livekit.Egress/${method}`, body);
  }

  /** What LiveKit's API has no methods for; `more` is what its request has beside the id. Rejects as call()
   * does. */
  async control(
    method: "PauseEgress" | "ResumeEgress" | "AddMarker" | "SetOptions" | "Clip",
    egressId: string,
    more: Readonly<Record<string, unknown>> = {},
  ): Promise<unknown> {
    return this.#post(`openegress.Control/${method}`, { egress_id: egressId, ...more });
  }

  async #post(path: string, body: unknown): Promise<unknown> {
    const response = await fetch(`${this.base}/twirp/${path}`, {
      method: "POST",
      headers: { ...this.#headers(), "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (response.ok) return response.json();
    throw new Error(`${response.status}: ${messageOf(await response.text())}`);
  }

  /** Files of an ended egress that are on the server's disk. */
  async files(egressId: string): Promise<readonly RecordedFile[]> {
    const url = `${this.base}/dashboard/api/egress/${encodeURIComponent(egressId)}/files`;
    const response = await fetch(url, { headers: this.#headers(), cache: "no-store" });
    if (!response.ok) return [];
    const { files } = (await response.json()) as { files: RecordedFile[] };
    return files.map((file) => ({ ...file, url: new URL(file.url, url).href }));
  }

  #headers(): Record<string, string> {
    return { Authorization: `Bearer ${this.token}` };
  }
}

/** Twirp's message; for anything else, such as a proxy's page, the text as it is. */
export function messageOf(text: string): string {
  try {
    return String((JSON.parse(text) as { msg?: unknown }).msg ?? text);
  } catch {
    return text;
  }
}
