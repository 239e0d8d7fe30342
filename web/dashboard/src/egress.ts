/** What the page shows of an EgressInfo (livekit_egress.proto as protojson, snake_case: int64 are strings). */

export interface Timed {
  readonly started_at?: string;
  readonly ended_at?: string;
}

export interface EgressInfo extends Timed {
  readonly egress_id: string;
  readonly room_name?: string;
  readonly status?: string;
  readonly error?: string;
  readonly details?: string;
  readonly stream_results?: readonly (Timed & {
    readonly url?: string;
    readonly status?: string;
    readonly error?: string;
    readonly retries?: number;
  })[];
  readonly file_results?: readonly (Timed & {
    readonly filename?: string;
    readonly location?: string;
    readonly size?: string;
  })[];
  readonly segment_results?: readonly (Timed & {
    readonly playlist_name?: string;
    readonly playlist_location?: string;
    readonly segment_count?: string;
    readonly size?: string;
  })[];
  readonly image_results?: readonly (Timed & {
    readonly filename_prefix?: string;
    readonly image_count?: string;
  })[];
  readonly egress?: unknown;
  readonly room_composite?: unknown;
  readonly web?: unknown;
  readonly participant?: unknown;
  readonly track_composite?: unknown;
  readonly track?: unknown;
}

export interface Progress {
  readonly media_ns: number;
  readonly frames: number;
  readonly unique_frames: number;
  readonly dropped_frames: number;
  readonly size_bytes: number;
  readonly queue?: number;
  readonly fps?: number;
  readonly cpu_cores?: number;
}

/** Something that happened to an egress. */
export interface Moment {
  readonly at_ms: number;
  readonly text: string;
  readonly mood: Mood;
}

export interface Entry {
  readonly info: EgressInfo;
  readonly progress: Progress | null;
  readonly thumbnail: string | null;
  /** The oldest first. */
  readonly moments?: readonly Moment[];
}

/** An update of an egress from the feed: what has changed, and its progress. */
export type Update = Partial<Entry> & { readonly egress_id: string };

/** The entry after an update; null if the egress is otherwise unknown. */
export function updated(known: Entry | null, update: Update): Entry | null {
  const { egress_id: _, ...news } = update;
  const info = news.info ?? known?.info;
  return info ? { progress: null, thumbnail: null, ...known, ...news, info } : null;
}

export type Mood = "good" | "busy" | "bad" | "quiet";

export interface OutputLine {
  readonly kind: string;
  readonly name: string;
  readonly state: string;
  readonly mood: Mood;
}

const REQUESTS = {
  room_composite: { type: "room composite", method: "StartRoomCompositeEgress" },
  web: { type: "web", method: "StartWebEgress" },
  participant: { type: "participant", method: "StartParticipantEgress" },
  track_composite: { type: "track composite", method: "StartTrackCompositeEgress" },
  track: { type: "track", method: "StartTrackEgress" },
  egress: { type: "egress", method: "StartEgress" },
} as const;

export interface Request {
  readonly type: string;
  readonly method: string;
  readonly body: Readonly<Record<string, unknown>>;
}

