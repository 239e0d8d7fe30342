/** Who is in focus: the loudest speaker, but neither for a cough nor changing every second. */

export interface ActiveSpeaker {
  readonly focus: string | null;
  /** Whether anybody has spoken; before that, the focus is simply the first participant. */
  readonly spoken: boolean;
  readonly challenger: string | null;
  readonly challengingSinceMs: number;
  readonly changedAtMs: number;
}

export interface ActiveSpeakerStep {
  readonly speaker: ActiveSpeaker;
  /** When to ask again although nothing has happened; null: not needed. */
  readonly recheckAtMs: number | null;
}

export const NO_SPEAKER: ActiveSpeaker = {
  focus: null,
  spoken: false,
  challenger: null,
  challengingSinceMs: 0,
  changedAtMs: Number.NEGATIVE_INFINITY,
};

/** A new speaker is in focus after this long when the old one is silent: longer than a "yes". */
export const TAKEOVER_MS = 500;
/** ... and after this long when both speak. */
export const OVERLAP_MS = 2000;
/** Nobody loses the focus sooner than this: viewers need time to see a picture. */
export const HOLD_MS = 1000;

/**
 * The focus after one step.
 *
 * @param active identities of current speakers, the loudest first
 * @param eligible identities that may be in focus, the preferred ones first
 */
export function stepActiveSpeaker(
  speaker: ActiveSpeaker,
  active: readonly string[],
  eligible: readonly string[],
  nowMs: number,
): ActiveSpeakerStep {
  const loudest = active.find((identity) => eligible.includes(identity)) ?? null;
  const settle = (focus: string | null): ActiveSpeakerStep => ({
    speaker: {
      focus,
      spoken: focus !== null && (speaker.spoken || focus === loudest),
      challenger: null,
      challengingSinceMs: nowMs,
      changedAtMs: focus === speaker.focus ? speaker.changedAtMs : nowMs,
    },
    recheckAtMs: null,
  });

  if (speaker.focus === null || !eligible.includes(speaker.focus))
    return settle(loudest ?? eligible[0] ?? null);
  if (!speaker.spoken) return settle(loudest ?? eligible[0] ?? null);
  if (loudest === null || loudest === speaker.focus) return settle(speaker.focus);

  const challengingSinceMs = loudest === speaker.challenger ? speaker.challengingSinceMs : nowMs;
  const patienceMs = active.includes(speaker.focus) ? OVERLAP_MS : TAKEOVER_MS;
  const dueMs = Math.max(challengingSinceMs + patienceMs, speaker.changedAtMs + HOLD_MS);
  if (nowMs >= dueMs) return settle(loudest);
  return { speaker: { ...speaker, challenger: loudest, challengingSinceMs }, recheckAtMs: dueMs };
}
