"""Limits the server's updates about participants on their way to the roster. Pure.

Each update lists all tracks of a participant. Somebody with hundreds of tracks who keeps changing their name
must not keep the recorder busy: beyond a budget only the newest update counts.
"""

from collections.abc import Iterable

from livekit.protocol.models import ParticipantInfo

from openegress.core.token_bucket import RefillRate, TokenBucket

COMPARED = RefillRate(10_000, 10_000)
"""Limit for compared tracks. Comparing one takes up to ten microseconds."""
FEW = 50
"""Number of tracks of one person that are compared at once, whatever others do."""
CATCH_UP_PAUSE_S = 0.1
"""Pause between checks of waiting updates."""


class ParticipantUpdates:
    def __init__(self) -> None:
        self._budget = TokenBucket(COMPARED)
        self._waiting: dict[str, ParticipantInfo] = {}
        """The newest update of each participant who waits, by identity."""

    @property
    def are_waiting(self) -> bool:
        return bool(self._waiting)

    def take(self, infos: Iterable[ParticipantInfo], now_ns: int) -> list[ParticipantInfo]:
        """The updates that apply now, in order. The others wait for due(), or until a newer update replaces
        them."""
        now = []
        for info in infos:
            waiting = self._waiting.get(info.identity)
            is_gone = info.state == ParticipantInfo.State.DISCONNECTED
            if waiting is not None:
                is_older_self = is_gone and waiting.sid != info.sid
                if waiting.sid == info.sid and info.version < waiting.version:
                    continue
                if not is_older_self:
                    del self._waiting[info.identity]
            if is_gone or self._has_time_for(info, now_ns):
                now.append(info)
            else:
                self._waiting[info.identity] = info
        return now

    def due(self, now_ns: int) -> list[ParticipantInfo]:
        """The waiting participants whose turn it is: those with few tracks come first."""
        due = []
        for info in sorted(self._waiting.values(), key=lambda each: len(each.tracks)):
            if not self._has_time_for(info, now_ns):
                break
            due.append(self._waiting.pop(info.identity))
        return due

    def clear(self) -> None:
        """Drops all waiting updates: the whole room is listed again."""
        self._waiting.clear()

    def _has_time_for(self, info: ParticipantInfo, now_ns: int) -> bool:
        if len(info.tracks) <= FEW:
            return True
        if self._budget.left(now_ns) <= 0:
            return False
        self._budget.spend(len(info.tracks), now_ns)
        return True
