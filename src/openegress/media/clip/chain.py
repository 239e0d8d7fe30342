"""Reads a clip's source that lies in several consecutive files."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import MS, S
from openegress.media import Packet, StreamFormat
from openegress.media.clip.source import ClipPart, ClipSource

_UNLIKE_NS = 100 * MS
"""Limit for the difference between a file's stated start and the end of the sound before it; a larger one is
a gap."""


class ChainedSource:
    """A ClipSource of several files. Sound continues where that of the previous file ended, to the sample,
    and pictures move with it."""

    def __init__(self, parts: Sequence[ClipPart]) -> None:
        """`parts`: parts of one recording, in order; `late_ns` of each is where it begins, below zero."""
        self._first = ClipSource(parts[0])
        self.video_codec: VideoCodec | None = self._first.video_codec
        self.audio_codec: AudioCodec | None = self._first.audio_codec
        self._others = parts[1:]
        self._sound_end: Fraction | None = None
        """End of the sound so far, in seconds of the recording."""

    @property
    def reorders(self) -> bool:
        return self._first.reorders

    @property
    def stored_size(self) -> tuple[int, int]:
        return self._first.stored_size

    def audio_format(self) -> StreamFormat:
        return self._first.audio_format()

    def packets(self, begin_ns: int) -> Iterator[Packet]:
        yield from self._heard(self._first.packets(begin_ns))
        for part in self._others:
            source = ClipSource(replace(part, late_ns=0))
            try:
                yield from self._heard(self._behind(source, -part.late_ns))
            finally:
                source.close()

    def close(self) -> None:
        self._first.close()

    def _heard(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        for packet in packets:
            if packet.kind is MediaKind.AUDIO:
                self._sound_end = (packet.pts + packet.duration) * packet.time_base
            yield packet

    def _behind(self, source: ClipSource, told_ns: int) -> Iterator[Packet]:
        """Yields the packets of `source`, moved to their place."""
        packets, waiting = source.packets(0), list[Packet]()
        begin = Fraction(told_ns, S)
        if self._sound_end is not None and source.audio_codec is not None:
            for packet in packets:
                waiting.append(packet)
                if packet.kind is MediaKind.AUDIO:
                    found = self._sound_end - packet.pts * packet.time_base
                    begin = found if abs(found - begin) * S < _UNLIKE_NS else begin
                    break
        for packet in waiting:
            yield packet.shifted(begin)
        for packet in packets:
            yield packet.shifted(begin)
