"""What comes out: files, segments, streams, images, websockets.

An output is opened with the formats of its streams, fed packets (or raw frames) through its own bounded
queue and thread, and finished by itself: one output's trouble is never another's. It reports with
core.events through `emit`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from openegress.core.events import AnyEvent
from openegress.media import Packet, StreamFormat

Emit = Callable[[AnyEvent], None]
"""Thread-safe."""


@dataclass(slots=True)
class Opening:
    """What an output learns when media time zero is known."""

    formats: Sequence[StreamFormat]
    started_at_ns: int
    """Unix ns of media time zero. A source may find it more exactly while it records."""
    spool: str
    """Folder of this egress on the local disk; an output's files live below it until stored."""
    name_values: dict[str, str]
    """All filename placeholders, the track's included."""


class Output(Protocol):
    """An output fed with encoded packets."""

    def open(self, opening: Opening) -> None:
        """Raises EgressError when it cannot begin at all (disk not writable)."""

    def write(self, packet: Packet) -> None:
        """Queues; never blocks, never raises. A queue that overflows is this output's failure."""

    async def finish(self, ended_at_ns: int) -> None:
        """Drains, closes, uploads, emits the final update. Raises EgressError when something was not stored;
        whatever lies on the local disk then stays there."""

    def size_bytes(self) -> int:
        """Bytes produced so far."""
