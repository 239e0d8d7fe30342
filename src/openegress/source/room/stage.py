"""What a transcoded recording shows and sounds like at a moment: tiles on a canvas, and all audio lanes.

Confined to the thread that decodes. Times are ns on the recording's timeline.
"""

from collections import deque
from collections.abc import Iterator

from av.video.frame import VideoFrame

from openegress.core.codecs import AudioCodec
from openegress.media import NS
from openegress.media.canvas import Canvas, yuv_of
from openegress.media.mixer import BLOCK_SAMPLES, mix
from openegress.room import EncodedFrame, Track
from openegress.source.room.lanes import AudioLane, VideoLane, Waiting
from openegress.source.room.scene import Scene
from openegress.source.room.selection import NOTHING, Selection
from openegress.source.room.tile_view import Picture, TileView


class Stage:
    def __init__(self, canvas: Canvas | None, framerate: int, *, with_audio: bool) -> None:
        self._canvas = canvas
        self._framerate = framerate
        self._slot_ns = NS // framerate if framerate else 0
        self._with_audio = with_audio
        self._selection = NOTHING
        self._scenes: deque[tuple[int, Scene]] = deque()
        """Those whose time has not come yet."""
        self._scene: Scene | None = None
        self._views: dict[str, TileView] = {}
        self._video: dict[str, VideoLane] = {}
        self._audio: dict[str, AudioLane] = {}
        self._newest: dict[str, Picture] = {}
        """Of each video lane, by SID."""
        self.unique = 0
        """New pictures given out."""

    def select(self, selection: Selection, now_ns: int, limit_ns: int) -> None:
        """Tracks are waited for from now on, `limit_ns` at most; the picture changes when the timeline has
        come so far, and shown what was captured until then."""
        self._selection = selection
        if self._canvas is not None:
            for track in selection.scene.tracks:
                if track.sid not in self._video:
                    self._video[track.sid] = VideoLane(self._framerate)
            if not self._scenes or self._scenes[-1][1] != selection.scene:
                # A picture is shown up to one slot after its capture.
                self._scenes.append((now_ns + self._slot_ns if now_ns else 0, selection.scene))
        for routed in selection.audio if self._with_audio else ():
            lane = self._audio.get(routed.track.sid)
            if lane is None:
                self._audio[routed.track.sid] = AudioLane(routed.channel)
            else:
                lane.mixed.channel = routed.channel
        for track, waiting, _ in self._lanes():
            if not track.muted:
                waiting.begin(now_ns, limit_ns)

    def put(self, track: Track, at_ns: int, frame: EncodedFrame) -> None:
        """Frames of tracks that are not selected fall away; sound of one that left is still heard."""
        if isinstance(frame.codec, AudioCodec):
            if (audio := self._audio.get(track.sid)) is not None:
                audio.put(at_ns, frame)
        elif (video := self._video.get(track.sid)) is not None:
            video.put(at_ns, frame)

    def rejoined(self, now_ns: int, limit_ns: int) -> None:
        for track, waiting, _ in self._lanes():
            if not track.muted:
                waiting.again(now_ns, limit_ns)

    def complete_ns(self) -> int | None:
        """Up to where every track that should be sending has been heard of; None: there is none."""
        return min((newest for track, _, newest in self._lanes() if not track.muted), default=None)

    def waits_from_ns(self, now_ns: int) -> int | None:
        """From where on some track's first frames are awaited; None: nothing is."""
        since = (waiting.since(now_ns) for _, waiting, _ in self._lanes())
        return min((each for each in since if each is not None), default=None)

    def picture(self, slot_ns: int) -> VideoFrame:
        assert self._canvas is not None
        self._set_scene(self._canvas, slot_ns)
        for sid, lane in self._video.items():
            frame = lane.picture(slot_ns)
            if frame is not None:
                self._newest[sid] = Picture(frame, slot_ns)
        news = False
        for tile in self._scene.tiles if self._scene is not None else ():
            newest = self._newest.get(tile.track.sid) if tile.track is not None else None
            news |= self._views[tile.key].draw(self._canvas, slot_ns, newest)
        self.unique += news
        return self._canvas.picture()

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

    def keys_wanted(self) -> list[str]:
        """The SIDs of tracks that have to send a key frame."""
        return [sid for sid, lane in self._video.items() if lane.wants_key]

    def _set_scene(self, canvas: Canvas, slot_ns: int) -> None:
        """The scene of this slot; with it, everything is drawn anew."""
        due: Scene | None = None
        while self._scenes and self._scenes[0][0] <= slot_ns:
            _, due = self._scenes.popleft()
        if due is None or due == self._scene:
            return
        if self._scene is None or _outline(due) != _outline(self._scene):
            canvas.fill(canvas.whole, yuv_of(*due.look.background))
        self._views = {tile.key: self._views.get(tile.key) or TileView() for tile in due.tiles}
        for tile in due.tiles:
            self._views[tile.key].place(tile, tile.rect or canvas.whole, due.look, slot_ns)
        self._scene = due
        for track in due.tracks:
            if track.muted:
                self._newest.pop(track.sid, None)  # what comes after it is unmuted is new
        if not self._scenes:
            shown = {track.sid for track in due.tracks}
            for sid in [sid for sid in self._video if sid not in shown]:
                del self._video[sid]
                self._newest.pop(sid, None)

    def _lanes(self) -> Iterator[tuple[Track, Waiting, int]]:
        for track in self._selection.scene.tracks:
            video = self._video.get(track.sid)
            if video is not None:
                yield track, video.waiting, video.newest_ns
        for routed in self._selection.audio:
            audio = self._audio.get(routed.track.sid)
            if audio is not None:
                yield routed.track, audio.waiting, audio.newest_ns


def _outline(scene: Scene) -> object:
    return scene.look, [tile.rect for tile in scene.tiles]
