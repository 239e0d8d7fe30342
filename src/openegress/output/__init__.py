"""Outputs of a recording: files, segments, streams, images, websockets.

An output is opened with the formats of its streams, receives packets or raw frames through a bounded queue
and thread of its own, and finishes by itself: a failure of one output never affects another. It reports with
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
"""Emits an event. Thread-safe."""


@dataclass(slots=True)
class Opening:
    """What an output learns when media time zero is known."""

    formats: Sequence[StreamFormat]
    started_at_ns: int
    """Unix ns of media time zero. A source may correct it while it records."""
    spool: str
    """Folder of this egress on the local disk; an output's files lie below it until stored."""
    name_values: dict[str, str]
    """The values of all filename placeholders, including those of the track."""
    restart: Restart | None = None
    """The restart, if the output continues what lies in the spool; None: it is new."""
    gap_ns: int = 0
    """Length of the media missing since the previous process, on this machine or another."""
    late: LateUploads | None = None
    """The state of late uploads, for names under which earlier parts are stored: another recording may have
    written there since."""
    markers: Sequence[Marker] = ()
    """Markers of the earlier part, if the output continues one."""

    @property
    def goes_on_at_ns(self) -> int:
        """The time on the timeline at which the output begins; 0: at its start."""
        return self.restart.at_ns if self.restart is not None else 0


class Output(Protocol):
    """One output. Whether it takes packets or frames, output.build says."""

    def open(self, opening: Opening) -> None:
        """Starts the output. Raises EgressError when it cannot start at all (for example, when the disk is
        not writable)."""

    async def finish(self, ended_at_ns: int) -> None:
        """Drains, closes, uploads, and emits the final update. Raises EgressError when something was not
        stored; files on the local disk then stay there."""

    def size_bytes(self) -> int:
        """Number of bytes produced so far."""

    def waiting_uploads(self) -> int:
        """Number of objects that no storage has confirmed yet."""

    def records(self) -> Records:
        """Returns what the output stored, for the manifest; call it after finish()."""

    def is_settled(self) -> bool:
        """Whether nothing of the recording waits in the spool, however it ended; call it after finish()."""


class Flushable(Protocol):
    """An output that can flush."""

    async def written(self) -> None:
        """Returns when everything that it was given until now has reached its file, or it has failed."""


class Chaptered(Protocol):
    """An output with chapters."""

    def mark(self, marker: Marker) -> None:
        """Adds a marker. Call it from any thread, between open() and finish()."""
