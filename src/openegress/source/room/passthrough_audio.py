"""Records passed-through sound: packets on the timeline, with silence between them."""

import asyncio
from collections.abc import Callable, Sequence

from openegress.core.codecs import AudioCodec, MediaKind
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.pause_probe import PauseProbe
from openegress.room import EncodedFrame
from openegress.source.room.pts import AudioPts, TimedAudio

MUTED_AFTER_NS = 1 * S
"""Delay with which silence is written for a track that is muted, or has sent nothing yet, so that players and
readers of a growing file always have both tracks. It exceeds the room client's wait for lost packets (0.7 s)
and for frames it holds (0.2 s)."""
STALLED_AFTER_NS = 8 * S
"""Like MUTED_AFTER_NS, for a track that stopped sending without notice. It is longer, because after a network
outage of five seconds all of its sound is sent again, and would be late if silence had replaced it."""
SILENCE_EVERY_S = 0.5


class PassthroughAudio:
    """Packets of one audio track. Runs on the event loop."""

    def __init__(
        self,
        stream: StreamFormat,
        emit: Callable[[Packet], None],
        now_ns: Callable[[], int],
        is_muted: Callable[[], bool],
    ) -> None:
        """`now_ns`: up to where sound is recorded, in unix ns on the frames' clock."""
        assert isinstance(stream.codec, AudioCodec)
        self._emit = emit
        self._base = stream.time_base
        self._now_ns = now_ns
        self._is_muted = is_muted
        self._zero_ns = 0
        self._pts = AudioPts(stream.codec, PauseProbe(stream.codec).is_pause)
        self._lag_ns = 0
        """How late the last packet came: at the end, media of that length is still on its way, and is not
        silence."""
        self._silencer: asyncio.TimerHandle | None = None
        self.frames = 0
        self.dropped = 0

    @property
    def late_ns(self) -> int:
        """The time by which sound had to be written late."""
        return self._pts.late_ns

    def begin(self, zero_ns: int) -> None:
        """Sets the beginning; call it before take(), and again at the end of a pause. `zero_ns`: media time
        zero in unix ns, plus the length of pauses."""
        self._zero_ns = zero_ns

    def take(self, frame: EncodedFrame) -> None:
        self._lag_ns = max(0, self._now_ns() - frame.at_ns)
        placed = self._pts.place(frame.at_ns - self._zero_ns, frame.rtp_timestamp, frame.data)
        if placed:
            self.frames += 1
        else:
            self.dropped += 1
        self._give(placed)

    def keep_filling(self) -> None:
        """Fills gaps with silence until cancel_wait()."""
        self._silencer = asyncio.get_running_loop().call_later(SILENCE_EVERY_S, self.keep_filling)
        is_muted = self._is_muted() or self._pts.end_ns is None
        self._fill(MUTED_AFTER_NS if is_muted else STALLED_AFTER_NS)

    def cancel_wait(self) -> None:
        if self._silencer is not None:
            self._silencer.cancel()

    def flush(self) -> None:
        """Writes silence up to the end. No packet follows."""
        self._fill(self._lag_ns)

    def _fill(self, after_ns: int) -> None:
        until_ns = self._now_ns() - self._zero_ns - after_ns
        self._give(self._pts.silence_until(until_ns))

    def _give(self, placed: Sequence[TimedAudio]) -> None:
        for each in placed:
            self._emit(
                Packet(MediaKind.AUDIO, each.data, each.pts, each.pts, each.duration, self._base, True)
            )
