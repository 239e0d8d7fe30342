/** Entry of the room composite template: reads the query, joins the room, speaks the recorder's contract. */

import { DisconnectReason, Room, RoomEvent, setLogLevel } from "livekit-client";
import { parseLayout, takenFor } from "./layout";
import { Page } from "./page";
import { isRoomEnd } from "./roster";

/** Puts the text where the recorder looks for it. */
function fail(text: string): void {
  const element = document.createElement("div");
  element.className = "error";
  element.textContent = text;
  document.body.append(element);
  console.error(text);
}

let ended = false;
function end(): void {
  if (ended) return;
  ended = true;
  console.log("END_RECORDING");
}

async function record(url: string, token: string, layoutName: string): Promise<void> {
  const stageElement = document.getElementById("stage");
  if (stageElement === null) {
    fail("page load: this page has no stage");
    return;
  }
  const guess = takenFor(layoutName);
  if (guess) console.warn(`page load: ${guess}`);
  const layout = parseLayout(layoutName);
  setLogLevel("warn");
  const room = new Room();
  const page = new Page(room, stageElement, layout, () => console.log("START_RECORDING"), end);

  let signalled = false;
  let joined = false;
  room
    .on(RoomEvent.SignalConnected, () => {
      signalled = true;
    })
    .on(RoomEvent.Reconnecting, () => console.warn("recording: connection to the room lost, reconnecting"))
    .on(RoomEvent.Reconnected, () => console.warn("recording: connected to the room again"))
    .on(RoomEvent.TrackSubscriptionFailed, (sid, participant, reason) => {
      console.warn(
        `first track: ${sid} of ${JSON.stringify(participant.identity)} not subscribed: ${reason ?? "?"}`,
      );
    })
    .on(RoomEvent.AudioPlaybackStatusChanged, (playing) => {
      if (!playing) console.warn("recording: the browser holds audio back; start it with autoplay allowed");
    })
    .on(RoomEvent.Disconnected, (reason) => {
      if (!joined || reason === DisconnectReason.CLIENT_INITIATED) return;
      if (!isRoomEnd(reason)) {
        const why = reason === undefined ? "the server could not be reached again" : DisconnectReason[reason];
        console.error(`recording: disconnected from the room for good: ${why}`);
      }
      end();
    });

  try {
    await room.connect(url, token, { autoSubscribe: true });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const phase = signalled ? "ice" : "signalling";
    fail(`${phase}: could not join the room at ${url}: ${text}`);
    return;
  }
  joined = true;
  page.begin();
}

const query = new URLSearchParams(window.location.search);
const url = query.get("url");
const token = query.get("token");
if (url && token) void record(url, token, query.get("layout") ?? "");
else fail("page load: query parameters url and token are required");
