"""Finds when a recording last had audible sound."""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openegress.core.codecs import AudioCodec, MediaKind
from openegress.media import Packet, StreamFormat
from openegress.media.decoder import AudioDecoder
from openegress.media.pause_probe import DTX_BYTES

HEARD = 104
"""Level of audible sound: -50 dB of full scale, as the root mean square of a block. A quiet voice reaches -40
dB, and a browser's noise suppression leaves less than -60 dB of a room."""


class Hearing:
    """The time of the last audible sound. The thread that brings sound sets it, others read it. Sound is
    ignored until listening is on."""

    def __init__(self) -> None:
        self.is_on = False
        self.last_s = time.monotonic()

    def listen(self, samples: NDArray[np.int16]) -> None:
        if len(samples) and float(np.mean(np.square(samples, dtype=np.float32))) >= HEARD**2:
            self.last_s = time.monotonic()


class SoundTap:
    """A FrameSink that listens to raw sound."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing

    def video(self, frame: object, pts_ns: int) -> None:
        """Ignores pictures."""

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        if self._hearing.is_on:
            self._hearing.listen(np.frombuffer(samples, np.int16))

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        """Ignores pauses: the caller that pauses restarts the count."""


class SoundProbe:
    """A PacketSink that decodes the sound of tracks as it comes, to listen to it."""

    def __init__(self, hearing: Hearing, formats: Sequence[StreamFormat]) -> None:
        self._hearing = hearing
        sounds = [form.codec for form in formats if isinstance(form.codec, AudioCodec)]
        self._codec = sounds[0] if sounds else None
        self._decoders: dict[int, AudioDecoder] = {}
        """Decoders by track number."""

    def write(self, packet: Packet) -> None:
        if not self._hearing.is_on or packet.kind is not MediaKind.AUDIO:
            return
        number = packet.track.number if packet.track is not None else 0
        codec = packet.track.form.codec if packet.track is not None else self._codec
        if not isinstance(codec, AudioCodec) or len(packet.data) <= DTX_BYTES:
            return
        if number not in self._decoders:
            self._decoders[number] = AudioDecoder(codec)
        self._hearing.listen(self._decoders[number].decode(packet.data))
