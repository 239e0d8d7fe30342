/** The live feed: fetched, because an EventSource cannot send the token in a header. */

import { type ServerEvent, ServerEventReader } from "./server-events";

/** The server writes at least every 15 s; silence for longer means that the connection is dead. */
const SILENCE_MS = 40_000;
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 15_000;

export type FeedState =
  | { readonly kind: "connecting" }
  | { readonly kind: "live" }
  | { readonly kind: "waiting"; readonly delayMs: number; readonly why: string }
  | { readonly kind: "refused"; readonly why: string };

export function wordsOf(state: FeedState): string {
  switch (state.kind) {
    case "connecting":
      return "connecting …";
    case "live":
      return "live";
    case "waiting":
      return `not connected (${state.why}); trying again in ${state.delayMs / 1000} s`;
    case "refused":
      return "signed out";
  }
}

/** Doubles with each failure, up to a quarter of a minute. */
export function delayAfter(failures: number): number {
  return Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(failures, 10));
}

class Refused extends Error {}

/**
 * Follows the feed until `signal` aborts or the token is refused; reconnects by itself.
 *
 * @param onEvent gets each event; the first one of every connection is a snapshot
 * @param onState gets the state of the connection, for people to read
 */
export async function follow(
  url: string,
  token: string,
  signal: AbortSignal,
  onEvent: (event: ServerEvent) => void,
  onState: (state: FeedState) => void,
): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    onState({ kind: "connecting" });
    let why = "the server closed the connection";
    try {
      await readOnce(url, token, signal, (event) => {
        failures = 0;
        onState({ kind: "live" });
        onEvent(event);
      });
    } catch (error) {
      if (signal.aborted) return;
      why = error instanceof Error ? error.message : String(error);
      if (error instanceof Refused) {
        onState({ kind: "refused", why });
        return;
      }
    }
    const delayMs = delayAfter(failures++);
    onState({ kind: "waiting", delayMs, why });
    await pause(delayMs, signal);
  }
}

async function readOnce(
  url: string,
  token: string,
  signal: AbortSignal,
  onEvent: (event: ServerEvent) => void,
): Promise<void> {
  const silence = new AbortController();
  let alarm = 0;
  const rearm = () => {
    clearTimeout(alarm);
    alarm = window.setTimeout(() => silence.abort(new Error("the server fell silent")), SILENCE_MS);
  };
  rearm();
  try {
    const response = await fetch(url, {
      headers: { Authorization: `Bearer ${token}`, Accept: "text/event-stream" },
      cache: "no-store",
      signal: AbortSignal.any([signal, silence.signal]),
    });
    if (response.status === 401 || response.status === 403) throw new Refused((await response.text()).trim());
    if (!response.ok || !response.body) throw new Error(`the server answered ${response.status}`);
    const reader = response.body.getReader();
    const events = new ServerEventReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rearm();
      events.feed(value).forEach(onEvent);
    }
  } finally {
    clearTimeout(alarm);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
