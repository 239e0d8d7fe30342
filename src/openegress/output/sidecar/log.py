"""Writes the sidecars' log in the spool: a line for each event, appended as it happens."""

import contextlib
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import msgspec

from openegress.core.fair_share import FairShare
from openegress.output.disk_thread import DiskThread
from openegress.output.sidecar.entries import SAID, LogEntry, source_of

NAME = "sidecars.log.jsonl"

MAX_BYTES = 64 * 1024 * 1024
"""Limit for each kind of entry in a recording: some 400,000 events, and as much of what people send.
Strangers cause the entries, and share the limit."""
MAX_LINE_BYTES = 128 * 1024
MAX_PENDING_BYTES = 4 * 1024 * 1024
"""Limit for bytes that wait while the disk does not answer."""

_DECODER = msgspec.json.Decoder(LogEntry)


class SidecarLog:
    """The log of one recording. A thread of its own writes it: a hanging disk must not hold up the recorder.
    Failures are counted, and have no other effect."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._thread = DiskThread("sidecars")
        self._file: FileIO | None = None
        self._shares = (FairShare(MAX_BYTES), FairShare(MAX_BYTES))
        """Shares of events, and of what people send: a flood of messages must not hide who joined and
        left."""
        self._taken_bytes = 0
        self._done_bytes = 0
        self._unfit = 0
        self._refused = 0

    @property
    def left_out(self) -> int:
        """Number of entries that had no room, or that the disk refused."""
        return self._unfit + self._refused

    def append(self, entry: LogEntry) -> None:
        """Appends an entry. Never blocks, and never raises."""
        line = msgspec.json.encode(entry) + b"\n"
        size_bytes = len(line)
        if (
            size_bytes > MAX_LINE_BYTES
            or self._taken_bytes - self._done_bytes + size_bytes > MAX_PENDING_BYTES
            or not self._shares[entry.event in SAID].take(source_of(entry), size_bytes)
        ):
            self._unfit += 1
            return
        self._taken_bytes += size_bytes
        self._thread.submit(lambda: self._write(line))

    async def finish(self, timeout_s: float) -> None:
        """Returns when everything is in the file. Raises EgressError when the disk does not answer."""
        try:
            await self._thread.result(self._close, timeout_s)
        finally:
            self._thread.close()

    def _write(self, line: bytes) -> None:
        """Writes the whole line or nothing. Called in the thread."""
        self._done_bytes += len(line)
        try:
            if self._file is None:
                self._file = FileIO(self._path, "ab")
            end_bytes = self._file.seek(0, os.SEEK_END)
            if self._file.write(line) != len(line):
                self._file.truncate(end_bytes)
                self._refused += 1
        except OSError:
            self._refused += 1

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


def read(folder: Path) -> Iterator[LogEntry]:
    """Reads the entries of the log; none if there is no log. Text after the last line end was being written
    when the process died, and invalid entries were damaged by the disk. Raises OSError."""
    if not (folder / NAME).exists():
        return
    with (folder / NAME).open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                with contextlib.suppress(ValueError):
                    yield _DECODER.decode(line)
