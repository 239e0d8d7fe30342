"""Turns a source into packets in either way: encodes raw frames, or passes encoded frames through.

A MediaInput is what a recording drives; it hides whether an encoder is in between.
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from openegress.core.codecs import EncoderSpeed, MediaKind
from openegress.core.end_rules import EndRules
from openegress.core.errors import EgressError
from openegress.core.left_out import QuickerEncoding, TrackLosses
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import LayoutSource, Plan, StreamOutput
from openegress.media import FrameSink, Packet, PacketSink, StreamFormat
from openegress.media.due_key_frames import PublishersKeyFrames
from openegress.media.held_packets import HeldPackets
from openegress.media.overlays import Overlays, OverlaySink
from openegress.media.pipeline import EncodePipeline
from openegress.request import look_options
from openegress.request.look_options import LookOptions
from openegress.request.options import text_of
from openegress.source import Attended, PacketSource, Pausable, Source, SourceEvent
from openegress.source.room.tracks_beside import TracksBeside


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of the input."""

    media_ns: int = 0
    frames: int = 0
    unique_frames: int = 0
    dropped_frames: int = 0
    queue: int = 0
    losses: tuple[TrackLosses, ...] = ()
    speed: EncoderSpeed | None = None
    """The encoder's current speed."""
    quicker: tuple[QuickerEncoding, ...] = ()


class MediaInput(Protocol):
    passes_through: bool
    """Whether encoded frames reach the outputs unchanged."""

    async def prepare(self) -> None:
        """Prepares the source. Raises EgressError with its phase."""

    async def start(self) -> int:
        """Starts the media, and holds it until connect(). Returns media time zero in unix ns."""

    def formats(self) -> Sequence[StreamFormat]:
        """The formats of the packets, known after prepare()."""

    def name_values(self) -> dict[str, str]:
        """The filename placeholders that only the source knows. Known after prepare()."""

    def connect(
        self, sinks: Sequence[PacketSink], taps: Sequence[FrameSink], tracks: Sequence[PacketSink] = ()
    ) -> None:
        """Connects the sinks. `tracks` are sinks for a room's tracks as they are, in addition to the encoded
        media, if requested."""

    def events(self) -> AsyncIterator[SourceEvent]: ...

    async def pause(self, mode: PauseMode) -> int:
        """Receives or captures nothing until resume(), and records nothing or a card. Returns when the pause
        began, in unix ns. Raises EgressError, UNIMPLEMENTED, if the input cannot pause."""

    async def resume(self) -> int:
        """Ends a pause; returns and raises like pause(). Media is available again when this returns."""

    async def change_rules(self, rules: EndRules) -> None:
        """Replaces the rules by which the room ends the recording."""

    async def change_looks(self, asked: LookOptions) -> None:
        """Changes what the options draw over the picture from now on. Raises EgressError, naming one, if the
        input draws nothing."""

    def key_frame_at(self, at_ns: int) -> None:
        """Makes the first picture at `at_ns` of the timeline or later a key frame. Any thread may call it."""

    async def stop(self) -> None:
        """Stops the input. When this returns, the last packet has reached the sinks. Idempotent. May hang if
        an encoder hangs: the caller has the time-out."""

    async def close(self) -> None:
        """Releases the source's resources, after stop(). Idempotent."""

    def sample(self) -> Sample: ...


class PausableSource(Source, Pausable, Protocol):
    """A source of raw frames."""


class DrawnRoom(Attended, Protocol):
    """A source of frames of a room."""

    @property
    def overlays(self) -> Overlays | None:
        """The overlays of its pictures, if any."""

    async def change_layout(self, metadata: str) -> None:
        """Applies the layout in the recorder's metadata."""


class AttendedPackets(PacketSource, Attended, Pausable, Protocol):
    """A source of encoded frames that watches its room."""

    def request_key_frames(self) -> None:
        """Requests a key frame for every picture track. Call it from the thread, or loop, of its packets."""


