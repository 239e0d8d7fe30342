"""Makes the picture and sound of a transcoded recording at a moment: tiles on a canvas, and all sound mixed.

Confined to the decoding thread. Times are ns on the recording's timeline.
"""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from av.video.frame import VideoFrame

from openegress.core.codecs import AudioCodec
from openegress.core.token_bucket import TokenBucket
from openegress.core.units import MS, S
from openegress.media.canvas import Canvas
from openegress.media.mixer import BLOCK_SAMPLES, mix
from openegress.media.overlays import Overlays
from openegress.room import EncodedFrame, Track
from openegress.room.budget import MAX_LATE_NS, ROOM_DECODING, DecodeBudget, Reason
from openegress.source.memory import Shedding
from openegress.source.room.scene import Scene, Tile
from openegress.source.room.scene_picture import ScenePicture
from openegress.source.room.selection import NOTHING, Selection
from openegress.source.room.tile_view import Picture
from openegress.source.room.track_decoder import AudioTrackDecoder, VideoTrackDecoder

AUDIO_PATIENCE_NS = 900 * MS
"""For sound on its way. Packets after one that is lost for good wait 0.7 s in the room client
(room.rtp.nack.AUDIO), and another 0.2 s if packets are read in batches. They are then held for a fifth of a
second to find their place on the timeline. Sound that comes even later is heard late, but completely."""
VIDEO_PATIENCE_NS = 500 * MS
"""For pictures. A later one appears in the next slot, so not waiting loses nothing, and an unchanging screen
sends none. It is half of media.overload.MAX_WAITING_NS: the other half is for drawing and encoding."""
IN_STEP_NS = 20 * MS
"""A picture does not follow smaller offsets of its sound: half of what viewers notice."""
DECODER_PICTURES = 6
"""About how many pictures a decoder keeps: the references of VP9 and AV1, and the newest one."""

_log = logging.getLogger(__name__)


