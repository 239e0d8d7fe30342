/** Server-sent events out of a byte stream (WHATWG HTML, section 9.2.6): only `event` and `data` are used. */

export interface ServerEvent {
  readonly name: string;
  readonly data: string;
}

export class ServerEventReader {
  readonly #decoder = new TextDecoder();
  #text = "";
  #name = "";
  #data: string[] = [];

  /** The events that are complete with these bytes. */
  feed(bytes: Uint8Array): ServerEvent[] {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    const events: ServerEvent[] = [];
    for (;;) {
      const end = /\r\n|\n|\r(?!$)/.exec(this.#text);
      if (end === null) return events;
      const line = this.#text.slice(0, end.index);
      this.#text = this.#text.slice(end.index + end[0].length);
      if (line !== "") this.#take(line);
      else if (this.#data.length > 0) events.push(this.#finish());
      else this.#name = "";
    }
  }

  #take(line: string): void {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    else if (field === "data") this.#data.push(value);
  }

  #finish(): ServerEvent {
    const event = { name: this.#name || "message", data: this.#data.join("\n") };
    this.#name = "";
    this.#data = [];
    return event;
  }
}
