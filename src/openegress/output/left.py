"""What an earlier process has told of an output, for the one that goes on with it. Pure."""

from dataclasses import dataclass

from openegress.core.events import FileUpdate, StreamUpdate
from openegress.core.plan import StreamTarget


@dataclass(frozen=True, slots=True)
class LeftStream:
    """A URL that it has sent to, or was about to."""

    target: StreamTarget
    told: StreamUpdate | None = None
    """The last word of it."""


@dataclass(frozen=True, slots=True)
class LeftOutput:
    """Empty for an output that begins."""

    parts: tuple[FileUpdate, ...] = ()
    """Of a file, in order: the next one begins now. None: the file that is there goes on."""
    streams: tuple[LeftStream, ...] = ()
    """By number."""
    websocket: StreamUpdate | None = None


NOTHING_LEFT = LeftOutput()
