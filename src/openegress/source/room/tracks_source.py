"""Passes all tracks of a room through separately, as people come and go, without decoding.

Everything runs on the event loop: the work is a few numbers per frame.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from openegress.core.codecs import AudioCodec, MediaKind
from openegress.core.end_rules import EndRules
from openegress.core.pause_mode import PauseMode
from openegress.core.routes import DataRoute
from openegress.core.units import S
from openegress.media import Packet, PacketSink, StreamFormat
from openegress.room import EncodedFrame, Track, TrackSource
from openegress.room.budget import Reason
from openegress.room.events import DataArrived
from openegress.source import Observed, SourceEvent, SourceStats
from openegress.source.memory import Shedding
from openegress.source.room.file_tracks import FileTracks
from openegress.source.room.first_layer import WAIT_NS
from openegress.source.room.passthrough_cut import PassthroughCut
from openegress.source.room.passthrough_source import FIRST_MEDIA_S, wait_for_sound
from openegress.source.room.recorded_data import RecordedData
from openegress.source.room.recorded_track import PictureTrack, SoundTrack
from openegress.source.room.selection import Selection
from openegress.source.room.track_follower import TrackFollower

L = TypeVar("L", SoundTrack, PictureTrack)

_AUDIO_SOURCES = {TrackSource.SCREEN_SHARE: TrackSource.SCREEN_SHARE_AUDIO}
"""The source of the sound that a picture is in step with; for others, the microphone."""


@dataclass(slots=True)
class FrameCounts:
    """Counts frames of all tracks."""

    frames: int = 0
    """Recorded frames."""
    dropped: int = 0


class RoomTracksSource:
    """Implements source.PacketSource for any number of tracks. Its packets name their tracks."""

    def __init__(self, follower: TrackFollower, data: Sequence[DataRoute] = ()) -> None:
        """`follower` has joined; the source closes it. `data`: the data that is recorded too."""
        self._follower = follower
        self._selection = follower.selection
        self._held: deque[tuple[Track, EncodedFrame]] = deque()
        """Frames from before the start."""
        self._came = asyncio.Event()
        self._sink: PacketSink | None = None
        self._cut = PassthroughCut()
        self._zero_ns = 0
        self._file_tracks = FileTracks()
        self._data = RecordedData(data, self._file_tracks)
        self._sounds: dict[str, tuple[Track, SoundTrack]] = {}
        self._pictures: dict[str, tuple[Track, PictureTrack]] = {}
        """The pictures, by SID. Tracks that are gone stay until their publisher publishes the same source
        again."""
        self._newest_sound: dict[tuple[str, TrackSource], SoundTrack] = {}
        """The newest sound, by identity and source."""
        self._layer_timers: dict[str, asyncio.TimerHandle] = {}
        self._counted = FrameCounts()
        self._stopped = False

    async def prepare(self) -> None:
        await self._follower.subscribe(self)
        await self._follower.wait_for_media(FIRST_MEDIA_S)
        await wait_for_sound(self._awaits_sound, self._came)

    def formats(self) -> Sequence[StreamFormat]:
        """Returns no formats: each packet brings its own."""
        return []

    def name_values(self) -> dict[str, str]:
        """Returns no values: no single track could name a file."""
        return {}

    async def start(self, sink: PacketSink) -> int:
        arrived = self._follower.arrived.values()
        heard = [frame.at_ns for _, frame in self._held]
        self._zero_ns = min([*arrived, *heard], default=self._follower.now_ns())
        self._follower.batch_reads()
        self._sink = sink
        held, self._held = self._held, deque()
        for track, frame in held:
            self._take(track, frame)
        self._emit(self._data.begin(self._zero_ns))
        return self._zero_ns

    async def pause(self, mode: PauseMode) -> int:
        """Stops receiving: the recording leaves the time out, or has a gap in its tracks. Returns when the
        pause began, in unix ns. Raises EgressError if the tracks cannot be unsubscribed."""
        now_ns = self._follower.now_ns()
        self._cut.begin(now_ns, mode)
        try:
            await self._follower.pause()
        except BaseException:
            self._cut.abandon()
            raise
        self.end_sequences()
        return now_ns

    def end_sequences(self) -> None:
        """Makes each picture continue with a key frame: later frames do not follow earlier ones."""
        self._end_layer_waits()
        for _, pictures in self._pictures.values():
            self._emit(pictures.end_sequence())

    async def resume(self) -> int:
        """Continues the recording with the first key frame of any picture, or with sound if there is none;
        after a gap, with any media. Returns when it continued, in unix ns. Raises EgressError if the room
        closed meanwhile."""
        if self._cut.mode is PauseMode.HOLD:
            resumed_ns = self._follower.now_ns()
            self._cut.end(resumed_ns)
            await self._follower.resume(FIRST_MEDIA_S)
            return resumed_ns
        self._cut.await_media()
        try:
            await self._follower.resume(FIRST_MEDIA_S)
            sending = [track for track in self._selection.tracks if not track.muted]
            first_ns = await self._cut.first_ns(
                with_video=any(track.kind is MediaKind.VIDEO for track in sending),
                timeout_s=FIRST_MEDIA_S if sending else 0.0,
            )
        except BaseException:
            self._cut.wait_on()
            raise
        resumed_ns = self._follower.now_ns() if first_ns is None else first_ns
        before_ns = self._cut.total_ns
        frames = self._cut.end(resumed_ns)
        self._zero_ns += self._cut.total_ns - before_ns
        self._emit(self._data.begin(self._zero_ns))
        for _, sound in self._sounds.values():
            sound.go_on(self._zero_ns)
        for _, pictures in self._pictures.values():
            pictures.go_on(self._zero_ns)
        for track, frame in frames:
            self._take(track, frame)
        return resumed_ns

    async def change_rules(self, rules: EndRules) -> None:
        await self._follower.change_rules(rules)

    def request_key_frames(self) -> None:
        for sid in self._pictures:
            self._follower.request_key_frame(sid)

    async def events(self) -> AsyncIterator[SourceEvent]:
        async for event in self._follower.events():
            if isinstance(event, Observed) and isinstance(event.event, DataArrived) and not self._is_paused:
                self._emit(self._data.take(event.event))
            yield event

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        await self._follower.release()
        self._end_layer_waits()
        for _, pictures in self._pictures.values():
            self._emit(pictures.begin())
        self._sink = None

    async def close(self) -> None:
        await self._follower.close()

    def stats(self) -> SourceStats:
        return SourceStats(
            self._counted.frames, self._counted.frames, self._counted.dropped, self._follower.losses()
        )

    # --- Listener

    def on_frame(self, track: Track, frame: EncodedFrame) -> None:
        if self._sink is None:
            if not self._stopped:
                self._held.append((track, frame))
                self._came.set()
        elif self._cut.takes(track, frame):
            self._take(track, frame)

    def on_selection(self, selection: Selection) -> None:
        self._selection = selection

    def shed(self, what: Shedding) -> None:
        """Leaves the largest video out if memory is very short. Nothing waits here: the outputs use the
        memory."""
        selected = {track.sid for track in self._selection.tracks}
        pictures = [(each.written_bytes, sid) for sid, (_, each) in self._pictures.items() if sid in selected]
        if what is Shedding.TRACK and pictures:
            self._follower.leave_out(max(pictures)[1], Reason.MEMORY)

    # --- inside

    @property
    def _is_paused(self) -> bool:
        return self._cut.open_since_ns is not None

    def _awaits_sound(self) -> bool:
        """Whether sound has arrived whose place on the timeline is not known yet: it must not lie before
        media time zero."""
        held = {track.sid for track, _ in self._held}
        return any(
            track.kind is MediaKind.AUDIO and track.sid in self._follower.arrived and track.sid not in held
            for track in self._selection.tracks
        )

    def _take(self, track: Track, frame: EncodedFrame) -> None:
        if isinstance(frame.codec, AudioCodec):
            packets = self._sound(track).take(frame)
            self._counted.dropped += not packets
            self._emit(packets)
            return
        pictures = self._picture(track)
        if pictures.needs_key(frame):
            self._counted.dropped += 1
            self._follower.request_key_frame(frame.track_sid)
            return
        packets = pictures.take(frame, self._sound_late_ns(track))
        self._counted.dropped += not packets and not pictures.is_waiting
        self._emit(packets)
        if pictures.is_waiting and track.sid not in self._layer_timers:
            # A timer ends the wait too: an unchanging picture has no successor that could.
            loop = asyncio.get_running_loop()
            timer = loop.call_later(WAIT_NS / S, self._end_layer_wait, track.sid, pictures)
            self._layer_timers[track.sid] = timer

    def _end_layer_wait(self, sid: str, pictures: PictureTrack) -> None:
        self._layer_timers.pop(sid, None)
        self._emit(pictures.begin())

    def _end_layer_waits(self) -> None:
        for timer in self._layer_timers.values():
            timer.cancel()
        self._layer_timers.clear()

    def _sound(self, track: Track) -> SoundTrack:
        is_new = track.sid not in self._sounds
        sound = self._line(self._sounds, track, SoundTrack)
        if is_new:
            self._newest_sound[track.participant.identity, track.source] = sound
        return sound

    def _picture(self, track: Track) -> PictureTrack:
        return self._line(self._pictures, track, PictureTrack)

    def _line(self, lines: dict[str, tuple[Track, L]], track: Track, new: type[L]) -> L:
        """The line of `track` among `lines`; the same one continues if its publisher publishes it again."""
        if (known := lines.get(track.sid)) is not None:
            return known[1]
        former = self._former(track, [each for each, _ in lines.values()])
        if former is None:
            line = new(track, self._file_tracks, self._zero_ns)
        else:
            _, line = lines.pop(former.sid)
            self._emit(line.renew(track))
        lines[track.sid] = (track, line)
        return line

    def _former(self, track: Track, known: Sequence[Track]) -> Track | None:
        """The track of an earlier publication of the same source that has ended."""
        selected = {each.sid for each in self._selection.tracks}
        return next((each for each in known if each.key == track.key and each.sid not in selected), None)

    def _sound_late_ns(self, picture: Track) -> int:
        """How late the publisher's sound was written. Pictures stay in step with it: passed-through sound
        cannot be sped up, but a picture can wait."""
        source = _AUDIO_SOURCES.get(picture.source, TrackSource.MICROPHONE)
        sound = self._newest_sound.get((picture.participant.identity, source))
        return sound.late_ns if sound is not None else 0

    def _emit(self, packets: Sequence[Packet]) -> None:
        self._counted.frames += len(packets)
        if self._sink is not None:
            for packet in packets:
                self._sink.write(packet)
