"""Defines the sources of media: web pages and rooms.

A source is prepared (browser started and page loaded, or room joined and tracks there), started (media time
zero), and stopped. It reports events, and never touches an output.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from openegress.core.end_rules import EndRules
from openegress.core.errors import EgressError
from openegress.core.events import EndReason, Rejoined
from openegress.core.left_out import TrackLosses
from openegress.core.pause_mode import PauseMode
from openegress.request.orders import Order
from openegress.room.events import RoomEvent

if TYPE_CHECKING:  # a browser is started before FFmpeg's libraries are loaded
    from openegress.media import FrameSink, PacketSink, StreamFormat


@dataclass(frozen=True, slots=True)
class AwaitsSignal:
    """Everything is ready, except that the page has not logged START_RECORDING."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The source has ended: the room ended, the participant left, or the page said END_RECORDING."""

    reason: EndReason = EndReason.SOURCE_CLOSED


@dataclass(frozen=True, slots=True)
class Failed:
    """The source cannot continue. What was recorded is kept."""

    error: EgressError


@dataclass(frozen=True, slots=True)
class Notice:
    """An event worth a line in the log: a page's console error, a reconnect, a muted track ..."""

    text: str
    fields: dict[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Muted:
    """The single recorded track was muted, or unmuted."""

    muted: bool
    at_ns: int
    """Unix ns."""


@dataclass(frozen=True, slots=True)
class OrderRequested:
    """An order from somebody who may change the recorder's participant, and who gets no answer."""

    order: Order


@dataclass(frozen=True, slots=True)
class Observed:
    """An event of the room, whatever it means for the recording. Sent only if they are wanted."""

    event: RoomEvent
    at_ns: int
    """Unix ns, on the clock of the frames."""


SourceEvent = AwaitsSignal | Closed | Failed | Muted | Notice | Observed | OrderRequested | Rejoined


@dataclass(frozen=True, slots=True)
class SourceStats:
    frames: int = 0
    unique_frames: int = 0
    dropped_frames: int = 0
    losses: tuple[TrackLosses, ...] = ()


class Source(Protocol):
    """A source of raw frames (web pages; rooms when they are transcoded)."""

    async def prepare(self) -> None:
        """Prepares everything up to the first frame. Raises EgressError naming its phase."""

    async def start(self, sink: "FrameSink") -> int:
        """Starts the media. Returns media time zero in unix ns."""

    def events(self) -> AsyncIterator[SourceEvent]:
        """From prepare() to close(); the iterator ends after close()."""

    async def stop(self) -> None:
        """No frame reaches the sink after this returns. Idempotent."""

    async def close(self) -> None:
        """After stop(). Idempotent; leaves no process, file, connection or thread."""

    def now_ns(self) -> int:
        """The time up to which media is due, on the recording's timeline; 0 before start(). Any thread may
        call it."""

    def stats(self) -> SourceStats: ...


class Pausable(Protocol):
    """A source that can pause. If the pause is cut, later media lies on the timeline as if that time had not
    passed; if it is held, the recording shows a card, with silence. A room is not received meanwhile; a page
    keeps running, but is not captured."""

    async def pause(self, mode: PauseMode) -> int:
        """Stops receiving or capturing. Returns since when, in unix ns."""

    async def resume(self) -> int:
        """Continues after a pause. Returns when media was back, in unix ns. Raises EgressError if it cannot
        come back."""


class Attended(Protocol):
    """A source that watches its room for reasons to end."""

    async def change_rules(self, rules: EndRules) -> None:
        """Replaces the rules that end the recording automatically."""


class PacketSource(Protocol):
    """A source of encoded frames, for outputs that take them as they come (rooms without transcoding)."""

    async def prepare(self) -> None:
        """Prepares everything up to the first key frame. Raises EgressError naming its phase."""

    def formats(self) -> "Sequence[StreamFormat]":
        """The format of each stream. Known after prepare()."""

    def name_values(self) -> dict[str, str]:
        """The filename placeholders that only the room can fill: track_id, track_type, track_source,
        publisher_identity. Known after prepare()."""

    async def start(self, sink: "PacketSink") -> int:
        """Starts the packets. Returns media time zero in unix ns."""

    def events(self) -> AsyncIterator[SourceEvent]:
        """From prepare() to close(); the iterator ends after close()."""

    async def stop(self) -> None:
        """No packet reaches the sink after this returns. Idempotent."""

    async def close(self) -> None:
        """After stop(). Idempotent; leaves no connection or thread."""

    def stats(self) -> SourceStats: ...
