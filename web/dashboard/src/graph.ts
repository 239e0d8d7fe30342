/** Small graphs of a recording's numbers: a name, the number now, and a line of the last two minutes. */

import { make, say } from "./elements";
import { pointsOf, roundTop, type Sample } from "./samples";
import { bytes } from "./wording";

const WIDTH = 120;
const HEIGHT = 28;
const SVG = "http://www.w3.org/2000/svg";

class Graph {
  readonly element = make("div", "graph");
  readonly #name: string;
  readonly #value = make("span", "number");
  readonly #picture = document.createElementNS(SVG, "svg");
  readonly #line = document.createElementNS(SVG, "polyline");
  readonly #read: (sample: Sample) => number;
  readonly #word: (value: number) => string;

  constructor(name: string, read: (sample: Sample) => number, word: (value: number) => string) {
    this.#name = name;
    this.#read = read;
    this.#word = word;
    this.#picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.#picture.setAttribute("preserveAspectRatio", "none");
    this.#picture.setAttribute("role", "img");
    this.#picture.append(this.#line);
    const label = make("div", "graph-label");
    label.append(make("span", "quiet", name), this.#value);
    this.element.append(label, this.#picture);
  }

  show(samples: readonly Sample[]): void {
    const values = samples.map(this.#read);
    const top = roundTop(values);
    const now = this.#word(values.at(-1) ?? 0);
    say(this.#value, now);
    this.#line.setAttribute("points", pointsOf(values, WIDTH, HEIGHT, top));
    this.#picture.setAttribute("aria-label", `${this.#name} of the last minutes, up to ${this.#word(top)}`);
  }
}

export class Graphs {
  readonly elements: readonly HTMLElement[];
  readonly #graphs: readonly Graph[];

  constructor() {
    this.#graphs = [
      new Graph(
        "Pictures",
        ({ fps }) => fps,
        (value) => `${value.toFixed(1)} fps`,
      ),
      new Graph(
        "CPU",
        ({ cpuCores }) => cpuCores,
        (value) => `${value.toFixed(2)} cores`,
      ),
      new Graph(
        "Written",
        ({ bytesPerSecond }) => bytesPerSecond,
        (value) => `${bytes(value)}/s`,
      ),
    ];
    this.elements = this.#graphs.map((graph) => graph.element);
  }

  show(samples: readonly Sample[]): void {
    for (const graph of this.#graphs) graph.show(samples);
  }
}
