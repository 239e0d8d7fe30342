"""Queues packets for a peer that may be slow or away: the queue is bounded, and always begins where a decoder
can. Pure."""

from collections import deque

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from openegress.media import Packet


class LiveQueue:
    """A queue that drops live media rather than delaying it without end: whole groups of pictures, oldest
    first."""

    def __init__(self, *, has_video: bool, max_s: float = 10.0, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._has_video = has_video
        self._max_s = max_s
        self._max_bytes = max_bytes
        self._queue: deque[Packet] = deque()
        self._bytes = 0
        self._needs_key = has_video
        self.dropped = 0
        """Number of packets that were not sent."""

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def awaits_key(self) -> bool:
        """Whether nothing can be sent before the next key frame."""
        return self._needs_key

    def put(self, packet: Packet) -> None:
        if self._needs_key and not self._is_start(packet):
            self.dropped += 1
            return
        self._needs_key = False
        self._queue.append(packet)
        self._bytes += len(packet.data)
        if self._is_over():
            self.restart()
            if self._is_over():
                self._drop(len(self._queue))
                self._needs_key = self._has_video

    def pop(self) -> Packet:
        """Removes and returns the oldest packet. Raises IndexError when empty."""
        packet = self._queue.popleft()
        self._bytes -= len(packet.data)
        return packet

    def restart(self) -> None:
        """Prepares for a new connection: the queue begins with the newest key frame, or the next one to come.
        Sound alone begins with the newest packets."""
        starts = [n for n, packet in enumerate(self._queue) if self._is_start(packet)]
        if starts:
            self._drop(starts[-1])
        else:
            self._drop(len(self._queue))
            self._needs_key = self._has_video

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self.pop()
        self.dropped += count

    def _is_start(self, packet: Packet) -> bool:
        return packet.is_key and (packet.kind is MediaKind.VIDEO or not self._has_video)

    def _is_over(self) -> bool:
        if not self._queue:
            return False
        span_ns = self._queue[-1].pts_ns - self._queue[0].pts_ns
        return self._bytes > self._max_bytes or span_ns > self._max_s * S
