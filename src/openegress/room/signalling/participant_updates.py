"""What the server tells of participants, on its way to the roster. Pure.

Each time it tells of somebody it tells all of their tracks. Who has hundreds of them, and changes their name
all the time, must not keep the recorder busy: beyond a budget only the newest of what is told counts.
"""

from collections.abc import Iterable

from livekit.protocol.models import ParticipantInfo

from openegress.room.budget import RefillRate, TokenBucket

COMPARED = RefillRate(10_000, 10_000)
"""Tracks. To compare one takes up to ten microseconds."""
FEW = 50
"""Tracks of one person, which are compared at once, whatever others do."""
AGAIN_S = 0.1
"""What waits is looked at so often."""


class ParticipantUpdates:
    def __init__(self) -> None:
        self._budget = TokenBucket(COMPARED)
        self._waiting: dict[str, ParticipantInfo] = {}
        """By identity, the newest of each."""

    @property
    def are_waiting(self) -> bool:
        return bool(self._waiting)

    def take(self, infos: Iterable[ParticipantInfo], now_ns: int) -> list[ParticipantInfo]:
        """Those that count now, in order. The others wait, until something newer takes their place."""
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
        """Of those that wait, whose turn it is: those with few tracks before those with many."""
        due = []
        for info in sorted(self._waiting.values(), key=lambda each: len(each.tracks)):
            if not self._has_time_for(info, now_ns):
                break
            due.append(self._waiting.pop(info.identity))
        return due

    def clear(self) -> None:
        """The whole room is told anew."""
        self._waiting.clear()

    def _has_time_for(self, info: ParticipantInfo, now_ns: int) -> bool:
        if len(info.tracks) <= FEW:
            return True
        if self._budget.left(now_ns) <= 0:
            return False
        self._budget.spend(len(info.tracks), now_ns)
        return True
