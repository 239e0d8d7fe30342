"""A socket of a simulated call: packets wait in it until they are read, at the pace of room.transport.udp."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from openegress.core.units import S
from openegress.room.transport.udp import MAX_BATCH, ReadingPace

Take = Callable[[int, int], None]
"""Hands a packet to its receiver: (when it arrived, now), both in ns."""
At = Callable[[int, Callable[[int], None]], None]
"""Has something happen at a time in ns."""
ROOM = 3640
"""Datagrams that a socket holds, with the buffer that is asked for."""


@dataclass(frozen=True, slots=True)
class Span:
    at_ns: int
    long_ns: int

    @property
    def end_ns(self) -> int:
        return self.at_ns + self.long_ns

    def holds(self, at_ns: int) -> bool:
        return self.at_ns <= at_ns < self.end_ns


@dataclass(frozen=True, slots=True)
class Reading:
    """How the recorder's event loop reads its socket."""

    relaxed_ns: int | None = None
    """From when on nobody waits for the packets; None: each is read as it arrives."""
    busy: tuple[Span, ...] = ()
    """Nothing is read, as the loop is busy with other work."""

    def free_ns(self, now_ns: int) -> int:
        """When the loop gets to work that is due now."""
        return next((span.end_ns for span in self.busy if span.holds(now_ns)), now_ns)


class SimulatedSocket:
    """Mirrors room.transport.udp.BatchedUdp."""

    def __init__(self, at: At, reading: Reading) -> None:
        self._at = at
        self._reading = reading
        self._waiting: deque[tuple[int, Take]] = deque()
        self._pace = ReadingPace(ROOM)
        self._pauses = False
        self._resume_ns = 0
        """When the pause ends."""
        if reading.relaxed_ns is not None:
            at(reading.relaxed_ns, lambda now_ns: self._pace.batch_reads())
        for span in reading.busy:
            at(span.end_ns, self.drain)

    def arrive(self, take: Take, now_ns: int) -> None:
        self._waiting.append((now_ns, take))
        if self._reading.free_ns(now_ns) > now_ns:
            return
        if self._reading.relaxed_ns is None:
            self.drain(now_ns)
        elif not self._pauses:
            if self._pace.is_close(now_ns / S):
                self._read_batch(now_ns, begins=True)
            else:
                self._read(now_ns)

    def drain(self, now_ns: int) -> None:
        count = self._take(len(self._waiting), now_ns)
        if self._pauses:
            self._begin_pause(count, now_ns)

    def _read(self, now_ns: int) -> None:
        arrival_ns, take = self._waiting.popleft()
        take(arrival_ns, now_ns)

    def _take(self, most: int, now_ns: int) -> int:
        count = 0
        while self._waiting and count < most:
            self._read(now_ns)
            count += 1
        return count

    def _read_batch(self, now_ns: int, *, begins: bool = False) -> None:
        free_ns = self._reading.free_ns(now_ns)
        if free_ns > now_ns:
            self._at(free_ns, self._read_batch)
            return
        if now_ns < self._resume_ns:
            return  # the pause has begun anew
        count = self._take(MAX_BATCH, now_ns)
        self._pauses = begins or count > 1
        if self._pauses:
            self._begin_pause(count, now_ns)

    def _begin_pause(self, count: int, now_ns: int) -> None:
        self._resume_ns = now_ns + round(self._pace.pause_s(count, now_ns / S) * S)
        self._at(self._resume_ns, self._read_batch)