function record(value: unknown): Readonly<Record<string, unknown>> | null {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** The request that started an egress; null when the record has none. */
export function requestOf(info: EgressInfo): Request | null {
  for (const [field, { type, method }] of Object.entries(REQUESTS)) {
    const body = record(info[field as keyof typeof REQUESTS]);
    if (body) return { type, method, body };
  }
  return null;
}

/** The recorded page or room, and what is recorded of it. */
export function sourceOf(info: EgressInfo): string {
  const body = requestOf(info)?.body ?? {};
  const web = text(record(body.web)?.url) || text(body.url);
  if (web) return pageOf(web);
  const room = info.room_name || text(body.room_name);
  const tracks = [body.audio_track_id, body.video_track_id].map(text).filter(Boolean).join(" + ");
  const part = text(body.identity) || text(body.track_id) || tracks || text(body.layout);
  return part ? `${room} · ${part}` : room;
}

/** Without the user, query and fragment, which may hold a password or a token. */
function pageOf(url: string): string {
  if (!URL.canParse(url)) return "";
  const { origin, pathname, search, hash } = new URL(url);
  return `${origin}${pathname}${search || hash ? "?…" : ""}`;
}

const STATUS: Readonly<Record<string, readonly [string, Mood]>> = {
  EGRESS_STARTING: ["starting", "busy"],
  EGRESS_ACTIVE: ["active", "good"],
  EGRESS_ENDING: ["ending", "busy"],
  EGRESS_COMPLETE: ["complete", "quiet"],
  EGRESS_FAILED: ["failed", "bad"],
  EGRESS_ABORTED: ["aborted", "bad"],
  EGRESS_LIMIT_REACHED: ["limit reached", "busy"],
};

export function statusOf(info: EgressInfo): readonly [string, Mood] {
  const status = info.status ?? "EGRESS_STARTING";
  const composed = status === "EGRESS_ENDING" ? composing(info) : undefined;
  if (composed !== undefined) return [`composing: ${composed}`, "busy"];
  return STATUS[status] ?? [status, "quiet"];
}

/** How much of it is composed, or that it is queued; undefined: it is not composed afterwards. */
function composing(info: EgressInfo): string | undefined {
  const begin = "Composing: ";
  return (info.details ?? "")
    .split("; ")
    .find((part) => part.startsWith(begin))
    ?.slice(begin.length);
}

/** Read from the details of the record. */
export function isPaused(info: EgressInfo): boolean {
  return isActive(info) && (info.details ?? "").split("; ").includes("Paused");
}

/** Whether to offer it: the server decides, and says why not. */
export function mayPause(info: EgressInfo): boolean {
  return isRecording(info) && info.track === undefined;
}

/** Whether it is recording, so that moments can be marked and limits changed. */
export function isRecording(info: EgressInfo): boolean {
  return info.status === "EGRESS_ACTIVE";
}

export function isActive(info: EgressInfo): boolean {
  return ["starting", "active", "ending"].includes(statusOf(info)[0]);
}

/** The server puts the phase in front of an error's text. */
const PHASES = [
  "validate",
  "admission",
  "browser start",
  "page load",
  "start signal",
  "signalling",
  "ice",
  "first track",
  "first frame",
  "recording",
  "stream",
  "storage check",
  "storage write",
  "finish",
  "recovery",
];

export interface PhasedError {
  readonly phase: string | null;
  readonly message: string;
}

export function phasedError(error: string): PhasedError {
  const phase = PHASES.find((name) => error.startsWith(`${name}: `)) ?? null;
  return { phase, message: phase === null ? error : error.slice(phase.length + 2) };
}

function happened(time: string | undefined): boolean {
  return time !== undefined && time !== "" && time !== "0";
}

function stored(
  part: Timed,
  location: string | undefined,
  ended: boolean,
): Pick<OutputLine, "state" | "mood"> {
  if (location) return { state: `stored: ${location}`, mood: "good" };
  if (ended) return { state: "not stored", mood: "bad" };
  if (happened(part.ended_at)) return { state: "storing", mood: "busy" };
  return happened(part.started_at) ? { state: "writing", mood: "good" } : { state: "waiting", mood: "quiet" };
}

export function outputsOf(info: EgressInfo): readonly OutputLine[] {
  const ended = !isActive(info);
  const streams = (info.stream_results ?? []).map((part): OutputLine => {
    const state = (part.status ?? "ACTIVE").toLowerCase();
    const tries = part.retries ? `, ${part.retries} retries` : "";
    const why = part.error ? `: ${part.error}` : "";
    const mood = state === "failed" ? "bad" : state === "active" && !ended ? "good" : "quiet";
    return { kind: "stream", name: part.url ?? "", state: `${state}${tries}${why}`, mood };
  });
  const results = info.file_results ?? [];
  const files = results.map(
    (part, place): OutputLine => ({
      kind: results.length > 1 ? `part ${place + 1}` : "file",
      name: part.filename ?? "",
      ...stored(part, part.location, ended),
    }),
  );
  const segments = (info.segment_results ?? []).map(
    (part): OutputLine => ({
      kind: `segments (${part.segment_count ?? 0})`,
      name: part.playlist_name ?? "",
      ...stored(part, part.playlist_location, ended),
    }),
  );
  const images = (info.image_results ?? []).map(
    (part): OutputLine => ({
      kind: "images",
      name: part.filename_prefix ?? "",
      state: `${part.image_count ?? 0} taken`,
      mood: ended ? "quiet" : "good",
    }),
  );
  return [...files, ...segments, ...streams, ...images];
}

const NS_PER_MS = 1_000_000n;

function unixMs(ns: string | undefined): number | null {
  return ns !== undefined && /^\d+$/.test(ns) && ns !== "0" ? Number(BigInt(ns) / NS_PER_MS) : null;
}

export function startedMs(info: EgressInfo): number | null {
  return unixMs(info.started_at);
}

/** Since the start, to the end or until now; null before the start. */
export function elapsedMs(info: EgressInfo, nowMs: number): number | null {
  const since = startedMs(info);
  return since === null ? null : Math.max(0, (unixMs(info.ended_at) ?? nowMs) - since);
}

/** The bytes produced: as last reported while it runs, and otherwise those of the finished files. */
export function sizeBytes(entry: Entry): number | null {
  const results = [...(entry.info.file_results ?? []), ...(entry.info.segment_results ?? [])];
  const finished = results.reduce((sum, part) => sum + Number(part.size ?? 0), 0);
  const size = Math.max(finished, entry.progress?.size_bytes ?? 0);
  return size > 0 ? size : null;
}

/** Newest first. */
export function compareNewest(a: Entry, b: Entry): number {
  const [first, second] = [BigInt(a.info.started_at || 0), BigInt(b.info.started_at || 0)];
  if (first !== second) return first > second ? -1 : 1;
  return a.info.egress_id < b.info.egress_id ? -1 : 1;
}
