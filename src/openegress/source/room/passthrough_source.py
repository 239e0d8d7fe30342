"""Tracks of a room as they are: encoded frames on the recording's timeline, nothing decoded.

Everything runs on the event loop: the work is a few numbers a frame.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.media import NS, Packet, PacketSink, StreamFormat
from openegress.media.passthrough import VIDEO_TIME_BASE, audio_format, video_format
from openegress.room import EncodedFrame, Track
from openegress.source import SourceEvent, SourceStats
from openegress.source.room.codec import IN_BAND, codec_of
from openegress.source.room.placement import AudioPlacer, Placed, VideoPlacer
from openegress.source.room.selection import Selection
from openegress.source.room.session import RoomSession

FIRST_MEDIA_S = 2.0
"""For the first packet of a track that is subscribed; it takes a tenth of that."""
FIRST_KEY_FRAME_S = 20.0
"""For parameters that only a key frame tells. One comes with the subscription, or is asked for at once."""
SILENCE_AFTER_NS = 9 * NS
"""A track that sends no sound for this long gets silence meanwhile, rather than all at once when it is back.
Longer than the room client holds frames back for a sender report (8 s)."""


class RoomPacketSource:
    """Implements source.PacketSource for one video track, one audio track, or both."""

    def __init__(self, session: RoomSession, *, watched: bool = False) -> None:
        """`session` has joined; it is closed with the source. `watched`: somebody waits for each packet."""
        self._session = session
        self._watched = watched
        self._tracks: dict[MediaKind, Track] = {}
        self._formats: dict[MediaKind, StreamFormat] = {}
        self._held: deque[EncodedFrame] = deque()
        self._sink: PacketSink | None = None
        self._zero_ns = 0
        self._video = VideoPlacer()
        self._audio: AudioPlacer | None = None
        self._awaits_key = True
        self._silencer: asyncio.TimerHandle | None = None
        self._audio_lag_ns = 0
        self._frames = 0
        self._dropped = 0
        self._stopped = False

    async def prepare(self) -> None:
        self._take_tracks(self._session.selection)
        await self._session.subscribe(self)
        await self._session.wait_for_media(FIRST_MEDIA_S)
        for kind, track in self._tracks.items():
            codec = codec_of(track)
            if isinstance(codec, AudioCodec):
                self._formats[kind] = audio_format(codec)
                self._audio = AudioPlacer(codec)
            elif codec in IN_BAND and track.width and track.height:
                assert isinstance(codec, VideoCodec)
                self._formats[kind] = video_format(codec, b"", track.width, track.height)
            else:
                self._formats[kind] = await self._format_from_key_frame()

    def formats(self) -> Sequence[StreamFormat]:
        return [self._formats[kind] for kind in self._tracks]

    def name_values(self) -> dict[str, str]:
        return name_values(list(self._tracks.values()))

    async def start(self, sink: PacketSink) -> int:
        if self._held:
            self._zero_ns = min(frame.capture_ns for frame in self._held)
        else:
            arrived = [self._session.arrived.get(track.sid, 0) for track in self._tracks.values()]
            self._zero_ns = max(arrived, default=0) or self._session.now_ns()
        if not self._watched:
            self._session.relax()
        self._sink = sink
        held, self._held = self._held, deque()
        for frame in held:
            self._write(frame)
        if self._audio is not None:
            self._fill_silence()
        return self._zero_ns

    def events(self) -> AsyncIterator[SourceEvent]:
        return self._session.events()

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self._silencer is not None:
            self._silencer.cancel()
        await self._session.release()
        if self._sink is not None and self._audio is not None:
            self._write_silence(self._session.now_ns() - self._zero_ns - self._audio_lag_ns)
        self._sink = None

    async def close(self) -> None:
        await self._session.close()

    def stats(self) -> SourceStats:
        return SourceStats(self._frames, self._frames, self._dropped)

    # --- Listener

    def on_frame(self, track: Track, frame: EncodedFrame) -> None:
        if self._sink is None:
            self._held.append(frame)
        else:
            self._write(frame)

    def on_selection(self, selection: Selection) -> None:
        before = dict(self._tracks)
        self._take_tracks(selection)
        video = self._tracks.get(MediaKind.VIDEO)
        was = before.get(MediaKind.VIDEO)
        if video is not None and was is not None and video.sid != was.sid:
            self._awaits_key = True

    def on_rejoined(self) -> None:
        self._awaits_key = True

    # --- inside

    def _take_tracks(self, selection: Selection) -> None:
        """The first track of each kind: a container gets one of each."""
        for track in reversed(selection.tracks):
            self._tracks[track.kind] = track

    async def _format_from_key_frame(self) -> StreamFormat:
        while True:
            try:
                async with asyncio.timeout(FIRST_KEY_FRAME_S):
                    frame = await self._session.first_key_frame(self._tracks[MediaKind.VIDEO].sid)
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

    def _write(self, frame: EncodedFrame) -> None:
        kind = MediaKind.AUDIO if isinstance(frame.codec, AudioCodec) else MediaKind.VIDEO
        stream = self._formats.get(kind)
        if stream is None:
            self._dropped += 1
            return
        if frame.codec is not stream.codec:
            self._session.fail(
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
        if self._awaits_key and not frame.is_key:
            self._dropped += 1
            self._session.request_key_frame(frame.track_sid)
            return
        self._awaits_key = False
        pts = self._video.place(frame.capture_ns - self._zero_ns)
        self._frames += 1
        self._emit(Packet(MediaKind.VIDEO, frame.data, pts, pts, 0, VIDEO_TIME_BASE, frame.is_key))

    def _write_audio(self, frame: EncodedFrame) -> None:
        assert self._audio is not None
        self._audio_lag_ns = max(0, self._session.now_ns() - frame.capture_ns)
        placed = self._audio.place(frame.capture_ns - self._zero_ns, frame.rtp_timestamp, frame.data)
        if placed:
            self._frames += 1
        else:
            self._dropped += 1
        self._emit_audio(placed)

    def _fill_silence(self) -> None:
        self._silencer = asyncio.get_running_loop().call_later(1.0, self._fill_silence)
        self._write_silence(self._session.now_ns() - self._zero_ns - SILENCE_AFTER_NS)

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
