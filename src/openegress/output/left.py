"""Holds what an earlier process has reported of an output, for the process that continues it. Pure."""

from dataclasses import dataclass

from openegress.core.events import FileUpdate, StreamUpdate
from openegress.core.plan import StreamTarget


@dataclass(frozen=True, slots=True)
class LeftStream:
    """A URL that the earlier process has sent to, or was about to."""

    target: StreamTarget
    told: StreamUpdate | None = None
    """The last update of the stream."""


@dataclass(frozen=True, slots=True)
class LeftOutput:
    """The reports of one output; empty for a new output."""

    parts: tuple[FileUpdate, ...] = ()
    """The parts of a file, in order: the next one begins now. Empty: the existing file continues."""
    streams: tuple[LeftStream, ...] = ()
    """Streams by number."""
    websocket: StreamUpdate | None = None


NOTHING_LEFT = LeftOutput()
