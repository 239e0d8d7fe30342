"""Buffers sound for a receiver that may be slow or away. Pure."""

import json
from collections import deque

Message = bytes | str
"""s16le samples, or JSON for what samples cannot express."""


class SoundBuffer:
    """Messages in order. The oldest sound is dropped for new sound, and a gap is reported instead of it."""

    def __init__(self, max_bytes: int, bytes_per_ms: float) -> None:
        self._max_bytes = max_bytes
        self._bytes_per_ms = bytes_per_ms
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._lost_bytes = 0

    def __len__(self) -> int:
        return len(self._queue) + (1 if self._lost_bytes else 0)

    @property
    def sound_ms(self) -> int:
        """Length of the waiting sound, and of the gap that will be reported."""
        return round((self._bytes + self._lost_bytes) / self._bytes_per_ms)

    def put(self, message: Message) -> None:
        """Adds a message, and drops what exceeds the bound."""
        self._queue.append(message)
        if isinstance(message, bytes):
            self._bytes += len(message)
        while self._bytes > self._max_bytes:
            oldest = next(n for n, each in enumerate(self._queue) if isinstance(each, bytes))
            lost = self._queue[oldest]
            del self._queue[oldest]
            self._bytes -= len(lost)
            self._lost_bytes += len(lost)

    def unsent(self, message: Message) -> None:
        """Puts a message back to the front: it was taken, but did not get through."""
        self._queue.appendleft(message)
        if isinstance(message, bytes):
            self._bytes += len(message)

    def pop(self) -> Message:
        """Removes and returns the oldest message; a gap comes first. Raises IndexError when empty."""
        if self._lost_bytes:
            gap_ms, self._lost_bytes = round(self._lost_bytes / self._bytes_per_ms), 0
            return json.dumps({"gap_ms": gap_ms})
        message = self._queue.popleft()
        if isinstance(message, bytes):
            self._bytes -= len(message)
        return message