class Compositor:
    """Confined to the thread of its source."""

    def __init__(
        self,
        canvas: Canvas | None,
        framerate: int,
        *,
        with_audio: bool,
        overlays: Overlays | None = None,
        decoding: Callable[[TokenBucket], DecodeBudget] = DecodeBudget,
    ) -> None:
        """`decoding` makes the budget of each video from a shared one."""
        self._picture = ScenePicture(canvas, overlays) if canvas is not None else None
        self._framerate = framerate
        self._slot_ns = S // framerate if framerate else 0
        self._with_audio = with_audio
        self._selection = NOTHING
        self._scenes: deque[tuple[int, Scene]] = deque()
        """Scenes whose time has not come yet."""
        self._video: dict[str, VideoTrackDecoder] = {}
        self._publishers: dict[str, str] = {}
        """Publishers of pictures: identity by SID."""
        self._audio: dict[str, AudioTrackDecoder] = {}
        self._newest: dict[str, Picture] = {}
        """The newest picture of each video decoder, by SID."""
        self._make_budget = partial(decoding, TokenBucket(ROOM_DECODING))
        self._troubles: dict[str, Reason] = {}
        self.unique = 0
        """New pictures so far."""

    def begin(self, zero_ns: int) -> None:
        """Sets media time zero to `zero_ns`, unix time."""
        if self._picture is not None and self._picture.overlays is not None:
            self._picture.overlays.zero_ns = zero_ns

    @property
    def overlays(self) -> Overlays | None:
        """None: there is no picture, or nothing ever lies over it."""
        return self._picture.overlays if self._picture is not None else None

    def select(self, selection: Selection, now_ns: int) -> None:
        """The picture changes when the timeline gets there; everything sent before has been shown by then."""
        self._selection = selection
        if self._picture is not None:
            for track in selection.scene.tracks:
                self._publishers[track.sid] = track.participant.identity
                if track.sid not in self._video:
                    self._video[track.sid] = VideoTrackDecoder(self._framerate, now_ns, self._make_budget())
            if not self._scenes or self._scenes[-1][1] != selection.scene:
                # A picture appears up to one slot after its capture.
                self._scenes.append((now_ns + self._slot_ns if now_ns else 0, selection.scene))
        for routed in selection.audio if self._with_audio else ():
            decoder = self._audio.get(routed.track.sid)
            if decoder is None:
                self._audio[routed.track.sid] = AudioTrackDecoder(routed.channel, now_ns)
            else:
                decoder.mixed.channel = routed.channel

    def put(self, track: Track, at_ns: int, frame: EncodedFrame) -> None:
        """Drops frames of tracks that are not selected. Sound of a track that was removed is still heard."""
        if isinstance(frame.codec, AudioCodec):
            if (audio := self._audio.get(track.sid)) is not None:
                try:
                    audio.put(at_ns, frame)
                except Exception:
                    self._contain(track.sid)
        elif (video := self._video.get(track.sid)) is not None:
            try:
                if (reason := video.put(at_ns, frame)) is not None:
                    self._leave_out(track.sid, reason)
            except Exception:
                self._contain(track.sid)

    def take_troubles(self) -> dict[str, Reason]:
        """The SIDs of tracks to leave out, reported once."""
        troubles, self._troubles = self._troubles, {}
        return troubles

    def shed(self, what: Shedding) -> None:
        """Drops media, because memory is short."""
        held = self._held_bytes()
        if what is Shedding.QUEUES:
            for decoder in self._video.values():
                decoder.drop()
        elif held:
            self._leave_out(max(held, key=lambda sid: held[sid]), Reason.MEMORY)

    def _held_bytes(self) -> dict[str, int]:
        """Memory of each running video, by SID: waiting frames, and the decoder's pictures."""
        held = {sid: decoder.held_bytes for sid, decoder in self._video.items() if decoder.is_running}
        for sid in held.keys() & self._newest.keys():
            frame = self._newest[sid].frame
            held[sid] += DECODER_PICTURES * frame.width * frame.height * 3 // 2
        return held

    def complete_ns(self, now_ns: int) -> int:
        """Up to where nothing is awaited any more: every track that should be sending has been heard of, or
        its kind's waiting time is over."""
        video_ns, audio_ns = now_ns - VIDEO_PATIENCE_NS, now_ns - AUDIO_PATIENCE_NS
        complete_ns = now_ns
        for track in self._selection.scene.tracks:
            if not track.muted and (video := self._video.get(track.sid)) is not None:
                complete_ns = min(complete_ns, max(video.newest_ns, video_ns))
        for routed in self._selection.audio:
            if not routed.track.muted and (audio := self._audio.get(routed.track.sid)) is not None:
                complete_ns = min(complete_ns, max(audio.newest_ns, audio_ns))
        return complete_ns

    def picture(self, slot_ns: int) -> VideoFrame:
        assert self._picture is not None
        drawn = self._picture
        self._set_scene(drawn, slot_ns)
        late_ns = self._sounds_late_ns(slot_ns)
        # The track that has used least of its budget comes first: the others wait if time does not suffice
        # for all.
        decoders = sorted(self._video.items(), key=lambda each: each[1].left(slot_ns), reverse=True)
        for sid, decoder in decoders:
            try:
                frame = decoder.picture(slot_ns, late_ns.get(self._publishers[sid], 0), len(decoders))
                if frame is not None:
                    self._newest[sid] = Picture(frame, slot_ns)
                if decoder.late_ns(slot_ns) > MAX_LATE_NS:
                    if decoder.is_greedy:
                        self._leave_out(sid, Reason.DECODING)
                    else:
                        decoder.drop()
            except Exception:
                self._contain(sid)
        self.unique += drawn.draw(lambda tile: self._draw(drawn, tile, slot_ns))
        return drawn.picture(slot_ns)

    def _draw(self, drawn: ScenePicture, tile: Tile, slot_ns: int) -> bool:
        """Returns True if the tile shows a new picture."""
        view, canvas = drawn.view(tile), drawn.canvas
        if tile.track is None:
            return view.draw(canvas, slot_ns, None)
        sid = tile.track.sid
        newest, decoder = self._newest.get(sid), self._video.get(sid)
        try:
            if newest is None or decoder is None or not view.is_costly(canvas, newest):
                return view.draw(canvas, slot_ns, newest)
            with decoder.measured(slot_ns):
                return view.draw(canvas, slot_ns, newest)
        except Exception:
            self._contain(sid)
            return False

    def _contain(self, sid: str) -> None:
        """Limits a failure of a track's media to that track. Called in except clauses, because a context
        manager for each packet and tile takes too long."""
        _log.exception("media of track %s could not be handled", sid)
        self._leave_out(sid, Reason.TROUBLE)

    def _leave_out(self, sid: str, reason: Reason) -> None:
        self._troubles[sid] = reason
        self._newest.pop(sid, None)
        if self._picture is not None:
            self._picture.forget(sid)
        if (video := self._video.get(sid)) is not None:
            video.drop()
        if (audio := self._audio.get(sid)) is not None:
            audio.drop()

    def sound(self, block: int) -> bytes:
        """20 ms of interleaved s16 stereo."""
        start = block * BLOCK_SAMPLES
        samples = mix([decoder.mixed for decoder in self._audio.values()], start)
        selected = {routed.track.sid for routed in self._selection.audio}
        for sid in [sid for sid in self._audio if sid not in selected]:
            end = self._audio[sid].mixed.end
            if end is None or end <= start + BLOCK_SAMPLES:
                del self._audio[sid]
        return samples

    def _sounds_late_ns(self, slot_ns: int) -> dict[str, int]:
        """How late this slot's sound is, by publisher, if the delay is noticeable: sound that the network
        delayed is heard late, and pictures follow it."""
        late_ns: dict[str, int] = {}
        for routed in self._selection.audio:
            audio = self._audio.get(routed.track.sid)
            if audio is not None and not routed.track.muted:
                publisher = routed.track.participant.identity
                late_ns[publisher] = max(audio.late_ns(slot_ns) - IN_STEP_NS, late_ns.get(publisher, 0))
        return late_ns

    def keys_wanted(self) -> list[str]:
        """The SIDs of tracks that must send a key frame."""
        return [sid for sid, decoder in self._video.items() if decoder.wants_key]

    def _set_scene(self, drawn: ScenePicture, slot_ns: int) -> None:
        """Shows the scene of this slot."""
        due: Scene | None = None
        while self._scenes and self._scenes[0][0] <= slot_ns:
            _, due = self._scenes.popleft()
        if due is None or due == drawn.scene:
            return
        drawn.show(due, slot_ns)
        for track in due.tracks:
            if track.muted:
                self._newest.pop(track.sid, None)  # media after unmuting is new
        if not self._scenes:
            shown = {track.sid for track in due.tracks}
            for sid in [sid for sid in self._video if sid not in shown]:
                del self._video[sid], self._publishers[sid]
                self._newest.pop(sid, None)
