"""Tracks of a room as they are: encoded frames on the recording's timeline, nothing decoded.

Everything runs on the event loop: the work is a few numbers a frame.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from openegress.core.codecs import VIDEO_TIME_BASE, AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.units import S
from openegress.media import Packet, PacketSink, StreamFormat
from openegress.media.passthrough import audio_format, reorder_depth, video_format
from openegress.media.pause_probe import PauseProbe
from openegress.room import EncodedFrame, Track
from openegress.room.budget import Reason
from openegress.room.sync.picture_line import PictureLine
from openegress.source import SourceEvent, SourceStats
from openegress.source.memory import Shedding
from openegress.source.room.codec import IN_BAND, codec_of
from openegress.source.room.first_layer import WAIT_NS, FirstLayer
from openegress.source.room.picture_times import DecodeTimes, PresentationTimes, Timed
from openegress.source.room.pts import AudioPts, Placed, VideoPts
from openegress.source.room.selection import Selection
from openegress.source.room.track_follower import TrackFollower

FIRST_MEDIA_S = 2.0
"""For the first packet of a track that is subscribed; it takes a tenth of that."""
FIRST_KEY_FRAME_S = 20.0
"""For parameters that only a key frame tells. One comes with the subscription, or is asked for at once."""
FIRST_SOUND_S = 0.3
"""From the first packet to the first frame of sound, which is held for 0.12 s (room.sync.arrival)."""
MUTED_AFTER_NS = 1 * S
"""A track that is muted, or has sent nothing yet, gets silence so long after it is due: a player, and whoever
follows the file, have both tracks all along. Longer than the room client waits for lost packets (0.7 s) and
holds frames (0.2 s)."""
STALLED_AFTER_NS = 8 * S
"""So does one that stopped sending without a word, but later: after a cut of five seconds all of it is sent
again, and sound that comes after silence took its place is late."""
SILENCE_EVERY_S = 0.5


class RoomPacketSource:
    """Implements source.PacketSource for one video track, one audio track, or both."""

    def __init__(self, follower: TrackFollower, *, watched: bool = False) -> None:
        """`follower` has joined; it is closed with the source. `watched`: somebody waits for each packet."""
        self._follower = follower
        self._watched = watched
        self._tracks: dict[MediaKind, Track] = {}
        self._formats: dict[MediaKind, StreamFormat] = {}
        self._held: deque[EncodedFrame] = deque()
        self._came = asyncio.Event()
        """A frame, before the start."""
        self._sink: PacketSink | None = None
        self._zero_ns = 0
        self._video = VideoPts()
        self._lips = PictureLine()
        self._layer: FirstLayer[EncodedFrame] = FirstLayer(0, 0)
        self._shown = PresentationTimes()
        self._decoded: DecodeTimes[EncodedFrame] = DecodeTimes(0)
        self._layer_timer: asyncio.TimerHandle | None = None
        self._audio: AudioPts | None = None
        self._awaits_key = True
        self._silencer: asyncio.TimerHandle | None = None
        self._audio_lag_ns = 0
        """How long after its time the last packet of sound came: what was under way at the end is not
        silence."""
        self._frames = 0
        self._dropped = 0
        self._stopped = False

    async def prepare(self) -> None:
        self._take_tracks(self._follower.selection)
        await self._follower.subscribe(self)
        await self._follower.wait_for_media(FIRST_MEDIA_S)
        await self._wait_for_sound()
        for kind, track in self._tracks.items():
            codec = codec_of(track)
            if isinstance(codec, AudioCodec):
                self._formats[kind] = audio_format(codec)
                self._audio = AudioPts(codec, PauseProbe(codec).is_pause)
            elif codec in IN_BAND and track.width and track.height:
                assert isinstance(codec, VideoCodec)
                self._formats[kind] = video_format(codec, b"", track.width, track.height)
            else:
                self._formats[kind] = await self._format_from_key_frame()

        if (video := self._tracks.get(MediaKind.VIDEO)) is not None:
            self._layer = FirstLayer(video.width, video.height)
            self._decoded = DecodeTimes(reorder_depth(self._formats[MediaKind.VIDEO]))

    def formats(self) -> Sequence[StreamFormat]:
        return [self._formats[kind] for kind in self._tracks]

    def name_values(self) -> dict[str, str]:
        return name_values(list(self._tracks.values()))

    async def start(self, sink: PacketSink) -> int:
        sids = [track.sid for track in self._tracks.values()]
        arrived = [self._follower.arrived[sid] for sid in sids if sid in self._follower.arrived]
        heard = [frame.at_ns for frame in self._held]
        self._zero_ns = min([*arrived, *heard], default=self._follower.now_ns())
        if not self._watched:
            self._follower.batch_reads()
        self._sink = sink
        held, self._held = self._held, deque()
        for frame in held:
            self._take(frame)
        if self._audio is not None:
            self._fill_silence()
        return self._zero_ns

    def events(self) -> AsyncIterator[SourceEvent]:
        return self._follower.events()

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        for timer in (self._silencer, self._layer_timer):
            if timer is not None:
                timer.cancel()
        await self._follower.release()
        self._end_layer_wait()
        self._emit_video(self._decoded.flush())
        if self._sink is not None and self._audio is not None:
            self._write_silence(self._follower.now_ns() - self._zero_ns - self._audio_lag_ns)
        self._sink = None

    async def close(self) -> None:
        await self._follower.close()

    def stats(self) -> SourceStats:
        return SourceStats(self._frames, self._frames, self._dropped, self._follower.losses())

    # --- Listener

    def on_frame(self, track: Track, frame: EncodedFrame) -> None:
        if self._sink is None:
            self._held.append(frame)
            self._came.set()
        else:
            self._take(frame)

    def on_selection(self, selection: Selection) -> None:
        before = dict(self._tracks)
        self._take_tracks(selection)
        video = self._tracks.get(MediaKind.VIDEO)
        was = before.get(MediaKind.VIDEO)
        if video is not None and was is not None and video.sid != was.sid:
            self._awaits_key = True

    def shed(self, what: Shedding) -> None:
        """Nothing waits here: what is short of memory is the outputs, which get fewer pictures."""
        video = self._tracks.get(MediaKind.VIDEO)
        if what is Shedding.TRACK and video is not None:
            self._follower.leave_out(video.sid, Reason.MEMORY)

    # --- inside

    async def _wait_for_sound(self) -> None:
        try:
            async with asyncio.timeout(FIRST_SOUND_S):
                while self._awaits_sound():
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            pass  # its packets cannot be used, or it has paused again

    def _awaits_sound(self) -> bool:
        """Whether sound has arrived, but not yet its place on the timeline, which the first frames tell
        together. It must not lie before media time zero: it would be written late from there on."""
        sound = self._tracks.get(MediaKind.AUDIO)
        if sound is None or sound.sid not in self._follower.arrived:
            return False
        return not any(isinstance(frame.codec, AudioCodec) for frame in self._held)

    def _take_tracks(self, selection: Selection) -> None:
        """The first track of each kind: a container gets one of each."""
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
                    f" {FIRST_KEY_FRAME_S:.0f} s: look at its publisher",
                    fault=Fault.SERVICE,
                    phase=Phase.FIRST_FRAME,
                ) from None

    def _take(self, frame: EncodedFrame) -> None:
        """Writes what is to be recorded now: no picture before the first key frame, nor of a layer that is
        not the one to be recorded."""
        if isinstance(frame.codec, AudioCodec):
            self._write(frame)
            return
        if self._awaits_key and not frame.is_key:
            self._dropped += 1
            self._follower.request_key_frame(frame.track_sid)
            return
        self._awaits_key = False
        for each in self._layer.take(frame.at_ns, frame.width, frame.height, frame):
            self._write(each)
        if self._layer.is_waiting and self._layer_timer is None:
            # By the clock too: a picture that stands still is not followed by one that ends the wait.
            self._layer_timer = asyncio.get_running_loop().call_later(WAIT_NS / S, self._end_layer_wait)

    def _end_layer_wait(self) -> None:
        for frame in self._layer.begin():
            self._write(frame)

    def _write(self, frame: EncodedFrame) -> None:
        kind = MediaKind.AUDIO if isinstance(frame.codec, AudioCodec) else MediaKind.VIDEO
        stream = self._formats.get(kind)
        if stream is None:
            self._dropped += 1
            return
        if frame.codec is not stream.codec:
            self._follower.fail(
                EgressError(
                    Code.FAILED_PRECONDITION,
                    f"track {frame.track_sid} changed from {stream.codec.value} to {frame.codec.value}; "
                    "to record over such a change, ask for an encoding instead of passing the track through",
                    phase=Phase.RECORDING,
                )
            )
            return
        if kind is MediaKind.AUDIO:
            self._write_audio(frame)
        else:
            self._write_video(frame)

    def _write_video(self, frame: EncodedFrame) -> None:
        at_ns = self._lips.place(frame.at_ns - self._zero_ns, self._sound_late_ns())
        wall = self._video.place(at_ns)
        self._frames += 1
        pts = self._shown.place(wall, frame.rtp_timestamp, is_key=frame.is_key)
        self._emit_video(self._decoded.put(pts, frame))

    def _sound_late_ns(self) -> int:
        """Pictures keep to the sound of their publisher where that had to be written late: it cannot be
        hurried as it is, and a picture can wait."""
        sound, video = self._tracks.get(MediaKind.AUDIO), self._tracks[MediaKind.VIDEO]
        if self._audio is None or sound is None or sound.participant.identity != video.participant.identity:
            return 0
        return self._audio.late_ns

    def _emit_video(self, pictures: Sequence[Timed[EncodedFrame]]) -> None:
        for each in pictures:
            frame = each.item
            self._emit(
                Packet(MediaKind.VIDEO, frame.data, each.pts, each.dts, 0, VIDEO_TIME_BASE, frame.is_key)
            )

    def _write_audio(self, frame: EncodedFrame) -> None:
        assert self._audio is not None
        self._audio_lag_ns = max(0, self._follower.now_ns() - frame.at_ns)
        placed = self._audio.place(frame.at_ns - self._zero_ns, frame.rtp_timestamp, frame.data)
        if placed:
            self._frames += 1
        else:
            self._dropped += 1
        self._emit_audio(placed)

    def _fill_silence(self) -> None:
        self._silencer = asyncio.get_running_loop().call_later(SILENCE_EVERY_S, self._fill_silence)
        assert self._audio is not None
        is_muted = self._tracks[MediaKind.AUDIO].muted or self._audio.end_ns is None
        after_ns = MUTED_AFTER_NS if is_muted else STALLED_AFTER_NS
        self._write_silence(self._follower.now_ns() - self._zero_ns - after_ns)

    def _write_silence(self, until_ns: int) -> None:
        assert self._audio is not None
        self._emit_audio(self._audio.silence_until(until_ns))

    def _emit_audio(self, placed: Sequence[Placed]) -> None:
        base = self._formats[MediaKind.AUDIO].time_base
        for each in placed:
            self._emit(Packet(MediaKind.AUDIO, each.data, each.pts, each.pts, each.duration, base, True))

    def _emit(self, packet: Packet) -> None:
        if self._sink is not None:
            self._sink.write(packet)


def name_values(tracks: Sequence[Track]) -> dict[str, str]:
    """The filename placeholders that only the room can fill. Those of a track need it to be the only one; the
    publisher is that of the picture, where sound is another's."""
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
