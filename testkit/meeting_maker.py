"""A recording of tracks without a room: participants that show the test pattern, written as recorders do."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.file_track import FileTrack
from openegress.media.matroska import MatroskaWriter
from openegress.media.passthrough import audio_format, video_format
from openegress.output.spool_file import SpoolFile
from openegress.room import Participant, Track, TrackSource
from openegress.source.room.file_tracks import FileTracks
from testkit.live_encoder import LiveEncoder
from testkit.participants import Codec
from testkit.pattern import COLOURS, SAMPLE_RATE, Picture, PictureSpec, Sound

WIDTH, HEIGHT, FPS = 640, 360, 30
BLOCK = SAMPLE_RATE // 50


@dataclass(frozen=True, slots=True)
class Attendance:
    """Flash and beep are on whole seconds of the recording, and picture `n` is at n / FPS."""

    identity: str
    from_s: float
    to_s: float
    codec: Codec = "vp8"
    speaks: tuple[tuple[float, float], ...] = ()
    """When its tone sounds beside the beeps."""
    tone_hz: float = 300.0
    beeps: bool = True
    key_every_s: float = 0.0
    """0: only the first picture is a key frame."""
    small: tuple[tuple[float, float], ...] = ()
    """When its pictures are half as large, in another file track."""
    cameras: int = 1


def make_meeting(path: Path, people: Sequence[Attendance]) -> Path:
    file = SpoolFile(path)
    writer = MatroskaWriter(file.write, file.rewrite, 1_800_000_000 * S)
    writer.open()
    for packet in meeting_packets(people):
        writer.write(packet)
    writer.close()
    file.release()
    return path


def meeting_packets(people: Sequence[Attendance]) -> list[Packet]:
    """In the order of their times."""
    tracks = FileTracks()
    packets = [packet for number, each in enumerate(people) for packet in _packets(each, number, tracks)]
    return sorted(packets, key=lambda each: each.pts_ns)


def _packets(of: Attendance, number: int, tracks: FileTracks) -> list[Packet]:
    cameras = [packet for nth in range(of.cameras) for packet in _pictures(of, number, nth, tracks)]
    return [*cameras, *_sound(of, number, tracks)]


def _track(of: Attendance, number: int, source: TrackSource, nth: int = 0) -> Track:
    kind = MediaKind.VIDEO if source is TrackSource.CAMERA else MediaKind.AUDIO
    who = Participant(of.identity, of.identity, of.identity.title(), "standard")
    return Track(f"TR_{source}{number}-{nth}", "", kind, source, "", who, False)


def _pictures(of: Attendance, number: int, nth: int, tracks: FileTracks) -> list[Packet]:
    first, last = round(of.from_s * FPS), round(of.to_s * FPS)
    group = round(of.key_every_s * FPS) or last
    made: list[Packet] = []
    formats: dict[bool, tuple[Picture, LiveEncoder, FileTrack | None]] = {}
    before: bool | None = None
    for index in range(first, last):
        is_small = any(since <= index / FPS < until for since, until in of.small)
        width, height = (WIDTH // 2, HEIGHT // 2) if is_small else (WIDTH, HEIGHT)
        if is_small not in formats:
            picture = Picture(PictureSpec(width, height, FPS, COLOURS[number + nth]))
            formats[is_small] = picture, LiveEncoder(of.codec, width, height, FPS, 600), None
        picture, encoder, file_track = formats[is_small]
        is_key = (index - first) % group == 0 or is_small is not before
        unit = encoder.encode(picture.draw(index), index - first, force_key=is_key)
        if file_track is None:
            form = video_format(VideoCodec(of.codec), unit.data, width, height)
            file_track = tracks.make(_track(of, number, TrackSource.CAMERA, nth), form)
            formats[is_small] = picture, encoder, file_track
        before = is_small
        made.append(
            Packet(MediaKind.VIDEO, unit.data, index, index, 1, Fraction(1, FPS), unit.is_key, file_track)
        )
    return made


def _sound(of: Attendance, number: int, tracks: FileTracks) -> list[Packet]:
    form = audio_format(AudioCodec.OPUS)
    file_track = tracks.make(_track(of, number, TrackSource.MICROPHONE), form)
    context = av.CodecContext.create("libopus", "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = SAMPLE_RATE, "mono", "s16"
    context.options = {"application": "lowdelay", "frame_duration": "20"}
    loud = Sound(of.tone_hz, 0.3, 0.5 if of.beeps else 0.3)
    quiet = Sound(of.tone_hz, 0.0, 0.5 if of.beeps else 0.0)
    first, last = round(of.from_s * 50), round(of.to_s * 50)
    made: list[Packet] = []
    for index in range(first, last):
        voice = loud if any(since <= index / 50 < until for since, until in of.speaks) else quiet
        data = voice.block(2 * index) + voice.block(2 * index + 1)
        frame = av.AudioFrame.from_ndarray(np.frombuffer(data, "<i2").reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, (index - first) * BLOCK
        made += [
            Packet(
                MediaKind.AUDIO,
                bytes(each),
                (first + len(made)) * BLOCK,
                (first + len(made)) * BLOCK,
                BLOCK,
                Fraction(1, SAMPLE_RATE),
                True,
                file_track,
            )
            for each in context.encode(frame)
        ]
    return made
