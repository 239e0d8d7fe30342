"""From raw frames to packets: the FrameSink a source writes to, with one thread that encodes.

The thread takes what the source's threads queue, hands raw media to taps (images, websocket), encodes
once per codec, and gives the packets to every output. When it cannot keep up, pictures are left out and
counted (media.overload says which); sound never is.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import av

from openegress.core.errors import EgressError, Phase, internal
from openegress.core.plan import AudioEncoding, VideoEncoding
from openegress.core.units import S
from openegress.media import FrameSink, Packet, PacketSink, StreamFormat
from openegress.media.encoder import AudioEncoder, VideoEncoder
from openegress.media.overload import Lag, Overload, Rate
from openegress.media.resumptions import Resumption, Resumptions

_log = logging.getLogger(__name__)

_QUEUED_FRAMES = 8
"""About a quarter second at 30 fps: rides out a hard frame, and bounds memory to a dozen MiB at 720p. Of
fewer frames a second not more than one second's, and never less than two pictures."""

_HELD_BEHIND_NS = S // 2
"""A source that is behind by this is not held back any more: it would fall behind further, and all that it
has yet to give would wait with it."""

_LAST_PICTURES_S = 0.25
"""For encoding what waits in the end. A machine that takes longer leaves the rest out: who stops a recording
waits for it."""

OnError = Callable[[EgressError], None]
"""Called once, from the encoding thread."""


@dataclass(frozen=True, slots=True)
class _QueuedPicture:
    frame: av.VideoFrame
    pts_ns: int


@dataclass(frozen=True, slots=True)
class _QueuedSound:
    samples: bytes
    pts_ns: int
    sample_rate: int


_Queued = _QueuedPicture | _QueuedSound | Resumption


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
    ) -> None:
        """`hold_s`: how long video() may hold back a source that can wait, before a picture is left out.
        Such a source sees itself when it falls behind; a full queue is only how it catches up.

        Raises EgressError when FFmpeg refuses the parameters.
        """
        try:
            self._video = VideoEncoder(video, steady=steady) if video else None
            self._audio = AudioEncoder(audio) if audio else None
        except av.FFmpegError as error:
            raise internal(f"encoder refused {video} {audio}: {error}", Phase.FIRST_FRAME) from error
        self._overload = Overload(video.framerate, time.monotonic()) if video and not hold_s else None
        self._on_error = on_error
        self._hold_s = hold_s
        self._most_queued = max(2, min(_QUEUED_FRAMES, video.framerate)) if video else _QUEUED_FRAMES
        self._lag = Lag()
        self._closed_at_s: float | None = None
        self._sinks: Sequence[PacketSink] = ()
        self._taps: Sequence[FrameSink] = ()
        self._changed = threading.Condition()
        self._queue: deque[_Queued] = deque()
        self._resumptions = Resumptions()
        self._queued_frames = 0
        self._closing = False
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # whoever gives up waiting does not cancel the thread
        # A daemon: one that hangs in an encoder must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="encode", daemon=True)
        self.encoded_frames = 0
        self.dropped_frames = 0
        self.last_pts_ns = 0

    @property
    def formats(self) -> list[StreamFormat]:
        return [encoder.format for encoder in (self._video, self._audio) if encoder is not None]

    @property
    def queued_frames(self) -> int:
        return self._queued_frames

    def attach(self, sinks: Sequence[PacketSink], taps: Sequence[FrameSink]) -> None:
        self._sinks, self._taps = sinks, taps

    def start(self) -> None:
        self._thread.start()

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None:
        with self._changed:
            if self._thins_out(pts_ns):
                self.dropped_frames += 1
                return
            behind_ns = self._lag.at(pts_ns, time.monotonic_ns())
            if self._hold_s and self._is_full and behind_ns < _HELD_BEHIND_NS:
                self._changed.wait_for(lambda: self._closing or not self._is_full, self._hold_s)
            if self._closing:
                return
            if self._is_full:
                self.dropped_frames += 1
                return
            self._queued_frames += 1
            self._queue.append(_QueuedPicture(frame, pts_ns))
            self._changed.notify_all()

    def _thins_out(self, pts_ns: int) -> bool:
        """Whether this picture is left out so that the encoder keeps up with the others."""
        overload = self._overload
        if overload is None:
            return False
        if not overload.takes(pts_ns):
            return True
        if overload.met(self._is_full, time.monotonic()):
            if overload.rate is Rate.HALF:
                _log.warning("the encoder cannot keep up: every other picture is left out")
            else:
                _log.info("the encoder gets every picture again")
        return False

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        with self._changed:
            if self._closing:
                return
            self._queue.append(_QueuedSound(samples, pts_ns, sample_rate))
            self._changed.notify_all()

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        with self._changed:
            if self._closing:
                return
            self._lag = Lag()  # pictures are not late by the time that the timeline stood still
            self._queue.append(Resumption(pts_ns, paused_ns))
            self._changed.notify_all()

    async def finish(self) -> None:
        """Encodes what is queued, all of its sound and as many pictures as there is time for; flushes the
        encoders and ends the thread. Idempotent. Has no time-out: the caller knows how long it may take."""
        with self._changed:
            self._closing = True
            if self._closed_at_s is None:
                self._closed_at_s = time.monotonic()
            self._changed.notify_all()
        if self._thread.ident is not None:
            await asyncio.wrap_future(self._ended)

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._encode(item)
            for encoder in (self._video, self._audio):
                if encoder is not None:
                    self._deliver(encoder.flush())
        except av.FFmpegError as error:
            self._fail(internal(f"encoding failed: {error}", Phase.RECORDING))
        except Exception as error:
            self._fail(internal(f"encoding failed: {error!r}", Phase.RECORDING))
        finally:
            self._ended.set_result(None)

    @property
    def _is_full(self) -> bool:
        return self._queued_frames >= self._most_queued

    def _next(self) -> _Queued | None:
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            item = self._queue.popleft()
            if isinstance(item, _QueuedPicture):
                self._queued_frames -= 1
                self._changed.notify_all()
            return item

    def _encode(self, item: _Queued) -> None:
        match item:
            case _QueuedPicture(frame, pts_ns):
                if self._closed_at_s is not None and time.monotonic() - self._closed_at_s > _LAST_PICTURES_S:
                    self.dropped_frames += 1
                    return
                for tap in self._taps:
                    tap.video(frame, pts_ns)
                if self._video is not None:
                    self.encoded_frames += 1
                    self._deliver(self._video.encode(frame, pts_ns))
            case _QueuedSound(samples, pts_ns, sample_rate):
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
        with self._changed:
            self._closing = True
            self._queue.clear()
            self._changed.notify_all()
        self._on_error(error)
