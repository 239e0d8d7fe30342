"""What a transcoded recording shows and sounds like at a moment: one video lane, all audio lanes.

Confined to the thread that decodes.
"""

from collections.abc import Iterator

from av.video.frame import VideoFrame

from openegress.core.codecs import AudioCodec
from openegress.media import NS
from openegress.media.canvas import Canvas
from openegress.media.mixer import BLOCK_SAMPLES, mix
from openegress.room import EncodedFrame, Track, TrackSource
from openegress.source.room.lanes import AudioLane, VideoLane, Waiting
from openegress.source.room.selection import NOTHING, Selection

GONE_HOLD_NS = 1 * NS
"""The last picture of a track that was muted or taken away stays this long: the next may be on its way."""
STALLED_HOLD_NS = 10 * NS
"""The last picture of a camera that stopped sending without a word."""
NEVER_NS = 1 << 62
"""A shared screen that does not change sends nothing: its last picture is right."""


def hold_ns(track: Track | None) -> int:
    """How long the last picture of a track is shown when no other comes."""
    if track is None or track.muted:
        return GONE_HOLD_NS
    return NEVER_NS if track.source is TrackSource.SCREEN_SHARE else STALLED_HOLD_NS


class Stage:
    def __init__(self, canvas: Canvas | None, framerate: int, *, with_audio: bool) -> None:
        self._canvas = canvas
        self._framerate = framerate
        self._with_audio = with_audio
        self._selection = NOTHING
        self._video: VideoLane | None = None
        self._audio: dict[str, AudioLane] = {}
        self._picture: VideoFrame | None = None
        self._changed_ns = 0
        self.unique = 0
        """New pictures given out."""

    def select(self, selection: Selection, now_ns: int) -> None:
        before, self._selection = self._selection, selection
        if self._canvas is not None:
            track = selection.video
            if track is None:
                self._video = None
            elif before.video is None or before.video.sid != track.sid or self._video is None:
                self._video = VideoLane(self._framerate)
        for routed in selection.audio if self._with_audio else ():
            lane = self._audio.get(routed.track.sid)
            if lane is None:
                self._audio[routed.track.sid] = AudioLane(routed.channel)
            else:
                lane.mixed.channel = routed.channel
        for track, waiting, _ in self._lanes():
            if not track.muted:
                waiting.begin(now_ns)

    def put(self, track: Track, at_ns: int, frame: EncodedFrame) -> None:
        """Frames of tracks that are not selected fall away; sound of one that left is still heard."""
        if isinstance(frame.codec, AudioCodec):
            lane = self._audio.get(track.sid)
            if lane is not None:
                lane.put(at_ns, frame)
        elif self._video is not None and self._is_shown(track):
            self._video.put(at_ns, frame)

    def rejoined(self, now_ns: int) -> None:
        for track, waiting, _ in self._lanes():
            if not track.muted:
                waiting.again(now_ns)

    def complete_ns(self) -> int | None:
        """Up to where every track that should be sending has been heard of; None: there is none."""
        return min((newest for track, _, newest in self._lanes() if not track.muted), default=None)

    def waits_from_ns(self, now_ns: int, limit_ns: int) -> int | None:
        """From where on some track's first frames are awaited; None: nothing is."""
        since = (waiting.since(now_ns, limit_ns) for _, waiting, _ in self._lanes())
        return min((each for each in since if each is not None), default=None)

    def picture(self, slot_ns: int) -> VideoFrame:
        assert self._canvas is not None
        new = self._video.picture(slot_ns) if self._video is not None else None
        if new is not None:
            self._picture = self._canvas.draw(new)
            self._changed_ns = slot_ns
            self.unique += 1
        elif self._picture is not None and slot_ns - self._changed_ns > hold_ns(self._selection.video):
            self._picture = None
        return self._picture or self._canvas.background

    def sound(self, block: int) -> bytes:
        """20 ms of interleaved s16 stereo."""
        start = block * BLOCK_SAMPLES
        samples = mix([lane.mixed for lane in self._audio.values()], start)
        selected = {routed.track.sid for routed in self._selection.audio}
        for sid in [sid for sid in self._audio if sid not in selected]:
            end = self._audio[sid].mixed.end
            if end is None or end <= start + BLOCK_SAMPLES:
                del self._audio[sid]
        return samples

    def key_wanted(self) -> str:
        """The SID of the track that has to send a key frame; "" when none has."""
        if self._video is None or self._selection.video is None or not self._video.wants_key:
            return ""
        return self._selection.video.sid

    def _is_shown(self, track: Track) -> bool:
        return self._selection.video is not None and self._selection.video.sid == track.sid

    def _lanes(self) -> Iterator[tuple[Track, Waiting, int]]:
        if self._video is not None and self._selection.video is not None:
            yield self._selection.video, self._video.waiting, self._video.newest_ns
        for routed in self._selection.audio:
            lane = self._audio.get(routed.track.sid)
            if lane is not None:
                yield routed.track, lane.waiting, lane.newest_ns
