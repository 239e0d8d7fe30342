"""Passes a room's tracks through: encoded frames on the recording's timeline, without decoding.

Everything runs on the event loop: the work is a few numbers per frame.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.end_rules import EndRules
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.pause_mode import PauseMode
from openegress.core.units import MS
from openegress.media import Packet, PacketSink, StreamFormat
from openegress.media.passthrough import audio_format, video_format
from openegress.media.resumptions import Resumption, Resumptions
from openegress.room import EncodedFrame, Track
from openegress.room.budget import Reason
from openegress.source import SourceEvent, SourceStats
from openegress.source.memory import Shedding
from openegress.source.room.codec import IN_BAND, codec_of
from openegress.source.room.passthrough_audio import PassthroughAudio
from openegress.source.room.passthrough_cut import PassthroughCut
from openegress.source.room.passthrough_video import PassthroughVideo
from openegress.source.room.selection import Selection
from openegress.source.room.track_follower import TrackFollower

FIRST_MEDIA_S = 2.0
"""Time-out for the first packet of a subscribed track, which usually takes a tenth of that."""
FIRST_KEY_FRAME_S = 20.0
"""Time-out for parameters that only a key frame has. One comes with the subscription, or is requested at
once."""
FIRST_SOUND_S = 0.3
"""Time-out from the first packet to the first sound frame, which is held for 0.12 s (room.sync.arrival)."""


class RoomPacketSource:
    """Implements source.PacketSource for one video track, one audio track, or both."""

    def __init__(self, follower: TrackFollower, *, watched: bool = False) -> None:
        """`follower` has joined; the source closes it. `watched`: somebody waits for each packet."""
        self._follower = follower
        self._watched = watched
        self._tracks: dict[MediaKind, Track] = {}
        self._formats: dict[MediaKind, StreamFormat] = {}
        self._held: deque[EncodedFrame] = deque()
        self._came = asyncio.Event()
        """Set by a frame before the start."""
        self._sink: PacketSink | None = None
        self._video: PassthroughVideo | None = None
        self._audio: PassthroughAudio | None = None
        self._cut = PassthroughCut()
        self._resumptions = Resumptions()
        self._zero_ns = 0
        self._dropped = 0
        """Frames of a kind that is not recorded."""
        self._stopped = False

    async def prepare(self) -> None:
        self._take_tracks(self._follower.selection)
        await self._follower.subscribe(self)
        await self._follower.wait_for_media(FIRST_MEDIA_S)
        await wait_for_sound(self._awaits_sound, self._came)
        for kind, track in self._tracks.items():
            codec = codec_of(track)
            if isinstance(codec, AudioCodec):
                self._formats[kind] = audio_format(codec)
            elif codec in IN_BAND and track.width and track.height:
                assert isinstance(codec, VideoCodec)
                self._formats[kind] = video_format(codec, b"", track.width, track.height)
            else:
                self._formats[kind] = await self._format_from_key_frame()
        self._make_parts()

    def formats(self) -> Sequence[StreamFormat]:
        return [self._formats[kind] for kind in self._tracks]

    def name_values(self) -> dict[str, str]:
        return name_values(list(self._tracks.values()))

    async def start(self, sink: PacketSink) -> int:
        sids = [track.sid for track in self._tracks.values()]
        arrived = [self._follower.arrived[sid] for sid in sids if sid in self._follower.arrived]
        heard = [frame.at_ns for frame in self._held]
        zero_ns = min([*arrived, *heard], default=self._follower.now_ns())
        self._begin_at(zero_ns)
        if not self._watched:
            self._follower.batch_reads()
        self._sink = sink
        held, self._held = self._held, deque()
        for frame in held:
            self._take(frame)
        if self._audio is not None:
            self._audio.keep_filling()
        return zero_ns

    async def pause(self, mode: PauseMode) -> int:
        """Stops receiving, and leaves the time out of the recording. Returns when the pause began, in unix
        ns. Raises EgressError if the tracks cannot be unsubscribed, or a card is requested."""
        if mode is not PauseMode.CUT:
            text = "passed-through tracks cannot show a card: use on_pause=cut"
            raise EgressError(Code.UNIMPLEMENTED, text)
        now_ns = self._follower.now_ns()
        self._cut.begin(now_ns)
        try:
            await self._follower.pause()
        except BaseException:
            self._cut.abandon()
            raise
        if self._video is not None:
            self._video.end_sequence()
        return now_ns

    async def resume(self) -> int:
        """Continues the recording with the first key frame, or with sound if there is no picture. Returns
        when it continued, in unix ns. Raises EgressError if the room closed meanwhile."""
        self._cut.await_media()
        try:
            await self._follower.resume(FIRST_MEDIA_S)
            video = self._tracks.get(MediaKind.VIDEO)
            with_video = video is not None and not video.muted
            first_ns = await self._cut.first_ns(with_video=with_video, timeout_s=FIRST_MEDIA_S)
        except BaseException:
            self._cut.wait_on()
            raise
        resumed_ns = self._follower.now_ns() if first_ns is None else first_ns
        before_ns = self._cut.total_ns
        frames = self._cut.end(resumed_ns)
        self._begin_at(self._zero_ns + self._cut.total_ns - before_ns)
        # Its times may be rounded down.
        self._resumptions.note(Resumption(resumed_ns - self._zero_ns - MS, self._cut.total_ns))
        for _, frame in frames:
            self._take(frame)
        return resumed_ns

    async def change_rules(self, rules: EndRules) -> None:
        await self._follower.change_rules(rules)

    def request_key_frames(self) -> None:
        if (video := self._tracks.get(MediaKind.VIDEO)) is not None:
            self._follower.request_key_frame(video.sid)

    def events(self) -> AsyncIterator[SourceEvent]:
        return self._follower.events()

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        parts = [part for part in (self._video, self._audio) if part is not None]
        for part in parts:
            part.cancel_wait()
        await self._follower.release()
        if self._sink is not None:
            for part in parts:
                part.flush()
        self._sink = None

    async def close(self) -> None:
        await self._follower.close()

    def stats(self) -> SourceStats:
        parts = [part for part in (self._video, self._audio) if part is not None]
        frames = sum(part.frames for part in parts)
        dropped = self._dropped + sum(part.dropped for part in parts)
        return SourceStats(frames, frames, dropped, self._follower.losses())

    # --- Listener

    def on_frame(self, track: Track, frame: EncodedFrame) -> None:
        if self._sink is None:
            self._held.append(frame)
            self._came.set()
        elif self._cut.takes(track, frame):
            self._take(frame)

    def on_selection(self, selection: Selection) -> None:
        before = self._tracks.get(MediaKind.VIDEO)
        self._take_tracks(selection)
        video = self._tracks.get(MediaKind.VIDEO)
        if self._video is not None and video is not None and before is not None and video.sid != before.sid:
            self._video.await_key()

    def shed(self, what: Shedding) -> None:
        """Leaves the video out if memory is very short. Nothing waits here: the outputs use the memory."""
        video = self._tracks.get(MediaKind.VIDEO)
        if what is Shedding.TRACK and video is not None:
            self._follower.leave_out(video.sid, Reason.MEMORY)

    # --- inside

    def _make_parts(self) -> None:
        if (sound := self._formats.get(MediaKind.AUDIO)) is not None:
            self._audio = PassthroughAudio(sound, self._emit, self._recorded_until_ns, self._is_sound_muted)
        if (pictures := self._formats.get(MediaKind.VIDEO)) is not None:
            self._video = PassthroughVideo(
                self._tracks[MediaKind.VIDEO],
                pictures,
                self._emit,
                self._follower.request_key_frame,
                self._sound_late_ns,
            )

    def _awaits_sound(self) -> bool:
        """Whether sound has arrived whose place on the timeline is not known yet: the first frames determine
        it together. If it lay before media time zero, all later sound would be written late."""
        sound = self._tracks.get(MediaKind.AUDIO)
        if sound is None or sound.sid not in self._follower.arrived:
            return False
        return not any(isinstance(frame.codec, AudioCodec) for frame in self._held)

    def _take_tracks(self, selection: Selection) -> None:
        """Takes the first track of each kind: a container gets one of each."""
        for track in reversed(selection.tracks):
            self._tracks[track.kind] = track

    async def _format_from_key_frame(self) -> StreamFormat:
        while True:
            try:
                async with asyncio.timeout(FIRST_KEY_FRAME_S):
                    frame = await self._follower.first_key_frame(self._tracks[MediaKind.VIDEO].sid)
                    return video_format(frame.codec, frame.data, frame.width, frame.height)
            except TimeoutError:
                track = self._tracks[MediaKind.VIDEO]
                if track.muted:
                    continue  # its publisher may unmute it at any time
                raise EgressError(
                    Code.UNAVAILABLE,
                    f"track {track.sid} ({track.mime_type}) sent no key frame within"
                    f" {FIRST_KEY_FRAME_S:.0f} s: check its publisher",
                    fault=Fault.SERVICE,
                    phase=Phase.FIRST_FRAME,
                ) from None

    def _take(self, frame: EncodedFrame) -> None:
        kind = MediaKind.AUDIO if isinstance(frame.codec, AudioCodec) else MediaKind.VIDEO
        part = self._audio if kind is MediaKind.AUDIO else self._video
        if part is None:
            self._dropped += 1
        elif frame.codec is not (codec := self._formats[kind].codec):
            self._follower.fail(
                EgressError(
                    Code.FAILED_PRECONDITION,
                    f"track {frame.track_sid} changed from {codec.value} to {frame.codec.value}; "
                    "to record across such a change, request an encoding instead of passing it through",
                    phase=Phase.RECORDING,
                )
            )
        else:
            part.take(frame)

    def _sound_late_ns(self) -> int:
        """By how much sound of the picture's publisher was written late."""
        sound, video = self._tracks.get(MediaKind.AUDIO), self._tracks[MediaKind.VIDEO]
        if self._audio is None or sound is None or sound.participant.identity != video.participant.identity:
            return 0
        return self._audio.late_ns

    def _is_sound_muted(self) -> bool:
        return self._tracks[MediaKind.AUDIO].muted

    def _begin_at(self, zero_ns: int) -> None:
        """Sets the beginning. `zero_ns`: unix ns at which the recording would have begun without its
        pauses."""
        self._zero_ns = zero_ns
        for part in (self._video, self._audio):
            if part is not None:
                part.begin(zero_ns)

    def _recorded_until_ns(self) -> int:
        since_ns = self._cut.open_since_ns
        return self._follower.now_ns() if since_ns is None else since_ns

    def _emit(self, packet: Packet) -> None:
        if self._sink is not None:
            # The filler for the last moment before a pause comes only after it.
            self._sink.write(self._resumptions.stamped_one(packet))


async def wait_for_sound(awaits_sound: Callable[[], bool], came: asyncio.Event) -> None:
    """Waits for the first sound frame. `came`: set by each frame, perhaps an awaited one."""
    try:
        async with asyncio.timeout(FIRST_SOUND_S):
            while awaits_sound():
                came.clear()
                await came.wait()
    except TimeoutError:
        pass  # its packets are unusable, or it has paused again


def name_values(tracks: Sequence[Track]) -> dict[str, str]:
    """The filename placeholders that only the room knows. A track's values are available only if it is the
    only track. The publisher is the picture's if the sound has another."""
    values: dict[str, str] = {}
    videos = [track for track in tracks if track.kind is MediaKind.VIDEO]
    identities = {track.participant.identity for track in (videos if len(videos) == 1 else tracks)}
    if len(identities) == 1:
        values["publisher_identity"] = identities.pop()
    if len(tracks) == 1:
        values["track_id"] = tracks[0].sid
        values["track_type"] = tracks[0].kind.value
        values["track_source"] = tracks[0].source.value
    return values
