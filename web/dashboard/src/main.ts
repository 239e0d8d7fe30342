/** Entry of the dashboard: signs in with an API token, follows the feed, sends stops. */

import { RequestDialog, StopDialog } from "./dialogs";
import type { Entry } from "./egress";
import { find, say } from "./elements";
import { type FeedState, follow, wordsOf } from "./feed";
import type { ServerEvent } from "./server-events";
import { Table } from "./table";
import { bytes, duration } from "./wording";

const TOKEN_KEY = "openegress.token";

interface Node {
  readonly cpu_cores?: number;
  readonly cpu_used?: number;
  readonly memory_mib?: number;
  readonly version?: string;
  readonly uptime_s?: number;
}

/** The server may live below a prefix: this page is at <api>/dashboard/. */
const api = new URL("..", window.location.href).href.replace(/\/$/, "");
const board = find("board");
const connection = find("connection");
const signIn = find<HTMLFormElement>("sign-in");
const tokenField = find<HTMLInputElement>("token");

let token = "";
let session = new AbortController();

const requestDialog = new RequestDialog(api);
const stopDialog = new StopDialog(stop);
const table = new Table(board.getElementsByTagName("tbody")[0] as HTMLTableSectionElement, find("nothing"), {
  stop: (entry) => stopDialog.ask(entry),
  showRequest: (entry) => requestDialog.show(entry),
});

async function stop(egressId: string): Promise<void> {
  const response = await fetch(`${api}/twirp/livekit.Egress/StopEgress`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ egress_id: egressId }),
  });
  if (response.ok) return;
  const text = await response.text();
  let why = text;
  try {
    why = String((JSON.parse(text) as { msg?: unknown }).msg ?? text);
  } catch {
    // Not Twirp's JSON, perhaps a proxy's page: shown as it is.
  }
  throw new Error(`not stopped (${response.status}): ${why}`);
}

function showNode(node: Node): void {
  const parts = [
    node.version && `version ${node.version}`,
    node.cpu_cores !== undefined && `CPU ${(node.cpu_used ?? 0).toFixed(2)} of ${node.cpu_cores} cores`,
    node.memory_mib !== undefined && `memory ${bytes(node.memory_mib * 1024 * 1024)}`,
    node.uptime_s !== undefined && `up ${duration(node.uptime_s * 1000)}`,
  ];
  find("node").textContent = parts.filter(Boolean).join(" · ");
}

function onEvent({ name, data }: ServerEvent): void {
  if (name === "snapshot") {
    const snapshot = JSON.parse(data) as { egresses: Entry[]; node: Node };
    table.replace(snapshot.egresses);
    showNode(snapshot.node);
  } else if (name === "egress") {
    table.update(JSON.parse(data) as Entry);
  }
}

function onState(state: FeedState): void {
  say(connection, wordsOf(state));
  connection.className = { connecting: "busy", live: "good", waiting: "bad", refused: "bad" }[state.kind];
  if (state.kind === "refused") askForToken(`The server refused this token: ${state.why}`);
}

function askForToken(why: string): void {
  session.abort();
  sessionStorage.removeItem(TOKEN_KEY);
  token = "";
  table.clear();
  find("node").textContent = "";
  board.hidden = true;
  find("sign-out").hidden = true;
  find("refused").textContent = why;
  signIn.hidden = false;
  tokenField.focus();
}

function watch(value: string): void {
  token = value;
  sessionStorage.setItem(TOKEN_KEY, value);
  signIn.hidden = true;
  board.hidden = false;
  find("sign-out").hidden = false;
  session = new AbortController();
  void follow(`${api}/dashboard/api/events`, token, session.signal, onEvent, onState);
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
find<HTMLInputElement>("only-active").addEventListener("change", (event) => {
  table.onlyActive = (event.target as HTMLInputElement).checked;
});
setInterval(() => table.tick(Date.now()), 1000);

const known = tokenFromFragment() ?? sessionStorage.getItem(TOKEN_KEY);
if (known) watch(known);
else askForToken("");
