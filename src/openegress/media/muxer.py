"""Writes encoded packets into a container. One muxer belongs to one thread."""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, Protocol

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Stream

from openegress.core.codecs import (
    CONTAINER_AUDIO,
    CONTAINER_ENCODED_VIDEO,
    AudioCodec,
    Container,
    MediaKind,
    VideoCodec,
)
from openegress.core.errors import Code, EgressError, Fault, Phase, internal
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.interleave import Clamp, Interleaver
from openegress.media.streams import add_stream

FORMAT_NAME: dict[Container, str] = {
    Container.MP4: "mp4",
    Container.OGG: "ogg",
    Container.MP3: "mp3",
    Container.WEBM: "webm",
    Container.TS: "mpegts",
    Container.FMP4: "mp4",
    Container.FLV: "flv",
}
"""FFmpeg's muxer name for each container."""

MAX_DELAY_NS = 2 * S
"""How long a packet waits for the other stream: longer than an encoder's delay, but short for a viewer."""


class ByteSink(Protocol):
    """Takes a container's bytes; PyAV's interface of a file. An OSError from it comes out of Muxer's methods.

    With seek() and tell() it is a file, without them a stream. FFmpeg writes no trailer to it once it is
    `closed`.
    """

    def write(self, data: bytes) -> int: ...


class _State(Enum):
    NEW = auto()
    OPEN = auto()
    CLOSED = auto()


class Muxer:
    """Writes packets of at most one audio and one video stream into a container.

    `target` is a path, a URL, or an open ByteSink, which the caller still owns. `options` are FFmpeg's muxer
    options. `max_delay_ns` bounds how long a packet waits for the other stream. `offset_ns` is added to every
    time.

    Confined to one thread. FFmpeg's failures come out unchanged (av.error.FFmpegError, OSError), because
    their meaning depends on the target.
    """

    def __init__(
        self,
        target: str | ByteSink,
        container: Container,
        formats: Sequence[StreamFormat],
        options: Mapping[str, str] | None = None,
        *,
        format_name: str = "",
        max_delay_ns: int = MAX_DELAY_NS,
        offset_ns: int = 0,
    ) -> None:
        check_fit(container, formats)
        self._target = target
        self._format_name = format_name or FORMAT_NAME[container]
        self._formats = tuple(formats)
        self._options = {
            # Packets are already in order: FFmpeg's own interleaving must not wait 10 s for a silent stream.
            "max_interleave_delta": "1000",
            **(options or {}),
        }
        self._offset_ns = offset_ns
        self._interleaver = Interleaver((f.kind for f in formats), max_delay_ns)
        self._streams: dict[MediaKind, tuple[Stream, Clamp]] = {}
        self._container: OutputContainer | None = None
        self._state = _State.NEW

    def open(self) -> None:
        """Writes the header. Raises FFmpegError or OSError; the muxer is then unusable."""
        if self._state is not _State.NEW:
            raise internal("a muxer was opened twice")
        self._state = _State.CLOSED
        target: Any = self._target
        container = av.open(target, "w", format=self._format_name, container_options=dict(self._options))
        streams = [(f.kind, add_stream(container, f)) for f in self._formats]
        container.start_encoding()
        for kind, stream in streams:
            if stream.time_base is None:
                raise internal(f"the {self._format_name} muxer gave its {kind} stream no time base")
            self._streams[kind] = (stream, Clamp(stream.time_base, self._offset_ns))
        self._container = container
        self._state = _State.OPEN

    def write(self, packet: Packet) -> None:
        """Takes a packet, and writes those that are due. Ignores packets of unknown streams."""
        if self._state is not _State.OPEN:
            raise internal(f"a packet was written to a muxer that is {self._state.name.lower()}")
        if packet.kind in self._streams:
            for each in self._interleaver.push(packet):
                self._mux(each)

    def flush(self) -> None:
        """Writes the packets that wait."""
        for each in self._interleaver.flush():
            self._mux(each)

    def close(self) -> None:
        """Writes the packets that wait, and the trailer. Idempotent. A failure leaves the muxer closed."""
        if self._state is not _State.OPEN:
            return
        try:
            self.flush()
        finally:
            self._state = _State.CLOSED
            if self._container is not None:
                self._container.close()
                self._container = None

    def abandon(self) -> None:
        """Closes without writing the packets that wait, for a lost connection. Never raises FFmpeg's errors.

        FFmpeg still tries its trailer, but not on a closed ByteSink.
        """
        if self._state is not _State.OPEN:
            return
        self._state = _State.CLOSED
        if self._container is not None:
            try:
                self._container.close()
            except (FFmpegError, OSError):
                # The failure that led here has been reported; this one repeats it.
                pass
            self._container = None

    def _mux(self, packet: Packet) -> None:
        assert self._container is not None
        stream, clamp = self._streams[packet.kind]
        out: av.Packet[Stream] = av.Packet(packet.data)
        out.pts, out.dts, out.duration = clamp.place(packet)
        out.stream = stream
        # Its time base stays unset, so that PyAV takes the stream's own.
        out.is_keyframe = packet.is_key
        self._container.mux(out)


def check_fit(container: Container, formats: Sequence[StreamFormat]) -> None:
    """Raises EgressError if the container does not support one of the codecs."""
    for f in formats:
        taken: tuple[AudioCodec | VideoCodec, ...] = (
            *CONTAINER_AUDIO[container],
            *CONTAINER_ENCODED_VIDEO[container],
        )
        if f.codec not in taken:
            names = ", ".join(codec.value for codec in taken)
            raise EgressError(
                Code.INVALID_ARGUMENT,
                f"{container.value} cannot hold {f.codec.value}; it takes {names}",
                fault=Fault.CALLER,
                phase=Phase.RECORDING,
            )
