/** Entry of the dashboard: signs in with an API token, follows the feed, starts and stops. */

import { Api } from "./api";
import { Board } from "./board";
import { DetailsDialog } from "./details";
import { type Entry, isPaused, type Progress, type Update, updated } from "./egress";
import { find, make, say } from "./elements";
import { type FeedState, follow, wordsOf } from "./feed";
import type { ServerEvent } from "./server-events";
import { StartDialog } from "./start";
import { StopDialog } from "./stop";
import { bytes } from "./wording";

const TOKEN_KEY = "openegress.token";

interface Node {
  readonly cpu_cores?: number;
  readonly cpu_used?: number;
  readonly memory_mib?: number;
  readonly version?: string;
}

/** The server may live below a prefix: this page is at <api>/dashboard/. */
const api = new Api(new URL("..", window.location.href).href.replace(/\/$/, ""));
const page = find("board");
const connection = find("connection");
const signIn = find<HTMLFormElement>("sign-in");
const tokenField = find<HTMLInputElement>("token");
const filters = find<HTMLFormElement>("filters");
const roomFilter = find<HTMLSelectElement>("filter-room");

let session = new AbortController();

const stopDialog = new StopDialog(api);
const details = new DetailsDialog(api, (entry) => stopDialog.ask(entry));
const start = new StartDialog(api, (egressId) => say(find("count"), `Started ${egressId}.`));
const board = new Board(
  {
    running: find("running"),
    history: find("history"),
    nothingRunning: find("nothing-running"),
    nothingEnded: find("nothing-ended"),
  },
  {
    open: (egressId) => {
      const entry = board.entry(egressId);
      if (entry) details.open(entry, board.samples(egressId));
    },
    stop: (entry) => stopDialog.ask(entry),
    pause: async ({ info }) => {
      await api.control(isPaused(info) ? "ResumeEgress" : "PauseEgress", info.egress_id);
    },
  },
);

function showNode(node: Node): void {
  const parts = [
    node.version && `version ${node.version}`,
    node.cpu_cores !== undefined && `CPU ${(node.cpu_used ?? 0).toFixed(2)} of ${node.cpu_cores} cores`,
    node.memory_mib !== undefined && `memory ${bytes(node.memory_mib * 1024 * 1024)}`,
  ];
  const known = parts.filter((part) => typeof part === "string" && part !== "");
  find("node").replaceChildren(
    ...known.flatMap((part, n) => [n > 0 ? " · " : "", make("span", "", String(part))]),
  );
}

function onEvent({ name, data }: ServerEvent): void {
  if (name === "snapshot") {
    const snapshot = JSON.parse(data) as {
      egresses: Entry[];
      samples?: Record<string, Progress[]>;
      node: Node;
    };
    board.replace(snapshot.egresses, snapshot.samples);
    for (const entry of snapshot.egresses) details.update(entry, board.samples(entry.info.egress_id));
    showNode(snapshot.node);
  } else if (name === "egress") {
    const update = JSON.parse(data) as Update;
    const entry = updated(board.entry(update.egress_id), update);
    if (entry === null) return;
    board.update(entry);
    details.update(entry, board.samples(update.egress_id));
  }
  offerRooms();
}

function offerRooms(): void {
  const rooms = board.rooms;
  const offered = [...roomFilter.options].slice(1).map((option) => option.value);
  if (roomFilter.options.length > 0 && rooms.join("\n") === offered.join("\n")) return;
  const chosen = roomFilter.value;
  const any = make("option", "", "any");
  any.value = "";
  roomFilter.replaceChildren(any, ...rooms.map((room) => make("option", "", room)));
  roomFilter.value = rooms.includes(chosen) ? chosen : "";
  applyFilter();
}

function applyFilter(): void {
  board.filter = {
    text: find<HTMLInputElement>("filter-text").value,
    status: find<HTMLSelectElement>("filter-status").value,
    kind: find<HTMLSelectElement>("filter-kind").value,
    room: roomFilter.value,
  };
  const [shown, all] = board.counts;
  say(find("count"), shown === all ? "" : `${shown} of ${all} shown`);
}

function onState(state: FeedState): void {
  say(connection, wordsOf(state));
  connection.className = { connecting: "busy", live: "good", waiting: "bad", refused: "bad" }[state.kind];
  if (state.kind === "refused") askForToken(`The server refused this token: ${state.why}`);
}

function showSignedIn(signedIn: boolean): void {
  signIn.hidden = signedIn;
  for (const element of [page, find("sign-out"), find("new")]) element.hidden = !signedIn;
}

function askForToken(why: string): void {
  session.abort();
  sessionStorage.removeItem(TOKEN_KEY);
  api.token = "";
  details.close();
  board.clear();
  find("node").textContent = "";
  showSignedIn(false);
  find("refused").textContent = why;
  tokenField.focus();
}

function watch(token: string): void {
  api.token = token;
  sessionStorage.setItem(TOKEN_KEY, token);
  showSignedIn(true);
  session = new AbortController();
  void follow(`${api.base}/dashboard/api/events`, token, session.signal, onEvent, onState);
}

/** A token in the fragment is taken once and then hidden from the address bar and the history. */
function tokenFromFragment(): string | null {
  const value = new URLSearchParams(window.location.hash.slice(1)).get("token");
  if (value) history.replaceState(null, "", window.location.pathname + window.location.search);
  return value;
}

signIn.addEventListener("submit", (event) => {
  event.preventDefault();
  const value = tokenField.value.trim();
  tokenField.value = "";
  if (value) watch(value);
});
find("sign-out").addEventListener("click", () => {
  connection.textContent = "signed out";
  connection.className = "quiet";
  askForToken("");
});
find("new").addEventListener("click", () => start.open());
filters.addEventListener("input", applyFilter);
filters.addEventListener("submit", (event) => event.preventDefault());
setInterval(() => {
  board.tick(Date.now());
  details.tick(Date.now());
}, 1000);

const known = tokenFromFragment() ?? sessionStorage.getItem(TOKEN_KEY);
if (known) watch(known);
else askForToken("");
