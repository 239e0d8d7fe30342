/** One tile of the page: a video element that lives as long as the tile, and a cover with the name. */

import type { RemoteTrack, RemoteTrackPublication } from "livekit-client";
import { drawnSize, type Rect } from "./rectangles";
import { fitOf, type Tile } from "./tiles";

/** What is requested of a video: the size at which it is drawn, the smallest layer, or nothing. */
export type Demand = "drawn" | "smallest" | "none";

const SMALLEST = { width: 2, height: 2 };

export class TileView {
  readonly element = document.createElement("div");
  readonly #video = document.createElement("video");
  readonly #cover = document.createElement("div");
  readonly #initial = document.createElement("div");
  readonly #name = document.createElement("div");
  readonly #onFrame: () => void;
  #track: RemoteTrack | null = null;
  #awaitsFrame = false;
  #live = false;

  /** @param onFrame called whenever the tile uncovers a video that has a decoded frame */
  constructor(onFrame: () => void) {
    this.#onFrame = onFrame;
    this.element.className = "tile";
    this.element.hidden = true;
    this.#video.muted = true;
    this.#cover.className = "cover";
    this.#initial.className = "initial";
    this.#name.className = "name";
    this.#cover.append(this.#initial, this.#name);
    this.element.append(this.#video, this.#cover);
  }

  /** The tile uncovers a video that has a decoded frame. */
  get showsVideo(): boolean {
    return this.#cover.hidden === true;
  }

  /**
   * @param source what the tile's video comes from
   * @param rect where the tile lies; null: hidden
   */
  show(tile: Tile, source: RemoteTrackPublication | null, rect: Rect | null, demand: Demand): void {
    this.element.dataset.identity = tile.identity;
    this.element.classList.toggle("contain", fitOf(tile) === "contain");
    this.#label(tile.name);
    this.#attach(source?.track ?? null);
    this.#place(rect);
    if (source?.track) this.#ask(source, tile, rect, demand);
    const live = this.#track !== null && !tile.muted && demand !== "none";
    // What a video element still holds from before a pause is old: the cover stays until a new frame comes.
    if (live && !this.#live) this.#uncoverAtNextFrame();
    if (!live) this.#cover.hidden = false;
    this.#cover.classList.toggle("pending", tile.videoSid !== null && !tile.muted);
    this.#live = live;
  }

  remove(): void {
    this.#attach(null);
    this.element.remove();
  }

  #label(name: string): void {
    if (this.#name.textContent === name) return;
    this.#name.textContent = name;
    const first = new Intl.Segmenter().segment(name.trim())[Symbol.iterator]().next();
    this.#initial.textContent = first.done ? "" : first.value.segment.toLocaleUpperCase();
  }

  #attach(track: RemoteTrack | null): void {
    if (track === this.#track) return;
    this.#track?.detach(this.#video);
    this.#track = track;
    this.#live = false;
    track?.attach(this.#video);
  }

  #place(rect: Rect | null): void {
    this.element.hidden = rect === null;
    if (rect === null) return;
    const { style } = this.element;
    style.left = `${rect.x}px`;
    style.top = `${rect.y}px`;
    style.width = `${rect.width}px`;
    style.height = `${rect.height}px`;
    style.fontSize = `${Math.round(Math.min(rect.width, rect.height) / 6)}px`;
  }

  /**
   * The layout knows the size exactly and at once, so it is told to the server directly: adaptiveStream
   * would begin with the smallest layer and look at the elements a while later.
   */
  #ask(source: RemoteTrackPublication, tile: Tile, rect: Rect | null, demand: Demand): void {
    if (source.isEnabled !== (demand !== "none")) source.setEnabled(demand !== "none");
    if (demand === "none") return;
    const drawn = demand === "drawn" && rect ? drawnSize(tile.size, rect, fitOf(tile)) : SMALLEST;
    const density = window.devicePixelRatio;
    source.setVideoDimensions({
      width: Math.ceil(drawn.width * density),
      height: Math.ceil(drawn.height * density),
    });
  }

  #uncoverAtNextFrame(): void {
    if (this.#awaitsFrame) return;
    this.#awaitsFrame = true;
    this.#video.requestVideoFrameCallback(() => {
      this.#awaitsFrame = false;
      if (!this.#live) return;
      this.#cover.hidden = true;
      this.#onFrame();
    });
  }
}
