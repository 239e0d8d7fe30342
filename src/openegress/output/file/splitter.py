"""Decides where a part of a split file ends and the next one begins, and which packet lies in which. Pure.

A part begins with a key frame or, without pictures, with any packet of sound. What is presented before that
lies in the previous part, whenever it comes, and everything else in the new one: each packet is in one part.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from openegress.core.codecs import MediaKind
from openegress.core.plan import Split
from openegress.core.units import S
from openegress.media import Packet
from openegress.output.size_guard import HEADER_BYTES, SAMPLE_BYTES

MAX_HELD_NS = 5 * S
"""Limit for sound that waits for the key frame it may belong after. A muted camera sends none."""
RESERVE_S = 1.0
"""Length of the media that is written after a part is found to be full until a key frame has come."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A part that begins."""

    part: int
    """Number of the part, from 0."""
    at_ns: int
    """Start on the recording's timeline."""
    paused_ns: int = 0
    """Length of the pauses until then, which the timeline leaves out."""


@dataclass(frozen=True, slots=True)
class Written:
    """A packet of a part, in that part's own time."""

    part: int
    packet: Packet


@dataclass(frozen=True, slots=True)
class Complete:
    """A part for which no more packets come."""

    part: int


Step = Begun | Written | Complete


class FileSplitter:
    """Splits a file. Confined to one thread."""

    def __init__(
        self,
        split: Split,
        *,
        with_video: bool,
        with_audio: bool,
        ask_key: Callable[[int], None],
        begin_ns: int = 0,
    ) -> None:
        """`ask_key`: requests that the first picture at this time or later, in ns of the timeline, is a key
        frame. `begin_ns`: start of the first part."""
        self._split = split
        self._leader = MediaKind.VIDEO if with_video else MediaKind.AUDIO
        self._has_both = with_video and with_audio
        self._ask_key = ask_key
        self._begins_ns = {0: begin_ns}
        """Start of each part that sound may still come for, oldest first, and of the last part."""
        self._held: list[Packet] = []
        self._holds = True
        """Whether sound that may lie after the next split waits for it."""
        self._bytes = HEADER_BYTES
        self._full_ns: int | None = None
        """The time from which the part would become too large."""
        self._sound_ns = 0
        """The time up to which a part has sound."""
        if (due_ns := self._due_ns) is not None:
            ask_key(due_ns)

    def take(self, packet: Packet) -> Iterator[Step]:
        if packet.kind is not self._leader:
            yield from self._follow(packet)
            return
        if packet.is_key and self._is_due(packet.pts_ns):
            yield from self._begin(packet)
        yield self._written(self._last, packet)
        yield from self._complete(packet.pts_ns - MAX_HELD_NS)

    def flush(self) -> Iterator[Step]:
        """Returns the remaining steps at the end of the recording."""
        yield from self._release()
        yield from (Complete(part) for part in self._begins_ns)

    @property
    def _last(self) -> int:
        return max(self._begins_ns)

    @property
    def _due_ns(self) -> int | None:
        """The time from which a key frame begins the next part; None: size decides, and it is not reached."""
        if self._full_ns is not None:
            return self._full_ns
        every_ns = round(self._split.every_s * S)
        return self._begins_ns[self._last] + every_ns if every_ns else None

    def _is_due(self, at_ns: int) -> bool:
        # A nanosecond of rounding must not delay a split by a whole key frame.
        due_ns = self._due_ns
        return due_ns is not None and at_ns + S // 1000 >= due_ns

    def _follow(self, packet: Packet) -> Iterator[Step]:
        """Places sound of a recording that has pictures."""
        at_ns, due_ns = packet.pts_ns, self._due_ns
        if self._holds and due_ns is not None and at_ns >= due_ns:
            self._held.append(packet)
            if at_ns - due_ns > MAX_HELD_NS:
                self._holds = False
                yield from self._release()
            return
        yield from self._place(packet)

    def _begin(self, packet: Packet) -> Iterator[Step]:
        part = self._last + 1
        self._begins_ns[part] = packet.pts_ns
        self._bytes, self._full_ns, self._holds = HEADER_BYTES, None, True
        yield Begun(part, packet.pts_ns, packet.paused_ns)
        if not self._has_both:
            yield from self._complete(packet.pts_ns)
        if (due_ns := self._due_ns) is not None:
            self._ask_key(due_ns)
        yield from self._release()

    def _release(self) -> Iterator[Step]:
        held, self._held = self._held, []
        for packet in held:
            yield from self._place(packet)

    def _place(self, packet: Packet) -> Iterator[Step]:
        """Places sound, which is in order: sound after the start of a part ends the parts before."""
        yield from self._complete(packet.pts_ns)
        yield self._written(min(self._begins_ns), packet)

    def _complete(self, at_ns: int) -> Iterator[Step]:
        """Ends parts for which nothing can come any more once everything up to `at_ns` has come."""
        while len(self._begins_ns) > 1 and list(self._begins_ns.values())[1] <= at_ns:
            part = min(self._begins_ns)
            del self._begins_ns[part]
            yield Complete(part)

    def _written(self, part: int, packet: Packet) -> Written:
        begin_ns = self._begins_ns[part]
        if part == self._last:
            self._count(packet, packet.pts_ns - begin_ns)
        return Written(part, packet.shifted(Fraction(-begin_ns, S)) if begin_ns else packet)

    def _count(self, packet: Packet, length_ns: int) -> None:
        self._bytes += len(packet.data) + SAMPLE_BYTES
        if packet.kind is MediaKind.AUDIO:
            self._sound_ns = packet.pts_ns + 1
        if self._full_ns is not None or not self._split.every_bytes or length_ns < S // 2:
            return
        reserve = self._bytes / length_ns * RESERVE_S * S
        if self._bytes + reserve >= self._split.every_bytes:
            self._full_ns = max(packet.pts_ns, self._sound_ns)
            self._ask_key(self._full_ns)
