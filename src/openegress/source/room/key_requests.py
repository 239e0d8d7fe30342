"""Decides when to request key frames for undecodable pictures: repeatedly, but less and less often. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from openegress.core.units import S

KEY_PAUSE_NS = S // 2
"""The pause after the first request for a key frame. It doubles with each request that did not help."""
LONGEST_KEY_PAUSE_NS = 30 * S
"""The longest pause: a key frame costs everybody in the room, so undecodable pictures must request few."""


@dataclass(frozen=True, slots=True)
class _Asked:
    next_ns: int
    pause_ns: int


class KeyRequests:
    """The requests for all tracks of a room. Times are media time."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}
        """The last request for each track that wants a key frame, by SID."""

    def due(self, wanted: Collection[str], now_ns: int) -> list[str]:
        """The SIDs to request a key frame from now, among those that need one."""
        if self._asked:
            self._asked = {sid: each for sid, each in self._asked.items() if sid in wanted}
        return [sid for sid in wanted if self._is_due(sid, now_ns)]

    def _is_due(self, sid: str, now_ns: int) -> bool:
        asked = self._asked.get(sid)
        if asked is not None and now_ns < asked.next_ns:
            return False
        pause_ns = min(asked.pause_ns * 2, LONGEST_KEY_PAUSE_NS) if asked else KEY_PAUSE_NS
        self._asked[sid] = _Asked(now_ns + pause_ns, pause_ns)
        return True
