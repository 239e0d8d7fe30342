/** Who has the floor. The focus follows the loudest speaker, but not a cough, and not every second. */

export interface Floor {
  readonly focus: string | null;
  /** Somebody has spoken; before that the focus is only the first who came. */
  readonly spoken: boolean;
  readonly challenger: string | null;
  readonly challengingSinceMs: number;
  readonly changedAtMs: number;
}

export interface FloorStep {
  readonly floor: Floor;
  /** When to ask again though nothing has happened; null: not needed. */
  readonly recheckAtMs: number | null;
}

export const EMPTY_FLOOR: Floor = {
  focus: null,
  spoken: false,
  challenger: null,
  challengingSinceMs: 0,
  changedAtMs: Number.NEGATIVE_INFINITY,
};

/** A new speaker has the floor after this long when the old one is silent: longer than a "yes". */
export const TAKEOVER_MS = 500;
/** ... and after this long when both speak. */
export const OVERLAP_MS = 2000;
/** Nobody loses the floor sooner than this: a picture needs time to be seen. */
export const HOLD_MS = 1000;

/**
 * One step of the floor.
 *
 * @param active identities that speak now, the loudest first
 * @param eligible identities that may have the floor, the preferred first
 */
export function stepFloor(
  floor: Floor,
  active: readonly string[],
  eligible: readonly string[],
  nowMs: number,
): FloorStep {
  const loudest = active.find((identity) => eligible.includes(identity)) ?? null;
  const settle = (focus: string | null): FloorStep => ({
    floor: {
      focus,
      spoken: focus !== null && (floor.spoken || focus === loudest),
      challenger: null,
      challengingSinceMs: nowMs,
      changedAtMs: focus === floor.focus ? floor.changedAtMs : nowMs,
    },
    recheckAtMs: null,
  });

  if (floor.focus === null || !eligible.includes(floor.focus)) return settle(loudest ?? eligible[0] ?? null);
  if (!floor.spoken) return settle(loudest ?? eligible[0] ?? null);
  if (loudest === null || loudest === floor.focus) return settle(floor.focus);

  const challengingSinceMs = loudest === floor.challenger ? floor.challengingSinceMs : nowMs;
  const patienceMs = active.includes(floor.focus) ? OVERLAP_MS : TAKEOVER_MS;
  const dueMs = Math.max(challengingSinceMs + patienceMs, floor.changedAtMs + HOLD_MS);
  if (nowMs >= dueMs) return settle(loudest);
  return { floor: { ...floor, challenger: loudest, challengingSinceMs }, recheckAtMs: dueMs };
}
