"""From a source to packets, whichever way: raw frames through encoders, or encoded frames as they are.

A MediaInput is what a recording drives; it hides whether an encoder is in between.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from openegress.core.errors import Code, EgressError
from openegress.core.left_out import TrackLosses
from openegress.core.plan import Plan, StreamOutput
from openegress.media import FrameSink, Packet, PacketSink, StreamFormat
from openegress.media.pipeline import EncodePipeline
from openegress.source import PacketSource, Pausable, Source, SourceEvent


@dataclass(frozen=True, slots=True)
class Sample:
    """How the input is doing."""

    media_ns: int = 0
    frames: int = 0
    unique_frames: int = 0
    dropped_frames: int = 0
    queue: int = 0
    losses: tuple[TrackLosses, ...] = ()


class MediaInput(Protocol):
    passes_through: bool
    """Encoded frames reach the outputs as they come."""

    async def prepare(self) -> None:
        """Raises EgressError naming its phase."""

    async def start(self) -> int:
        """Starts the media, which is held until connect(). Returns media time zero in unix ns."""

    def formats(self) -> Sequence[StreamFormat]:
        """Known after prepare()."""

    def name_values(self) -> dict[str, str]:
        """The filename placeholders that only the source can fill. Known after prepare()."""

    def connect(self, sinks: Sequence[PacketSink], taps: Sequence[FrameSink]) -> None: ...

    def events(self) -> AsyncIterator[SourceEvent]: ...

    async def pause(self) -> int:
        """Neither receives nor records anything until resume(). Returns when it began, in unix ns. Raises
        EgressError, UNIMPLEMENTED, where the input cannot."""

    async def resume(self) -> int:
        """As pause(). Media is there again when this returns."""

    async def stop(self) -> None:
        """The last packet has reached the sinks when this returns. Idempotent. May hang with an encoder that
        does: the caller has the time-out."""

    async def close(self) -> None:
        """After stop(): gives back what the source holds. Idempotent."""

    def sample(self) -> Sample: ...


class FrameInput:
    """A source of raw frames and the encoders it needs."""

    passes_through = False

    def __init__(
        self,
        source: Source,
        plan: Plan,
        on_error: Callable[[EgressError], None],
        *,
        name_values: Callable[[], dict[str, str]] = dict,
        hold_s: float = 0.0,
        pauses: Pausable | None = None,
    ) -> None:
        """`on_error` is called from the encoding thread; `hold_s` is how long the encoder may hold the
        source back. `pauses` is the source, where it can be paused."""
        self._source = source
        self._name_values = name_values
        self._pauses = pauses
        steady = any(isinstance(output, StreamOutput) for output in plan.outputs)
        self._pipeline = EncodePipeline(
            plan.video, plan.audio, steady=steady, on_error=on_error, hold_s=hold_s
        )

    async def prepare(self) -> None:
        await self._source.prepare()

    async def start(self) -> int:
        return await self._source.start(self._pipeline)

    def formats(self) -> Sequence[StreamFormat]:
        return self._pipeline.formats

    def name_values(self) -> dict[str, str]:
        return self._name_values()

    def connect(self, sinks: Sequence[PacketSink], taps: Sequence[FrameSink]) -> None:
        self._pipeline.attach(sinks, taps)
        self._pipeline.start()

    def events(self) -> AsyncIterator[SourceEvent]:
        return self._source.events()

    async def pause(self) -> int:
        return await self._pausable().pause()

    async def resume(self) -> int:
        return await self._pausable().resume()

    def _pausable(self) -> Pausable:
        if self._pauses is None:
            raise _unpausable("a web page")
        return self._pauses

    async def stop(self) -> None:
        self._pipeline.expect_end()
        try:
            await self._source.stop()
        except Exception:
            await self._pipeline.finish()  # what the source gave until then is encoded all the same
            raise
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
        )


class PacketInput:
    """A source of encoded frames that the outputs take as they are."""

    passes_through = True

    def __init__(self, source: PacketSource) -> None:
        self._source = source
        self._buffer = _HoldBuffer()

    async def prepare(self) -> None:
        await self._source.prepare()

    async def start(self) -> int:
        return await self._source.start(self._buffer)

    def formats(self) -> Sequence[StreamFormat]:
        return self._source.formats()

    def name_values(self) -> dict[str, str]:
        return self._source.name_values()

    def connect(self, sinks: Sequence[PacketSink], taps: Sequence[FrameSink]) -> None:
        self._buffer.open(sinks)

    def events(self) -> AsyncIterator[SourceEvent]:
        return self._source.events()

    async def pause(self) -> int:
        raise _unpausable("tracks that are stored as they come")

    async def resume(self) -> int:
        raise _unpausable("tracks that are stored as they come")

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


def _unpausable(what: str) -> EgressError:
    return EgressError(Code.UNIMPLEMENTED, f"pause of {what} is not supported")


class _HoldBuffer:
    """Holds the first packets until the outputs are open. Fed from one thread, opened from another once."""

    def __init__(self) -> None:
        self._held: list[Packet] | None = []
        self._sinks: Sequence[PacketSink] = ()
        self.last_pts_ns = 0

    def write(self, packet: Packet) -> None:
        self.last_pts_ns = max(self.last_pts_ns, packet.pts_ns)
        if self._held is not None:
            self._held.append(packet)
            return
        for sink in self._sinks:
            sink.write(packet)

    def open(self, sinks: Sequence[PacketSink]) -> None:
        self._sinks = sinks
        held, self._held = self._held or [], None
        for packet in held:
            for sink in sinks:
                sink.write(packet)
