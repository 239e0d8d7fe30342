"""Who has the floor. The focus follows the loudest speaker, but not a cough, and not every second. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

TAKEOVER_S = 0.5
"""A new speaker has the floor after this long when the old one is silent: longer than a "yes"."""
OVERLAP_S = 2.0
"""... and after this long when both speak."""
HOLD_S = 1.0
"""Nobody loses the floor sooner than this: a picture needs time to be seen."""


@dataclass(frozen=True, slots=True)
class ActiveSpeaker:
    focus: str | None = None
    """Identity."""
    spoken: bool = False
    """Somebody has spoken; before that the focus is only the first who came."""
    challenger: str | None = None
    challenging_since_s: float = 0.0
    changed_at_s: float = float("-inf")
    recheck_at_s: float | None = None
    """When to step again though nothing has happened; None: not needed."""


def step(floor: ActiveSpeaker, active: Sequence[str], eligible: Sequence[str], now_s: float) -> ActiveSpeaker:
    """The floor at `now_s`. `active` speak now, the loudest first; `eligible` may have the floor, the
    preferred first."""
    loudest = next((identity for identity in active if identity in eligible), None)
    preferred = loudest or (eligible[0] if eligible else None)
    if floor.focus is None or floor.focus not in eligible or not floor.spoken:
        return _settled(floor, preferred, loudest, now_s)
    if loudest is None or loudest == floor.focus:
        return _settled(floor, floor.focus, loudest, now_s)
    since_s = floor.challenging_since_s if loudest == floor.challenger else now_s
    patience_s = OVERLAP_S if floor.focus in active else TAKEOVER_S
    due_s = max(since_s + patience_s, floor.changed_at_s + HOLD_S)
    if now_s >= due_s:
        return _settled(floor, loudest, loudest, now_s)
    return replace(floor, challenger=loudest, challenging_since_s=since_s, recheck_at_s=due_s)


def _settled(floor: ActiveSpeaker, focus: str | None, loudest: str | None, now_s: float) -> ActiveSpeaker:
    return ActiveSpeaker(
        focus,
        focus is not None and (floor.spoken or focus == loudest),
        None,
        now_s,
        floor.changed_at_s if focus == floor.focus else now_s,
    )
