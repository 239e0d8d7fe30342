"""Chooses the speaker in focus: the loudest, but not after a cough, and without changing every second.
Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

TAKEOVER_S = 0.5
"""A new speaker gets the focus after this long if the old one is silent: longer than a "yes"."""
OVERLAP_S = 2.0
"""A new speaker gets the focus after this long if both speak."""
HOLD_S = 1.0
"""Nobody loses the focus sooner than this: viewers need time to see a picture."""


@dataclass(frozen=True, slots=True)
class ActiveSpeaker:
    focus: str | None = None
    """Identity of the speaker in focus."""
    spoken: bool = False
    """Whether somebody has spoken; before that the first participant has the focus."""
    challenger: str | None = None
    challenging_since_s: float = 0.0
    changed_at_s: float = float("-inf")
    recheck_at_s: float | None = None
    """When to step again even if nothing has happened; None: not needed."""


def step(
    speaker: ActiveSpeaker, active: Sequence[str], eligible: Sequence[str], now_s: float
) -> ActiveSpeaker:
    """The focus at `now_s`. `active`: current speakers, the loudest first. `eligible`: who may be in focus,
    preferred ones first."""
    loudest = next((identity for identity in active if identity in eligible), None)
    preferred = loudest or (eligible[0] if eligible else None)
    if speaker.focus is None or speaker.focus not in eligible or not speaker.spoken:
        return _settled(speaker, preferred, loudest, now_s)
    if loudest is None or loudest == speaker.focus:
        return _settled(speaker, speaker.focus, loudest, now_s)
    since_s = speaker.challenging_since_s if loudest == speaker.challenger else now_s
    patience_s = OVERLAP_S if speaker.focus in active else TAKEOVER_S
    due_s = max(since_s + patience_s, speaker.changed_at_s + HOLD_S)
    if now_s >= due_s:
        return _settled(speaker, loudest, loudest, now_s)
    return replace(speaker, challenger=loudest, challenging_since_s=since_s, recheck_at_s=due_s)


def _settled(speaker: ActiveSpeaker, focus: str | None, loudest: str | None, now_s: float) -> ActiveSpeaker:
    return ActiveSpeaker(
        focus,
        focus is not None and (speaker.spoken or focus == loudest),
        None,
        now_s,
        speaker.changed_at_s if focus == speaker.focus else now_s,
    )
