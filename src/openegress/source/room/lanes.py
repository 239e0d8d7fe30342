"""A room's tracks while they are decoded: encoded frames in, the picture or the sound of a moment out.

Confined to the thread that decodes. Times are ns on the recording's timeline.
"""

from collections import deque

from av.video.frame import VideoFrame

from openegress.core.codecs import AudioCodec, VideoCodec
from openegress.media import NS
from openegress.media.decoder import SAMPLE_RATE, AudioDecoder, VideoDecoder
from openegress.media.mixer import Channel, Lane
from openegress.room import EncodedFrame
from openegress.source.room.clock import Phase
from openegress.source.room.placement import duration_of


class Waiting:
    """Whether a track's first frame is still to come, and since when it is waited for.

    The room client holds the first frames of a track back for some seconds, until a sender report tells
    where they belong; a recording that went on meanwhile would lose them.
    """

    def __init__(self) -> None:
        self._since_ns: int | None = None
        self._limit_ns = 0
        self._delivered = False

    def begin(self, now_ns: int, limit_ns: int) -> None:
        """The track is published, not muted, and has sent nothing yet (as far as we have been given it).
        It is waited for at most `limit_ns`."""
        if self._since_ns is None and not self._delivered:
            self._since_ns, self._limit_ns = now_ns, limit_ns

    def again(self, now_ns: int, limit_ns: int) -> None:
        """The room was joined anew: the track's clock is unknown once more."""
        self._delivered, self._since_ns = False, None
        self.begin(now_ns, limit_ns)

    def delivered(self) -> None:
        self._since_ns, self._delivered = None, True

    def since(self, now_ns: int) -> int | None:
        """From where the timeline must wait for it; None: nothing to wait for, or not any longer."""
        if self._since_ns is None or now_ns - self._since_ns > self._limit_ns:
            return None
        return self._since_ns


class VideoLane:
    """Decodes as late as it can: what waits for its slot waits encoded."""

    def __init__(self, framerate: int) -> None:
        """`framerate` of the slots it will be asked for."""
        self.waiting = Waiting()
        self._phase = Phase(framerate)
        self._newest_ns = 0
        self._pending: deque[tuple[int, EncodedFrame]] = deque()
        self._decoder: VideoDecoder | None = None
        self.wants_key = False
        """A key frame has to be asked for."""

    @property
    def newest_ns(self) -> int:
        """Up to which slot the track has been heard of."""
        return self._newest_ns - (self._phase.bias_ns or 0)

    def put(self, at_ns: int, frame: EncodedFrame) -> None:
        self._pending.append((at_ns, frame))
        self._newest_ns = max(self._newest_ns, at_ns)
        self._phase.observe(at_ns)
        self.waiting.delivered()

    def picture(self, slot_ns: int) -> VideoFrame | None:
        """The newest picture up to `slot_ns` (by its phase); None: the same as at the last slot."""
        until_ns = slot_ns + (self._phase.bias_ns or 0)
        shown: VideoFrame | None = None
        while self._pending and self._pending[0][0] <= until_ns:
            _, frame = self._pending.popleft()
            assert isinstance(frame.codec, VideoCodec)
            if self._decoder is None or self._decoder.codec is not frame.codec:
                self._decoder = VideoDecoder(frame.codec)
            shown = self._decoder.decode(frame.data, is_key=frame.is_key, after_gap=frame.after_gap) or shown
            self.wants_key = self._decoder.awaits_key
        return shown


class AudioLane:
    """Decodes at once: sound is small."""

    def __init__(self, channel: Channel) -> None:
        self.waiting = Waiting()
        self.mixed = Lane(channel)
        self._decoder: AudioDecoder | None = None
        self._rtp_end: int | None = None
        """RTP time at which the last packet heard ended; None where the next one's cannot be compared."""

    @property
    def newest_ns(self) -> int:
        end = self.mixed.end
        return 0 if end is None else end * NS // SAMPLE_RATE

    def put(self, at_ns: int, frame: EncodedFrame) -> None:
        assert isinstance(frame.codec, AudioCodec)
        if self._decoder is None or self._decoder.codec is not frame.codec:
            self._decoder = AudioDecoder(frame.codec)
            self._rtp_end = None
        samples = self._decoder.decode(frame.data)
        if len(samples):  # a damaged packet is as good as lost: it is skipped
            self.mixed.write(at_ns, samples, self._skipped(frame))
            # Of what was sent, not of what was decoded: a resampler keeps some of that back.
            duration = duration_of(frame.codec, frame.data)
            self._rtp_end = frame.rtp_timestamp + duration if duration else None
        self.waiting.delivered()

    def _skipped(self, frame: EncodedFrame) -> int | None:
        """See Lane.write. A sender that starts its RTP clock anew seems to have skipped much, or less than
        nothing, which comes to the same."""
        if self._rtp_end is None:
            return None
        return (frame.rtp_timestamp - self._rtp_end) * SAMPLE_RATE // frame.clock_rate
