"""Composes a meeting after it has ended: the tracks of a file go through the compositor and mixer of live
recordings, as fast as possible and without dropping pictures."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from openegress.core.layout_spec import LayoutSpec
from openegress.core.looks import Looks, PictureFiles
from openegress.core.plan import AudioRoute, LayoutSource, Plan, VideoEncoding
from openegress.core.units import S
from openegress.media import FrameSink
from openegress.media.canvas import Canvas
from openegress.media.meeting_file import MeetingFile, MeetingPacket
from openegress.media.meeting_track import PREROLL_NS
from openegress.media.mixer import BLOCK_SAMPLES
from openegress.media.overlays import Overlays
from openegress.media.samples import SAMPLE_RATE
from openegress.request import layouts
from openegress.room.budget import UnhurriedDecoding
from openegress.source.room.clock import Slots
from openegress.source.room.composite.layout_policy import LayoutPolicy
from openegress.source.room.composite.rectangles import Size
from openegress.source.room.compositor import Compositor
from openegress.source.room.meeting_history import RoomMoment
from openegress.source.room.meeting_lines import MeetingLine
from openegress.source.room.packet_frames import AHEAD_NS, PacketFrames
from openegress.source.room.selection import NOTHING
from openegress.source.room.track_policy import RoomState


@dataclass(frozen=True, slots=True)
class View:
    """How the meeting is shown."""

    layout: str
    """A name from request.layouts or `specs`."""
    routes: tuple[AudioRoute, ...] = (AudioRoute("all"),)
    """Which sound goes where; empty: a picture without sound."""
    looks: Looks = field(default_factory=Looks)
    pictures: PictureFiles = field(default_factory=PictureFiles)
    specs: tuple[LayoutSpec, ...] = ()
    zero_ns: int = 0
    """Unix time of media time zero, for clocks over the picture; 0: now."""

    @classmethod
    def of_plan(cls, plan: Plan, source: LayoutSource, zero_ns: int) -> "View":
        return cls(source.layout, source.audio, plan.looks, plan.pictures, source.specs, zero_ns)


class Composition:
    """Composes one meeting. Run it once, in one thread."""

    def __init__(
        self,
        file: MeetingFile | None,
        lines: Sequence[MeetingLine],
        moments: Iterable[RoomMoment],
        view: View,
        video: VideoEncoding,
    ) -> None:
        """`file`: None if no participant sent anything. `lines`: the lines of its tracks."""
        self._moments = iter(moments)
        self._moment = next(self._moments, None)
        """The next moment."""
        self._lines = {track.index: line for line in lines for track in line.tracks}
        """The lines, by the index of a file track."""
        self._tracks = {track.index: track for line in lines for track in line.tracks}
        self._policy = LayoutPolicy(
            layouts.parse(view.layout, view.specs),
            Size(video.width, video.height),
            video.framerate,
            view.routes,
            looks=view.looks,
            pictures=view.pictures,
            specs=view.specs,
        )
        self._compositor = Compositor(
            Canvas(video.width, video.height),
            video.framerate,
            with_audio=bool(view.routes),
            overlays=Overlays(video.width, video.height, view.looks, view.pictures),
            decoding=UnhurriedDecoding,
        )
        self._compositor.begin(view.zero_ns)
        self._framerate = video.framerate
        self._frames = PacketFrames()
        self._stopped = threading.Event()
        self._selection = NOTHING
        self._state = RoomState((), ())
        self._file = file
        self._begins_ns: dict[int, int] = {}
        """Where decoding of each track begins."""
        self._packets: Iterator[MeetingPacket] = iter(())
        self._packet: MeetingPacket | None = None

    def give(
        self, sink: FrameSink, from_s: int, to_ns: int, on_second: Callable[[int], None] = lambda at_s: None
    ) -> None:
        """Gives media from `from_s` (whole seconds, where picture slots and sound blocks begin together) to
        `to_ns`. `on_second` is called after each second of media, and may block."""
        slots, blocks = Slots(self._framerate), Slots(SAMPLE_RATE // BLOCK_SAMPLES)
        zero_ns, done_s = from_s * S, 0
        first_s = self._seek(zero_ns)
        slots.next = first_s * self._framerate
        blocks.next = max(first_s, from_s - PREROLL_NS // S) * SAMPLE_RATE // BLOCK_SAMPLES
        while (slot_ns := slots.next_ns) < to_ns and not self._stopped.is_set():
            self._read_until(slot_ns + AHEAD_NS)
            while blocks.at_ns(blocks.next + 1) <= slot_ns:
                self._give_sound(sink, blocks, zero_ns)
            # Earlier media is decoded as far as later pictures need it, and drawn now and then.
            if slot_ns >= zero_ns or slots.next % self._framerate == 0:
                picture = self._compositor.picture(slot_ns)
                if slot_ns >= zero_ns:
                    sink.video(picture, slot_ns - zero_ns)
            slots.next += 1
            if (slot_ns - zero_ns) // S > done_s:
                done_s = (slot_ns - zero_ns) // S
                on_second(done_s)
        while blocks.at_ns(blocks.next + 1) <= to_ns and not self._stopped.is_set():
            self._give_sound(sink, blocks, zero_ns)

    def stop(self) -> None:
        """Ends give() soon, or at once if it has not begun. Any thread may call it."""
        self._stopped.set()

    def _seek(self, to_ns: int) -> int:
        """Where reading begins, in whole seconds: each picture needs its key frame."""
        self._begins_ns = {
            index: line.begin_for(to_ns) if to_ns else 0 for index, line in self._lines.items()
        }
        first_s = max(0, min(self._begins_ns.values(), default=0)) // S
        if self._file is not None:
            self._packets = self._file.packets(first_s * S)
            self._packet = next(self._packets, None)
        return first_s

    def _give_sound(self, sink: FrameSink, blocks: Slots, zero_ns: int) -> None:
        samples = self._compositor.sound(blocks.next)
        if blocks.next_ns >= zero_ns:
            sink.audio(samples, blocks.next_ns - zero_ns, SAMPLE_RATE)
        blocks.next += 1

    def _read_until(self, until_ns: int) -> None:
        """Reads packets, and the changes in the room before each. The compositor shows a change at its time,
        but takes no media of a track before it knows the track."""
        while self._packet is not None and self._packet.at_ns <= until_ns:
            self._change_until(self._packet.at_ns)
            self._put(self._packet)
            self._packet = next(self._packets, None)
        self._change_until(until_ns)

    def _change_until(self, until_ns: int) -> None:
        while True:
            recheck_s = self._policy.recheck_at_s
            recheck_ns = round(recheck_s * S) if recheck_s is not None else None
            moment_ns = self._moment.at_ns if self._moment is not None else None
            due = [at_ns for at_ns in (recheck_ns, moment_ns) if at_ns is not None and at_ns <= until_ns]
            if not due:
                return
            at_ns = min(due)
            if self._moment is not None and at_ns == moment_ns:
                self._state = self._moment.state
                self._moment = next(self._moments, None)
            self._selection = self._policy.select(replace(self._state, now_s=at_ns / S), self._selection)
            self._compositor.select(self._selection, max(0, at_ns))

    def _put(self, packet: MeetingPacket) -> None:
        sid = self._lines[packet.index].sid
        known = next((each for each in self._state.tracks if each.sid == sid), None)
        if known is None or packet.at_ns < self._begins_ns[packet.index]:
            return  # the participant is absent according to the events, or the packet is useless
        frame = self._frames.of(self._tracks[packet.index], packet)
        self._compositor.put(known, packet.at_ns, frame)
