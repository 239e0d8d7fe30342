/** When the page tells the recorder to begin and to end (contract of @livekit/egress-sdk). */

/** A frame of an announced video may take this long; then the recording starts without it. */
export const FIRST_FRAME_MS = 5000;
/** After the first picture, the others have this long to arrive: a recording should not begin half empty. */
export const OTHER_FRAMES_MS = 300;
/** Without video, there is nothing to wait for except a publisher who is just arriving. */
export const NO_VIDEO_MS = 500;

export interface Readiness {
  readonly sinceConnectedMs: number;
  /** Since a decoded frame has been on the screen; null: none yet. */
  readonly sinceFirstFrameMs: number | null;
  /** Every tile in view that has video shows it. */
  readonly complete: boolean;
  /** Somebody publishes video that is not muted. */
  readonly videoExpected: boolean;
  /** An audio track has been received. */
  readonly audioHeard: boolean;
}

/** Milliseconds until the recording starts if nothing else happens; 0: now. */
export function startsInMs(readiness: Readiness): number {
  const { sinceConnectedMs, sinceFirstFrameMs, complete, videoExpected, audioHeard } = readiness;
  if (sinceFirstFrameMs !== null) return complete ? 0 : Math.max(0, OTHER_FRAMES_MS - sinceFirstFrameMs);
  if (!videoExpected && audioHeard) return 0;
  return Math.max(0, (videoExpected ? FIRST_FRAME_MS : NO_VIDEO_MS) - sinceConnectedMs);
}

/** After a reconnect, perhaps to a restarted server, the others come back a while after us. */
export const RETURN_MS = 15_000;

export interface Attendance {
  /** False while the client reconnects: a full reconnect drops everybody and brings them back. */
  readonly connected: boolean;
  readonly participants: number;
  /** Somebody has been there since the recording began. */
  readonly everAttended: boolean;
  /** null: never reconnected, or somebody has been seen since. */
  readonly sinceReconnectedMs: number | null;
}

/** Milliseconds until the room counts as empty; null: it does not. A room that nobody has entered yet does not. */
export function endsInMs(attendance: Attendance): number | null {
  const { connected, participants, everAttended, sinceReconnectedMs } = attendance;
  if (!connected || !everAttended || participants > 0) return null;
  return sinceReconnectedMs === null ? 0 : Math.max(0, RETURN_MS - sinceReconnectedMs);
}
