/** The page as a whole: follows the room, keeps the tiles in place, and signals the recorder. */

import { ConnectionState, type Room, RoomEvent } from "livekit-client";
import { NO_SPEAKER, stepActiveSpeaker } from "./active-speaker";
import { type Layout, layoutInMetadata, parseLayout, takenFor } from "./layout";
import { attendees, videoPublications, viewOf } from "./roster";
import { endsInMs, startsInMs } from "./signals";
import { byRecency, EMPTY_STAGING, stage } from "./staging";
import { type Demand, TileView } from "./tile-view";
import { type Tile, tilesOf } from "./tiles";

/** Hidden videos that are kept running, in their smallest layer, so that they are there when shown. */
const WARM_HIDDEN = 6;
/**
 * How long sound and picture wait before they are played. Nobody talks back to a recording: the same wait for
 * both keeps them in step from the start; otherwise Chromium takes seconds to bring them together.
 */
const PLAYOUT_DELAY_S = 0.3;

export class Page {
  readonly #room: Room;
  readonly #stage: HTMLElement;
  readonly #onStart: () => void;
  readonly #onEmpty: () => void;
  readonly #views = new Map<string, TileView>();
  #layout: Layout;
  #tiles: readonly Tile[] = [];
  #staging = EMPTY_STAGING;
  #activeSpeaker = NO_SPEAKER;
  #speakerTimer: number | undefined;
  #active: readonly string[] = [];
  #recent: readonly string[] = [];
  #connectedAtMs: number | null = null;
  #reconnectedAtMs: number | null = null;
  #startTimer: number | undefined;
  #endTimer: number | undefined;
  #started = false;
  #firstFrameAtMs: number | null = null;
  #audioHeard = false;
  #everAttended = false;
  #renderQueued = false;

  /**
   * @param onStart the page shows what should be recorded; called once
   * @param onEmpty everybody has left a room that was not empty before
   */
  constructor(
    room: Room,
    stageElement: HTMLElement,
    layout: Layout,
    onStart: () => void,
    onEmpty: () => void,
  ) {
    this.#room = room;
    this.#stage = stageElement;
    this.#layout = layout;
    this.#onStart = onStart;
    this.#onEmpty = onEmpty;
    this.#applyTheme();
    this.#follow();
  }

  /** The room is joined. */
  begin(): void {
    this.#connectedAtMs = performance.now();
    this.#readLayout();
    this.#render();
  }

