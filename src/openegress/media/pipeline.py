"""Encodes raw frames to packets: the FrameSink that a source writes to, with one encoding thread.

The thread takes what the source's threads queue, hands raw media to taps (images, websocket), encodes once
per codec, and gives the packets to every output.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import av

from openegress.core.codecs import EncoderSpeed
from openegress.core.errors import EgressError, Phase, internal
from openegress.core.left_out import QuickerEncoding
from openegress.core.plan import AudioEncoding, VideoEncoding
from openegress.core.units import S
from openegress.media import FrameSink, Packet, PacketSink, StreamFormat
from openegress.media.adapting_encoder import AdaptingEncoder, Choice
from openegress.media.due_key_frames import DueKeyFrames
from openegress.media.encoder import AudioEncoder, VideoEncoder
from openegress.media.frame_queue import FrameQueue, Queued, QueuedPicture, QueuedSound
from openegress.media.levelled_encoder import LevelledEncoder
from openegress.media.overload import Pressure
from openegress.media.resumptions import Resumption, Resumptions

_LAST_PACKETS_S = 0.2
"""Time after the start of the last pictures for those that the encoder holds for look-ahead. It holds at most
six, which take a tenth of a second. A machine that has dropped many pictures drops these too."""

OnError = Callable[[EgressError], None]
"""Called once, from the encoding thread."""


class EncodePipeline:
    """Implements FrameSink. Build it, attach() where packets go, start(), and finish() once."""

    def __init__(
        self,
        video: VideoEncoding | None,
        audio: AudioEncoding | None,
        *,
        steady: bool,
        on_error: OnError,
        hold_s: float = 0.0,
        now_ns: Callable[[], int] = int,
        loudness_lufs: float = 0.0,
        speeds: Choice | None = None,
    ) -> None:
        """`hold_s`: how long video() may hold back a source that can wait before it drops a picture. Such a
        source notices that it falls behind; a full queue is only how it catches up. `now_ns`: the time up to
        which the source's timeline is due; zero: nothing it delivers is ever late. `loudness_lufs`: target of
        encoded sound; 0: unchanged. `speeds`: how an adapting encoder chooses its speed, if not by the
        pictures that wait for it.

        Raises EgressError when FFmpeg refuses the parameters.
        """
        self._queue = FrameQueue(video.framerate if video else None, hold_s, now_ns)
        try:
            self._video = (
                _video_encoder(video, self._queue.pressure, speeds, steady=steady) if video else None
            )
            self._audio = _audio_encoder(audio, loudness_lufs) if audio else None
        except av.FFmpegError as error:
            raise internal(f"encoder refused {video} {audio}: {error}", Phase.FIRST_FRAME) from error
        self._on_error = on_error
        self._sinks: Sequence[PacketSink] = ()
        self._taps: Sequence[FrameSink] = ()
        self._resumptions = Resumptions()
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # a cancelled wait must not cancel the thread
        # A daemon, because a thread that hangs in an encoder must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="encode", daemon=True)
        self._keys = DueKeyFrames()
        self._unfinished = 0
        self.last_pts_ns = 0

    @property
    def formats(self) -> list[StreamFormat]:
        return [encoder.format for encoder in (self._video, self._audio) if encoder is not None]

    @property
    def queued_frames(self) -> int:
        return self._queue.pictures

    @property
    def dropped_frames(self) -> int:
        """Number of pictures that were dropped, at the end including those the encoder had no time for."""
        return self._queue.dropped + self._unfinished

    @property
    def quicker(self) -> tuple[QuickerEncoding, ...]:
        """How long pictures got less effort than possible."""
        return self._video.quicker if self._video is not None else ()

    @property
    def speed(self) -> EncoderSpeed | None:
        """The current speed of the encoder."""
        return self._video.speed if self._video is not None else None

    def attach(self, sinks: Sequence[PacketSink], taps: Sequence[FrameSink]) -> None:
        self._sinks, self._taps = sinks, taps

    def start(self) -> None:
        self._thread.start()

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None:
        self._queue.put_picture(frame, pts_ns)

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        self._queue.put_sound(samples, pts_ns, sample_rate)

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self._queue.put_resumption(Resumption(pts_ns, paused_ns))

    def key_frame_at(self, at_ns: int) -> None:
        """Makes the first picture at `at_ns` or later a key frame. Any thread may call it."""
        self._keys.ask(at_ns)

    def expect_end(self) -> None:
        """Reports that the source is about to stop: the user waits from now on, so there is little time for
        pictures. Idempotent."""
        self._queue.expect_end()

    async def finish(self) -> None:
        """Encodes what is queued, all sound and as many pictures as there is time for; flushes the encoders
        and ends the thread. Idempotent. Has no time-out: the caller knows how long it may take."""
        self._queue.close()
        if self._thread.ident is not None:
            await asyncio.wrap_future(self._ended)

    def _run(self) -> None:
        try:
            while (item := self._queue.take()) is not None:
                self._encode(item)
            if self._video is not None:
                self._deliver(self._video.flush(until_s=self._queue.ends_at_s + _LAST_PACKETS_S))
                self._unfinished = self._video.inside
            if self._audio is not None:
                self._deliver(self._audio.flush())
        except av.FFmpegError as error:
            self._fail(internal(f"encoding failed: {error}", Phase.RECORDING))
        except Exception as error:
            self._fail(internal(f"encoding failed: {error!r}", Phase.RECORDING))
        finally:
            self._ended.set_result(None)

    def _encode(self, item: Queued) -> None:
        match item:
            case QueuedPicture(frame, pts_ns):
                for tap in self._taps:
                    tap.video(frame, pts_ns)
                if self._video is not None:
                    if self._keys.due(pts_ns + S // 1000) is not None:
                        self._video.begin_anew()
                    self._deliver(self._video.encode(frame, pts_ns))
            case QueuedSound(samples, pts_ns, sample_rate):
                for tap in self._taps:
                    tap.audio(samples, pts_ns, sample_rate)
                if self._audio is not None:
                    self._deliver(self._audio.encode(samples, pts_ns, sample_rate))
            case Resumption(pts_ns, paused_ns):
                for tap in self._taps:
                    tap.resumed(pts_ns, paused_ns)
                if self._video is not None:
                    self._video.begin_anew()
                self._resumptions.note(item)
        self.last_pts_ns = max(self.last_pts_ns, item.pts_ns)

    def _deliver(self, packets: list[Packet]) -> None:
        for packet in self._resumptions.stamped(packets):
            for sink in self._sinks:
                sink.write(packet)

    def _fail(self, error: EgressError) -> None:
        self._queue.abandon()
        self._on_error(error)


def _video_encoder(
    encoding: VideoEncoding, pressure: Pressure, speeds: Choice | None, *, steady: bool
) -> VideoEncoder | AdaptingEncoder:
    if encoding.adapts:
        return AdaptingEncoder(encoding, pressure, steady=steady, choice=speeds)
    return VideoEncoder(encoding, steady=steady)


def _audio_encoder(encoding: AudioEncoding, loudness_lufs: float) -> AudioEncoder | LevelledEncoder:
    encoder = AudioEncoder(encoding)
    return LevelledEncoder(encoder, loudness_lufs) if loudness_lufs else encoder
