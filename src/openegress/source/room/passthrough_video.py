"""Records passed-through video: its frames on the recording's timeline."""

import asyncio
from collections.abc import Callable, Sequence

from openegress.core.codecs import VIDEO_TIME_BASE, MediaKind
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.passthrough import reorder_depth
from openegress.room import EncodedFrame, Track
from openegress.room.sync.picture_line import PictureLine
from openegress.source.room.first_layer import WAIT_NS, FirstLayer
from openegress.source.room.picture_times import DecodeTimes, PresentationTimes, TimedPicture
from openegress.source.room.pts import VideoPts


class PassthroughVideo:
    """Frames of one video track, from its first key frame on. Runs on the event loop."""

    def __init__(
        self,
        track: Track,
        stream: StreamFormat,
        emit: Callable[[Packet], None],
        request_key_frame: Callable[[str], None],
        sound_late_ns: Callable[[], int],
    ) -> None:
        """`request_key_frame` takes a SID. `sound_late_ns` returns by how much the publisher's sound was
        written late."""
        self._emit = emit
        self._request_key_frame = request_key_frame
        self._sound_late_ns = sound_late_ns
        self._zero_ns = 0
        self._pts = VideoPts()
        self._lips = PictureLine()
        self._layer: FirstLayer[EncodedFrame] = FirstLayer(track.width, track.height)
        self._layer_timer: asyncio.TimerHandle | None = None
        self._shown = PresentationTimes()
        self._decoded: DecodeTimes[EncodedFrame] = DecodeTimes(reorder_depth(stream))
        self._awaits_key = True
        self.frames = 0
        self.dropped = 0

    def begin(self, zero_ns: int) -> None:
        """Sets the beginning; call it before take(), and again at the end of a pause. `zero_ns`: media time
        zero in unix ns, plus the length of pauses."""
        self._zero_ns = zero_ns

    def await_key(self) -> None:
        """Waits for a key frame, because frames of another track follow."""
        self._awaits_key = True

    def take(self, frame: EncodedFrame) -> None:
        """Takes a frame, and writes what is to be recorded now: no picture before the first key frame, and
        none of an unwanted layer."""
        if self._awaits_key and not frame.is_key:
            self.dropped += 1
            self._request_key_frame(frame.track_sid)
            return
        self._awaits_key = False
        for each in self._layer.take(frame.at_ns, frame.width, frame.height, frame):
            self._write(each)
        if self._layer.is_waiting and self._layer_timer is None:
            # A timer ends the wait too: an unchanging picture has no successor that could.
            self._layer_timer = asyncio.get_running_loop().call_later(WAIT_NS / S, self._end_layer_wait)

    def cancel_wait(self) -> None:
        if self._layer_timer is not None:
            self._layer_timer.cancel()

    def end_sequence(self) -> None:
        """Writes held frames. A key frame follows."""
        self.flush()
        self._awaits_key = True

    def flush(self) -> None:
        """Writes held frames. No frame of the same sequence follows."""
        self._end_layer_wait()
        self._give(self._decoded.flush())

    def _end_layer_wait(self) -> None:
        for frame in self._layer.begin():
            self._write(frame)

    def _write(self, frame: EncodedFrame) -> None:
        # Pictures stay in step with their publisher's sound if that was written late: passed-through sound
        # cannot be sped up, but a picture can wait.
        at_ns = self._lips.place(frame.at_ns - self._zero_ns, self._sound_late_ns())
        wall = self._pts.place(at_ns)
        self.frames += 1
        pts = self._shown.place(wall, frame.rtp_timestamp, is_key=frame.is_key)
        self._give(self._decoded.put(pts, frame))

    def _give(self, pictures: Sequence[TimedPicture[EncodedFrame]]) -> None:
        for each in pictures:
            frame = each.item
            self._emit(
                Packet(
                    MediaKind.VIDEO,
                    frame.data,
                    each.pts,
                    each.dts,
                    0,
                    VIDEO_TIME_BASE,
                    frame.is_key,
                    picture_size=(frame.width, frame.height) if frame.is_key else (0, 0),
                )
            )
