"""Where the log goes: complete lines of bounded length, at a bounded rate. A client that makes the service
log a thousand lines a second cannot fill the disk."""

import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

from openegress.core.text import shown

MAX_LINE_CHARS = 16_384
"""Enough for a traceback of a hundred frames. Longer records quote somebody else's data."""
BYTES_PER_S = 32 * 1024
"""Sustained rate: 2.8 GB a day, which still fits a disk whose log is rotated daily."""
BURST_BYTES = 1024 * 1024
"""Burst: many recordings start together, or a service starts and lists everything it found."""
RESERVED = 0.25
"""The share of a burst that is reserved for warnings and errors: other lines must not crowd them out."""


class Budget:
    """How many bytes may be written now. Pure, with a clock passed in."""

    def __init__(self, bytes_per_s: float, burst_bytes: float, now_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._burst_bytes = burst_bytes
        self._left_bytes = burst_bytes
        self._at_s = now_s

    def take(self, size_bytes: int, now_s: float, *, important: bool) -> bool:
        """Whether this many bytes may be written now; if so, they count as written."""
        gained = (now_s - self._at_s) * self._bytes_per_s
        self._left_bytes = min(self._burst_bytes, self._left_bytes + gained)
        self._at_s = now_s
        kept_bytes = 0.0 if important else RESERVED * self._burst_bytes
        if self._left_bytes - size_bytes < kept_bytes:
            return False
        self._left_bytes -= size_bytes
        return True


class LogStream(logging.StreamHandler[TextIO]):
    """Writes records to standard error. It never raises, and never logs its own failures."""

    def __init__(self, stream: TextIO | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream or sys.stderr)
        self._now_s = now_s
        self._budget = Budget(BYTES_PER_S, BURST_BYTES, now_s())
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(record)
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Drops a line that cannot be written (the stream is full or closed, or a value has no text). The
        default, a traceback to the same stream, would make it worse."""
        self._left_out += 1

    def _write(self, record: logging.LogRecord) -> None:
        line = one_record(self.format(record))
        size_bytes = len(line.encode(errors="backslashreplace"))
        important = record.levelno >= logging.WARNING
        if not self._budget.take(size_bytes, self._now_s(), important=important):
            self._left_out += 1
            return
        if self._left_out:
            count, self._left_out = self._left_out, 0
            note = logging.makeLogRecord(
                {
                    "name": __name__,
                    "levelno": logging.WARNING,
                    "levelname": "WARNING",
                    "msg": "%d lines of the log are left out: more than %d bytes a second are not written",
                    "args": (count, BYTES_PER_S),
                }
            )
            self.stream.write(self.format(note) + self.terminator)
        self.stream.write(line.encode(errors="backslashreplace").decode() + self.terminator)
        self.flush()


def one_record(text: str) -> str:
    """A record's text, cut to the limit. Further lines (a traceback) are indented, so that none looks like a
    separate record."""
    if len(text) > MAX_LINE_CHARS:
        text = f"{text[:MAX_LINE_CHARS]}… ({len(text)} characters)"
    first, *others = text.splitlines() or [""]
    return "\n".join([first, *(f"    {shown(line, MAX_LINE_CHARS)}" for line in others)])
