"""Reports encrypted tracks that a recording wants but cannot decrypt, each once, and counts them as left
out."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from openegress.core.left_out import TrackLosses
from openegress.core.units import MS
from openegress.room import Lock, Track

MAX_TOLD = 1000
"""Limit for locked tracks; further ones are neither reported nor counted."""


@dataclass(slots=True)
class _Locked:
    identity: str
    lock: Lock
    out_ns: int = 0
    since_ns: int | None = None
    """Since when the track has been locked, monotonic; None: it sends nothing, or can now be decrypted."""


class LockedTracks:
    """The locked tracks of one recording."""

    def __init__(
        self,
        lock_of: Callable[[Track], Lock | None],
        notice: Callable[..., None],
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._lock_of = lock_of
        self._notice = notice
        self._now_ns = now_ns
        self._known: dict[str, _Locked] = {}
        self._problem = ""
        """Why the key service did not answer the last time."""

    def answered(self, problem: str) -> None:
        """Reports why the key service did not answer; "": it did."""
        if problem and problem != self._problem:
            self._notice("no answer from the key service", reason=problem)
        self._problem = problem

    def why(self, track: Track) -> str:
        """The problem to report about an awaited track; "": it can be recorded, or that may turn out soon."""
        lock = self._lock_of(track)
        return f"is end-to-end encrypted, and {self._text(lock)}" if lock and lock is not Lock.AWAITED else ""

    def look(self, tracks: Iterable[Track], is_wanted: Callable[[Track], bool]) -> None:
        """Checks the tracks; call it after any change in the room. `is_wanted`: whether a track is recorded,
        or would be."""
        now_ns = self._now_ns()
        locked = {
            track.sid: (track, lock)
            for track in tracks
            if (lock := self._lock_of(track)) is not None and is_wanted(track)
        }
        for sid, known in self._known.items():
            if known.since_ns is not None and (sid not in locked or locked[sid][0].muted):
                known.out_ns += now_ns - known.since_ns
                known.since_ns = None
        for sid, (track, lock) in locked.items():
            if lock is Lock.AWAITED and sid not in self._known:
                continue
            self._count(track, lock, now_ns)

    def _count(self, track: Track, lock: Lock, now_ns: int) -> None:
        identity = track.participant.identity
        known = self._known.get(track.sid)
        if known is None:
            if len(self._known) >= MAX_TOLD:
                return
            text = "track left out: it is end-to-end encrypted"
            self._notice(text, track=track.sid, identity=identity, reason=self._text(lock))
            known = self._known[track.sid] = _Locked(identity, lock)
        if known.since_ns is None and not track.muted:
            known.since_ns = now_ns

    def losses(self) -> list[TrackLosses]:
        """The locked tracks, each with the time that it was locked."""
        now_ns = self._now_ns()
        told = []
        for sid, known in self._known.items():
            out_ns = known.out_ns + (now_ns - known.since_ns if known.since_ns is not None else 0)
            why = f"it is end-to-end encrypted, and {known.lock}"
            if out_ns >= MS:
                told.append(TrackLosses(sid, known.identity, left_out_ms=out_ns // MS, left_out_why=why))
        return told

    def _text(self, lock: Lock) -> str:
        return f"{lock}: {self._problem}" if lock is Lock.NOT_GIVEN and self._problem else str(lock)
