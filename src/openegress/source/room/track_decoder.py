"""Decodes a room's tracks: encoded frames in, the picture or sound of a moment out.

Only the decoding thread uses it. Times are ns on the recording's timeline.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from av.video.frame import VideoFrame

from openegress.core.codecs import VIDEO_TIME_BASE, AudioCodec, VideoCodec
from openegress.core.units import S
from openegress.media.decoder import AudioDecoder, VideoDecoder
from openegress.media.mixer import BLOCK_SAMPLES, Channel, MixerInput
from openegress.media.samples import SAMPLE_RATE
from openegress.room import EncodedFrame
from openegress.room.budget import MAX_PIXELS, MAX_WAITING_BYTES, DecodeBudget, Reason
from openegress.room.sound_length import duration_of
from openegress.source.room.clock import SlotPhase
from openegress.source.room.picture_times import MAX_REORDERED, PresentationTimes


class VideoTrackDecoder:
    """Decodes one video track, as late as possible, so that frames wait for their slots encoded. With B
    frames, as WHIP senders use them, a picture may leave the decoder only after others that were sent
    later."""

    def __init__(self, framerate: int, begun_ns: int, budget: DecodeBudget) -> None:
        """`framerate`: the rate of the slots; `begun_ns`: since when frames may come."""
        self._phase = SlotPhase(framerate)
        self._times = PresentationTimes()
        self._newest_ns = [begun_ns]
        """Times of the latest pictures, as many as can be reordered, in ascending order."""
        self._pending: deque[tuple[int, EncodedFrame]] = deque()
        """Frames that wait to be decoded, in decoding order, with their presentation times."""
        self._pending_bytes = 0
        self._inside: list[int] = []
        """Times of pictures that the decoder has not given out yet."""
        self._ready: deque[tuple[int, VideoFrame]] = deque()
        self._decoder: VideoDecoder | None = None
        self._has_begun = False
        self._budget = budget
        self._waits_since_ns: int | None = None
        self.wants_key = False
        """Whether a key frame must be requested."""

    @property
    def newest_ns(self) -> int:
        """The time up to which all pictures have come: pictures after it may still come out of order."""
        newest = self._newest_ns[max(0, len(self._newest_ns) - 1 - self._depth)]
        return newest - (self._phase.bias_ns or 0)

    @property
    def is_running(self) -> bool:
        """Whether it holds pictures, decoded or not."""
        return self._decoder is not None or bool(self._pending)

    @property
    def held_bytes(self) -> int:
        """Bytes that wait to be decoded."""
        return self._pending_bytes

    def left(self, slot_ns: int) -> float:
        """The rest of its DecodeBudget, in seconds."""
        return self._budget.left(slot_ns)

    @property
    def is_greedy(self) -> bool:
        """See DecodeBudget."""
        return self._budget.is_greedy()

    def put(self, at_ns: int, frame: EncodedFrame) -> Reason | None:
        """Takes a frame. Returns a reason to leave the track out, or None."""
        if frame.width * frame.height > MAX_PIXELS:
            return Reason.PIXELS
        wall = at_ns * VIDEO_TIME_BASE.denominator // S
        shown = self._times.place(wall, frame.rtp_timestamp, is_key=frame.is_key)
        if shown < wall:
            at_ns = shown * S // VIDEO_TIME_BASE.denominator
        if self._has_begun:
            self._pending.append((at_ns, frame))
            self._pending_bytes += len(frame.data)
        else:
            self._has_begun = True
            self._decode(at_ns, frame)  # the first one states by how much the stream reorders
        self._newest_ns = sorted([*self._newest_ns, at_ns])[-1 - MAX_REORDERED :]
        self._phase.observe(at_ns)
        return Reason.DECODING if self._pending_bytes > MAX_WAITING_BYTES else None

    def picture(self, slot_ns: int, late_ns: int, tracks: int) -> VideoFrame | None:
        """The newest picture up to `slot_ns` (by its phase) that there was time to decode. None: the same
        picture as in the last slot. `tracks`: how many are decoded; `late_ns`: how late pictures are
        shown."""
        until_ns = slot_ns - late_ns + (self._phase.bias_ns or 0)
        while self._pending and self._is_due(until_ns):
            if not self._budget.allows(slot_ns, tracks):
                self._waits_since_ns = slot_ns if self._waits_since_ns is None else self._waits_since_ns
                break
            with self.measured(slot_ns):
                at_ns, frame = self._pending.popleft()
                self._pending_bytes -= len(frame.data)
                self._decode(at_ns, frame)
            self._forget_before_newest(until_ns)
        else:
            self._waits_since_ns = None
        self._forget_before_newest(until_ns)
        if self._ready and self._ready[0][0] <= until_ns:
            return self._ready.popleft()[1]
        return None

    def _forget_before_newest(self, until_ns: int) -> None:
        """Keeps only the newest picture that is due, because one may take 25 MB."""
        while len(self._ready) > 1 and self._ready[1][0] <= until_ns:
            self._ready.popleft()

    def late_ns(self, slot_ns: int) -> int:
        """How late pictures are because there was no time to decode them."""
        if self._waits_since_ns is None or not self._pending:
            return 0
        return slot_ns - max(self._waits_since_ns, self._pending[0][0])

    @contextmanager
    def measured(self, slot_ns: int) -> Iterator[None]:
        """Charges the time spent in the context to this track."""
        began_ns = time.monotonic_ns()
        try:
            yield
        finally:
            self._budget.spend((time.monotonic_ns() - began_ns) / S, slot_ns)

    def drop(self) -> None:
        """Drops waiting frames; the next picture must be a key frame."""
        self._pending.clear()
        self._pending_bytes = 0
        self._inside = []
        self._ready.clear()
        self._decoder = None
        self._waits_since_ns = None
        self.wants_key = True

    @property
    def _depth(self) -> int:
        return min(self._decoder.depth, MAX_REORDERED) if self._decoder is not None else 0

    def _is_due(self, until_ns: int) -> bool:
        """Whether the decoder or its queue has a picture up to this time."""
        waiting = (at_ns for at_ns, _ in self._pending)
        return any(at_ns <= until_ns for at_ns in (*self._inside, *waiting))

    def _decode(self, at_ns: int, frame: EncodedFrame) -> None:
        assert isinstance(frame.codec, VideoCodec)
        if self._decoder is None or self._decoder.codec is not frame.codec:
            self._decoder = VideoDecoder(frame.codec, MAX_PIXELS)
            self._inside = []
        began_ns = time.thread_time_ns()
        pictures = self._decoder.decode(frame.data, at_ns, is_key=frame.is_key, after_gap=frame.after_gap)
        self._budget.decoded((time.thread_time_ns() - began_ns) / S, at_ns)
        self.wants_key = self._decoder.awaits_key
        self._inside.append(at_ns)
        for picture in pictures:
            shown_ns = at_ns if picture.pts is None else picture.pts
            self._ready.append((shown_ns, picture))
            self._inside = [each for each in self._inside if each > shown_ns]
        # A unit may show nothing, or be dropped: do not wait for more pictures than the stream reorders.
        self._inside = sorted(self._inside)[-self._depth :] if self._depth else []


class AudioTrackDecoder:
    """Decodes one audio track, immediately, because sound is small."""

    def __init__(self, channel: Channel, begun_ns: int) -> None:
        """`begun_ns`: since when frames may come."""
        self.mixed = MixerInput(channel)
        self._begun_ns = begun_ns
        self._decoder: AudioDecoder | None = None
        self._rtp_end: int | None = None
        """RTP time at which the last packet heard ended; None if the next packet's time cannot be
        compared."""

    def late_ns(self, at_ns: int) -> int:
        """How late the sound is that is given out next, around `at_ns`."""
        return self.mixed.late_at(at_ns * SAMPLE_RATE // S + BLOCK_SAMPLES) * S // SAMPLE_RATE

    @property
    def newest_ns(self) -> int:
        end = self.mixed.end
        return self._begun_ns if end is None else end * S // SAMPLE_RATE

    def put(self, at_ns: int, frame: EncodedFrame) -> None:
        assert isinstance(frame.codec, AudioCodec)
        if self._decoder is None or self._decoder.codec is not frame.codec:
            self._decoder = AudioDecoder(frame.codec)
            self._rtp_end = None
        samples = self._decoder.decode(frame.data)
        if len(samples):  # a damaged packet counts as lost
            self.mixed.write(at_ns, samples, self._skipped(frame))
            # The sent length, not the decoded one: a resampler keeps some samples back.
            duration = duration_of(frame.codec, frame.data)
            self._rtp_end = frame.rtp_timestamp + duration if duration else None

    def drop(self) -> None:
        """Discards the decoder, which may be at fault."""
        self._decoder = None

    def _skipped(self, frame: EncodedFrame) -> int | None:
        """The skipped samples for MixerInput.write. A sender that restarts its RTP clock seems to have
        skipped many, or a negative number, which has the same effect."""
        if self._rtp_end is None:
            return None
        return (frame.rtp_timestamp - self._rtp_end) * SAMPLE_RATE // frame.clock_rate
