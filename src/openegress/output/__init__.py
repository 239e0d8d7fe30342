"""What comes out: files, segments, streams, images, websockets.

An output is opened with the formats of its streams, fed packets or raw frames through its own bounded
queue and thread, and finished by itself: one output's trouble is never another's. It reports with
core.events through `emit`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from openegress.core.events import AnyEvent
from openegress.core.marker import Marker
from openegress.core.restart import Restart
from openegress.media import StreamFormat
from openegress.output.manifest import Records
from openegress.storage.late import LateUploads

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
    restart: Restart | None = None
    """It goes on behind what lies in the spool; None: it begins."""
    late: LateUploads | None = None
    """For what was made before, where it goes on: somebody else may have stored under its name since."""
    markers: Sequence[Marker] = ()
    """Of before, where it goes on."""

    @property
    def goes_on_at_ns(self) -> int:
        """Where on the timeline; 0: nothing lies before it."""
        return self.restart.at_ns if self.restart is not None else 0


class Output(Protocol):
    """One output, whatever it is fed; output.build says what that is."""

    def open(self, opening: Opening) -> None:
        """Raises EgressError when it cannot begin at all (disk not writable)."""

    async def finish(self, ended_at_ns: int) -> None:
        """Drains, closes, uploads, emits the final update. Raises EgressError when something was not stored;
        whatever lies on the local disk then stays there."""

    def size_bytes(self) -> int:
        """Bytes produced so far."""

    def waiting_uploads(self) -> int:
        """Objects made that no storage has confirmed yet."""

    def records(self) -> Records:
        """What it stored, for the manifest; after finish()."""

    def is_settled(self) -> bool:
        """Nothing that it recorded waits in the spool, however it ended; after finish()."""


class Patient(Protocol):
    """An output that can be waited for."""

    async def written(self) -> None:
        """Returns when all that it was given until now has reached its file, or it has failed."""


class Marked(Protocol):
    """An output that has chapters."""

    def mark(self, marker: Marker) -> None:
        """From any thread, between open() and finish()."""