class FrameInput:
    """A source of raw frames, with the encoders it needs."""

    passes_through = False

    def __init__(
        self,
        source: PausableSource,
        plan: Plan,
        on_error: Callable[[EgressError], None],
        *,
        name_values: Callable[[], dict[str, str]] = dict,
        hold_s: float = 0.0,
        room: DrawnRoom | None = None,
        overlays: Overlays | None = None,
        beside: TracksBeside | None = None,
    ) -> None:
        """`on_error` is called from the encoding thread; `hold_s` is how long the encoder may hold the source
        back. `room` is the source if it records a room. `overlays` are drawn on its pictures, unless it draws
        them itself. `beside`: its tracks as they come."""
        self._source = source
        self._name_values = name_values
        self._room = room
        self._overlays = overlays
        self._plan = plan
        self._beside = beside
        steady = any(isinstance(output, StreamOutput) for output in plan.outputs)
        self._pipeline = EncodePipeline(
            plan.video,
            plan.audio,
            steady=steady,
            on_error=on_error,
            hold_s=hold_s,
            now_ns=source.now_ns,
            loudness_lufs=plan.loudness_lufs,
        )

    async def prepare(self) -> None:
        await self._source.prepare()

    async def start(self) -> int:
        if self._overlays is None:
            zero_ns = await self._source.start(self._pipeline)
        else:
            zero_ns = await self._source.start(OverlaySink(self._pipeline, self._overlays))
            self._overlays.zero_ns = zero_ns
        if self._beside is not None:
            await self._beside.start(zero_ns)
        return zero_ns

    def formats(self) -> Sequence[StreamFormat]:
        return self._pipeline.formats

    def name_values(self) -> dict[str, str]:
        return self._name_values()

    def connect(
        self, sinks: Sequence[PacketSink], taps: Sequence[FrameSink], tracks: Sequence[PacketSink] = ()
    ) -> None:
        self._pipeline.attach(sinks, taps)
        self._pipeline.start()
        if self._beside is not None:
            self._beside.connect(tracks)

    def events(self) -> AsyncIterator[SourceEvent]:
        return self._source.events()

    async def pause(self, mode: PauseMode) -> int:
        paused_ns = await self._source.pause(mode)
        if self._beside is not None:
            self._beside.pause(mode, paused_ns)
        return paused_ns

    async def resume(self) -> int:
        resumed_ns = await self._source.resume()
        if self._beside is not None:
            self._beside.resume(resumed_ns)
        return resumed_ns

    async def change_rules(self, rules: EndRules) -> None:
        if self._room is not None:
            await self._room.change_rules(rules)

    async def change_looks(self, asked: LookOptions) -> None:
        overlays = self._overlays if self._room is None else self._room.overlays
        if overlays is None:
            look_options.refuse_undrawn(asked, look_options.NO_PICTURE)
            return
        look_options.refuse_of_tiles(asked, self._plan.source)
        look_options.refuse_unknown_pictures(asked, self._plan.pictures)
        if self._room is not None and isinstance(self._plan.source, LayoutSource):
            await self._room.change_layout(json.dumps({"layout": f"?{text_of(asked)}"}))
        else:
            overlays.looks = look_options.changed(overlays.looks, asked)

    def key_frame_at(self, at_ns: int) -> None:
        self._pipeline.key_frame_at(at_ns)

    async def stop(self) -> None:
        self._pipeline.expect_end()
        try:
            await self._source.stop()
        except Exception:
            await self._pipeline.finish()  # encodes what the source gave until then
            raise
        if self._beside is not None:
            await self._beside.stop()
        await self._pipeline.finish()

    async def close(self) -> None:
        await self._source.close()

    def sample(self) -> Sample:
        stats = self._source.stats()
        return Sample(
            media_ns=self._pipeline.last_pts_ns,
            frames=stats.frames,
            unique_frames=stats.unique_frames,
            dropped_frames=stats.dropped_frames + self._pipeline.dropped_frames,
            queue=self._pipeline.queued_frames,
            losses=stats.losses,
            speed=self._pipeline.speed,
            quicker=self._pipeline.quicker,
        )


class PacketInput:
    """A source of encoded frames that the outputs take unchanged."""

    passes_through = True

    def __init__(self, source: AttendedPackets) -> None:
        self._source = source
        self._buffer = _HoldBuffer(source.request_key_frames)

    async def prepare(self) -> None:
        await self._source.prepare()

    async def start(self) -> int:
        return await self._source.start(self._buffer)

    def formats(self) -> Sequence[StreamFormat]:
        return self._source.formats()

    def name_values(self) -> dict[str, str]:
        return self._source.name_values()

    def connect(
        self, sinks: Sequence[PacketSink], taps: Sequence[FrameSink], tracks: Sequence[PacketSink] = ()
    ) -> None:
        self._buffer.open(sinks)

    def events(self) -> AsyncIterator[SourceEvent]:
        return self._source.events()

    async def pause(self, mode: PauseMode) -> int:
        return await self._source.pause(mode)

    async def resume(self) -> int:
        return await self._source.resume()

    async def change_rules(self, rules: EndRules) -> None:
        await self._source.change_rules(rules)

    async def change_looks(self, asked: LookOptions) -> None:
        look_options.refuse_undrawn(asked, look_options.STORED_UNCHANGED)

    def key_frame_at(self, at_ns: int) -> None:
        self._buffer.key_frame_at(at_ns)

    async def stop(self) -> None:
        await self._source.stop()

    async def close(self) -> None:
        await self._source.close()

    def sample(self) -> Sample:
        stats = self._source.stats()
        return Sample(
            media_ns=self._buffer.last_pts_ns,
            frames=stats.frames,
            unique_frames=stats.unique_frames,
            dropped_frames=stats.dropped_frames,
            losses=stats.losses,
        )


class _HoldBuffer:
    """Holds the first packets until the outputs are open, and requests key frames when they are due. One
    thread feeds it, another opens it once."""

    def __init__(self, request_key_frames: Callable[[], None]) -> None:
        self._request_key_frames = request_key_frames
        self._keys = PublishersKeyFrames()
        self._packets = HeldPackets()
        self.last_pts_ns = 0

    def write(self, packet: Packet) -> None:
        self.last_pts_ns = max(self.last_pts_ns, packet.pts_ns)
        is_key = packet.kind is MediaKind.VIDEO and packet.is_key
        if self._keys.asks(packet.pts_ns, is_key=is_key):
            self._request_key_frames()
        self._packets.write(packet)

    def open(self, sinks: Sequence[PacketSink]) -> None:
        self._packets.open(sinks)

    def key_frame_at(self, at_ns: int) -> None:
        """Requests a key frame at `at_ns`. Any thread may call it."""
        self._keys.ask(at_ns)
