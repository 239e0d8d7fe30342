"""An H.264 encoder that changes its speed while it runs, to suit the machine's load.

libx264 cannot change its preset once it is open. So another encoder takes over with a key frame and the same
parameter sets: muxers and decoders see one stream.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Protocol

import av
import msgspec

from openegress.core.codecs import EncoderSpeed
from openegress.core.left_out import QuickerEncoding
from openegress.core.plan import VideoEncoding
from openegress.core.units import MS
from openegress.media import Packet, StreamFormat
from openegress.media.encoder import VideoEncoder
from openegress.media.overload import Pressure
from openegress.media.speed_choice import SPEEDS, SpeedChoice

_log = logging.getLogger(__name__)

_ORDER = tuple(EncoderSpeed)


class Choice(Protocol):
    """Chooses an encoder's speed, as SpeedChoice does."""

    @property
    def speed(self) -> EncoderSpeed: ...

    def seen(self, now_s: float, *, offered: int, pressed: int, took_s: float) -> bool: ...


class AdaptingEncoder:
    """A VideoEncoder that changes its speed. Confined to one thread."""

    def __init__(
        self,
        encoding: VideoEncoding,
        pressure: Pressure,
        *,
        steady: bool,
        choice: Choice | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pressure` learns whether the encoder is at its quickest. The speed follows it unless `choice`
        picks one. `clock`: monotonic seconds."""
        self._clock = clock
        self._encoding = encoding
        self._steady = steady
        self._pressure = pressure
        self._encoder = VideoEncoder(encoding, steady=steady)
        self._choice = choice or SpeedChoice(encoding.speed, clock())
        self._seen = Pressure()
        pressure.is_quickest = encoding.speed is SPEEDS[0]
        self._last_ns: int | None = None
        self._quicker_ns: dict[EncoderSpeed, int] = {}
        self._is_fixed = False
        """Whether no other speed has the same parameter sets."""
        self.format: StreamFormat = self._encoder.format

    @property
    def speed(self) -> EncoderSpeed:
        return self._encoding.speed

    @property
    def quicker(self) -> tuple[QuickerEncoding, ...]:
        """How long pictures got less effort than the slowest speed gives them."""
        # A copy, because another thread asks.
        spans = dict(self._quicker_ns)
        return tuple(
            QuickerEncoding(speed.value, spans[speed] // MS) for speed in reversed(SPEEDS) if speed in spans
        )

    @property
    def inside(self) -> int:
        return self._encoder.inside

    def encode(self, frame: av.VideoFrame, pts_ns: int) -> list[Packet]:
        given = self._follow(pts_ns) if not self._is_fixed else []
        if self._last_ns is not None and self.speed in SPEEDS[:-1]:
            spent_ns = self._quicker_ns.get(self.speed, 0)
            self._quicker_ns[self.speed] = spent_ns + pts_ns - self._last_ns
        self._last_ns = pts_ns
        return given + self._encoder.encode(frame, pts_ns)

    def begin_anew(self) -> None:
        self._encoder.begin_anew()

    def flush(self, until_s: float) -> list[Packet]:
        return self._encoder.flush(until_s)

    def _follow(self, pts_ns: int) -> list[Packet]:
        """Switches to another encoder if the speed is to change here. Returns what the previous one held."""
        now = dataclasses.replace(self._pressure)
        before, self._seen = self._seen, now
        self._choice.seen(
            self._clock(),
            offered=now.offered - before.offered,
            pressed=now.pressed - before.pressed,
            took_s=now.worked_s - before.worked_s,
        )
        wanted = self._choice.speed
        is_quicker = _ORDER.index(wanted) < _ORDER.index(self.speed)
        if wanted is self.speed or not (is_quicker or self._encoder.is_key_due(pts_ns)):
            return []
        encoding = msgspec.structs.replace(self._encoding, speed=wanted)
        encoder = VideoEncoder(encoding, steady=self._steady)
        if encoder.parameter_sets != self._encoder.parameter_sets:
            _log.error("the encoder keeps its speed: %s has other parameter sets", wanted.value)
            self._is_fixed = self._pressure.is_quickest = True
            encoder.close()
            return []
        if is_quicker:
            _log.warning("the encoder cannot keep up: it switches to %s", wanted.value)
        else:
            _log.info("the encoder has time to spare: it switches to %s", wanted.value)
        rest = self._encoder.flush()
        self._encoder.close()
        self._encoding, self._encoder = encoding, encoder
        self._pressure.is_quickest = wanted is SPEEDS[0]
        return rest