  get #connected(): boolean {
    return this.#room.state === ConnectionState.Connected;
  }

  #follow(): void {
    const room = this.#room;
    const render = () => this.#queueRender();
    room
      .on(RoomEvent.ParticipantConnected, render)
      .on(RoomEvent.ParticipantDisconnected, render)
      .on(RoomEvent.ParticipantNameChanged, render)
      .on(RoomEvent.TrackPublished, render)
      .on(RoomEvent.TrackUnpublished, render)
      .on(RoomEvent.TrackUnsubscribed, (track) => {
        for (const element of track.detach()) if (element instanceof HTMLAudioElement) element.remove();
        this.#queueRender();
      })
      .on(RoomEvent.TrackMuted, render)
      .on(RoomEvent.ConnectionStateChanged, render)
      .on(RoomEvent.TrackUnmuted, render)
      .on(RoomEvent.Reconnected, () => {
        this.#reconnectedAtMs = performance.now();
        this.#readLayout();
        this.#queueRender();
      })
      .on(RoomEvent.TrackSubscribed, (track) => {
        track.setPlayoutDelay(PLAYOUT_DELAY_S);
        if (track.kind === "audio") {
          document.body.append(track.attach());
          this.#audioHeard = true;
        }
        this.#queueRender();
      })
      .on(RoomEvent.ActiveSpeakersChanged, (speakers) => {
        this.#active = speakers.map((one) => one.identity);
        this.#recent = [...new Set([...this.#active, ...this.#recent])];
        this.#queueRender();
      })
      .on(RoomEvent.ParticipantMetadataChanged, (_, participant) => {
        if (participant.identity !== room.localParticipant.identity) return;
        this.#readLayout();
        this.#render();
      });
    window.addEventListener("resize", render);
  }

  #readLayout(): void {
    const name = layoutInMetadata(this.#room.localParticipant.metadata);
    if (name === null) return;
    const guess = takenFor(name);
    if (guess) console.warn(guess);
    this.#layout = parseLayout(name);
    this.#applyTheme();
  }

  #applyTheme(): void {
    document.body.classList.toggle("light", this.#layout.theme === "light");
  }

  /** Events come in bursts; one pass after them is enough. */
  #queueRender(): void {
    if (this.#renderQueued) return;
    this.#renderQueued = true;
    queueMicrotask(() => {
      this.#renderQueued = false;
      this.#render();
    });
  }

  #render(): void {
    if (this.#connectedAtMs === null) return;
    const participants = attendees(this.#room);
    // While the client reconnects the room looks empty: the tiles stay, with names where pictures are gone.
    if (this.#connected) this.#tiles = tilesOf(participants.map(viewOf));
    const tiles = this.#tiles;
    const publications = videoPublications(this.#room);
    this.#staging = stage({
      arrangement: this.#layout.arrangement,
      tiles,
      speaker: this.#speaker(tiles),
      recent: this.#recent,
      canvas: { width: window.innerWidth, height: window.innerHeight },
      previous: this.#staging,
    });
    const { rects } = this.#staging;
    this.#dropGone(tiles);
    const hidden = tiles.filter((tile) => !rects.has(tile.key));
    const warm = new Set(byRecency(hidden, this.#recent).slice(0, WARM_HIDDEN));
    for (const tile of tiles) {
      const rect = rects.get(tile.key) ?? null;
      const demand: Demand = rect ? "drawn" : warm.has(tile) ? "smallest" : "none";
      this.#viewOf(tile).show(tile, publications.get(tile.videoSid ?? "") ?? null, rect, demand);
    }
    this.#signal(tiles, participants.length);
  }

  #speaker(tiles: readonly Tile[]): string | null {
    const cameras = tiles.filter((tile) => !tile.screen);
    const eligible = [...cameras]
      .sort((a, b) => Number(a.muted) - Number(b.muted))
      .map((tile) => tile.identity);
    const nowMs = performance.now();
    const step = stepActiveSpeaker(this.#activeSpeaker, this.#active, eligible, nowMs);
    this.#activeSpeaker = step.speaker;
    clearTimeout(this.#speakerTimer);
    if (step.recheckAtMs !== null) {
      this.#speakerTimer = window.setTimeout(() => this.#render(), step.recheckAtMs - nowMs);
    }
    return step.speaker.focus;
  }

  #dropGone(tiles: readonly Tile[]): void {
    const keys = new Set(tiles.map((tile) => tile.key));
    for (const [key, view] of this.#views) {
      if (keys.has(key)) continue;
      view.remove();
      this.#views.delete(key);
    }
  }

  #viewOf(tile: Tile): TileView {
    let view = this.#views.get(tile.key);
    if (!view) {
      view = new TileView(() => {
        this.#firstFrameAtMs ??= performance.now();
        this.#queueRender();
      });
      this.#views.set(tile.key, view);
      this.#stage.append(view.element);
    }
    return view;
  }

  #signal(tiles: readonly Tile[], participants: number): void {
    if (!this.#signalEnd(participants) && !this.#started) this.#signalStart(tiles);
  }

  #signalEnd(participants: number): boolean {
    const connected = this.#connected;
    if (connected && participants > 0) {
      this.#everAttended = true;
      this.#reconnectedAtMs = null;
    }
    const waitMs = endsInMs({
      connected,
      participants,
      everAttended: this.#everAttended,
      sinceReconnectedMs: since(this.#reconnectedAtMs),
    });
    clearTimeout(this.#endTimer);
    if (waitMs === 0) this.#onEmpty();
    else if (waitMs !== null) this.#endTimer = window.setTimeout(() => this.#render(), waitMs);
    return waitMs === 0;
  }

  #signalStart(tiles: readonly Tile[]): void {
    const expected = tiles.filter((tile) => tile.videoSid !== null && !tile.muted);
    const inView = expected.filter((tile) => this.#staging.rects.has(tile.key));
    const waitMs = startsInMs({
      sinceConnectedMs: since(this.#connectedAtMs) ?? 0,
      sinceFirstFrameMs: since(this.#firstFrameAtMs),
      complete: inView.every((tile) => this.#views.get(tile.key)?.showsVideo),
      videoExpected: expected.length > 0,
      audioHeard: this.#audioHeard,
    });
    clearTimeout(this.#startTimer);
    if (waitMs > 0) {
      this.#startTimer = window.setTimeout(() => this.#render(), waitMs);
      return;
    }
    this.#started = true;
    if (expected.length > 0 && this.#firstFrameAtMs === null) {
      const names = expected.map((tile) => JSON.stringify(tile.identity)).join(", ");
      console.warn(`first frame: no picture from ${names} in time; the recording starts without it`);
    }
    this.#onStart();
  }
}

function since(atMs: number | null): number | null {
  return atMs === null ? null : performance.now() - atMs;
}
