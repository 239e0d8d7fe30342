"""The rows: what is requested, and what is published or shown meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench.room_receive import Row as Crowd
from openegress.source.room.composite.rectangles import Size
from testkit.participants import Codec, VideoSpec

ROOM = "bench"
HD, FULL_HD = Size(1280, 720), Size(1920, 1080)


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a row on two cores; None: no promise."""

    cores: float | None = None
    mib: int | None = None
    cold_s: float | None = None
    warm_s: float | None = None
    stopped_s: float | None = None
    unique: float | None = None
    """Minimum: the share of frames with a new picture."""
    av_ms: float | None = None
    """Maximum, throughout, in either direction."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a request can refer to."""

    page: str
    video_sid: str
    audio_sid: str
    rtmp_url: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    method: str
    request: Callable[[Setting], dict[str, Any]]
    busy: bool = False
    page: bool = False
    """A web page is recorded; otherwise a room."""
    still: bool = False
    """Nothing that is shown changes."""
    streamed: bool = False
    """An RTMP server takes the stream sent to Setting.rtmp_url."""
    relative_to: tuple[str, float] | None = None
    """An earlier row, and how many times its cores this row may use."""
    publishers: int = 1
    video: VideoSpec | None = None
    crowd: Crowd | None = None
    """Instead of publishers: people who send prepared encoded media, each of them sound and a picture."""
    canvas: Size = HD
    target: Target = Target()
    upstream: tuple[float, int, float] | None = None
    """livekit/egress on the same kind of machine: cores, MiB, seconds to ACTIVE."""


def _video(codec: Codec, busy: bool, width: int = 1280) -> VideoSpec:
    # Encoded by the benchmark, so that every picture is sent, and no missing picture was never published.
    return VideoSpec(codec, width, 720, kbps=2500, busy=busy, encoded=True, catches_up=True)


def _file(name: str) -> list[dict[str, str]]:
    return [{"filepath": name}]


def _web(setting: Setting) -> dict[str, Any]:
    return {"url": setting.page, "file_outputs": _file("web.mp4")}


def _web_to_all(setting: Setting) -> dict[str, Any]:
    return {**_web(setting), **_others(setting)}


def _others(setting: Setting) -> dict[str, Any]:
    """Other outputs beside a file, from the same encode."""
    return {
        "segment_outputs": [{"filename_prefix": "hls/s", "live_playlist_name": "hls/live.m3u8"}],
        "stream_outputs": [{"protocol": "RTMP", "urls": [setting.rtmp_url]}],
        "image_outputs": [{"capture_interval": 5, "filename_prefix": "images/i"}],
    }


def _room(setting: Setting) -> dict[str, Any]:
    return {"room_name": ROOM, "layout": "grid", "file_outputs": _file("room.mp4")}


def _room_at(preset: str) -> Callable[[Setting], dict[str, Any]]:
    return lambda setting: {**_room(setting), "preset": preset}


def _crowd(people: int, size: Size, fps: int = 30) -> Crowd:
    name = f"{people} people"
    return Crowd(name, people, people, "vp8", size.width, size.height, 1500, fps, busy=False)


def _seldom(setting: Setting) -> dict[str, Any]:
    return {**_room(setting), "layout": "grid?variable_frame_rate=true"}


def _web_seldom(setting: Setting) -> dict[str, Any]:
    return {**_web(setting), "openegress": {"variable_frame_rate": True}}


def _room_to_all(setting: Setting) -> dict[str, Any]:
    return {**_room(setting), **_others(setting)}


def _track_composite(setting: Setting) -> dict[str, Any]:
    return {
        "room_name": ROOM,
        "video_track_id": setting.video_sid,
        "audio_track_id": setting.audio_sid,
        "file_outputs": _file("composite.mp4"),
    }


def _encoded(setting: Setting) -> dict[str, Any]:
    return {**_track_composite(setting), "preset": "H264_720P_30"}


def _video_track(setting: Setting) -> dict[str, Any]:
    return {"room_name": ROOM, "track_id": setting.video_sid, "file": {"filepath": "video"}}


def _audio_track(setting: Setting) -> dict[str, Any]:
    return {"room_name": ROOM, "track_id": setting.audio_sid, "file": {"filepath": "audio"}}


def _audio_room(setting: Setting) -> dict[str, Any]:
    return {"room_name": ROOM, "audio_only": True, "file_outputs": _file("room.ogg")}


START_ROOM = "StartRoomCompositeEgress"
START_TRACKS = "StartTrackCompositeEgress"

ROWS = (
    Row(
        "web page, calm",
        "StartWebEgress",
        _web,
        page=True,
        target=Target(0.36, 550, 1.2, 0.4, None, 0.98, 40),
        upstream=(0.61, 683, 2.8),
    ),
    Row(
        "web page, calm, to file, HLS, RTMP and images",
        "StartWebEgress",
        _web_to_all,
        page=True,
        streamed=True,
        relative_to=("web page, calm", 1.15),
    ),
    Row(
        "web page, busy",
        "StartWebEgress",
        _web,
        busy=True,
        page=True,
        target=Target(0.60, 550, 1.2, 0.4, None, 0.98, 40),
    ),
    Row(
        "web page, still",
        "StartWebEgress",
        _web,
        page=True,
        still=True,
        target=Target(0.14),
    ),
    Row(
        "web page, still, variable rate",
        "StartWebEgress",
        _web_seldom,
        page=True,
        still=True,
        target=Target(0.08),
    ),
    Row(
        "room composite, cameras off",
        START_ROOM,
        _room,
        still=True,
        publishers=2,
        target=Target(0.08),
    ),
    Row(
        "room composite, cameras off, variable rate",
        START_ROOM,
        _seldom,
        still=True,
        publishers=2,
        target=Target(0.04),
    ),
    Row(
        "room composite, still screen",
        START_ROOM,
        _room,
        still=True,
        video=replace(_video("vp8", False), fps=5, still=True),
        target=Target(0.08),
    ),
    Row(
        "room composite, calm",
        START_ROOM,
        _room,
        publishers=2,
        video=_video("vp8", False),
        target=Target(0.28, 550, 1.5, None, None, 0.98, 40),
        upstream=(0.73, 720, 3.2),
    ),
    Row(
        "room composite, calm, to file, HLS, RTMP and images",
        START_ROOM,
        _room_to_all,
        publishers=2,
        video=_video("vp8", False),
        streamed=True,
        relative_to=("room composite, calm", 1.15),
    ),
    Row(
        "room composite, busy",
        START_ROOM,
        _room,
        busy=True,
        publishers=2,
        video=_video("vp8", True),
        target=Target(0.55, 550, 1.5, None, None, 0.98, 40),
        upstream=(1.04, 760, 3.2),
    ),
    Row(
        "room composite, 9 people at 720p",
        START_ROOM,
        _room,
        crowd=_crowd(9, HD),
        target=Target(0.70, unique=0.98),
    ),
    Row(
        "room composite, 25 people at 320x180",
        START_ROOM,
        _room,
        crowd=_crowd(25, Size(320, 180)),
        target=Target(0.45, unique=0.98),
    ),
    Row(
        "room composite, 49 people at 320x180",
        START_ROOM,
        _room,
        crowd=_crowd(49, Size(320, 180)),
        target=Target(unique=0.98),
    ),
    Row(
        "room composite, two people at 1080p",
        START_ROOM,
        _room_at("H264_1080P_30"),
        crowd=_crowd(2, FULL_HD),
        canvas=FULL_HD,
        target=Target(0.70, unique=0.98),
    ),
    Row(
        "room composite, two people at 1080p, 60 a second",
        START_ROOM,
        _room_at("H264_1080P_60"),
        crowd=_crowd(2, FULL_HD, 60),
        canvas=FULL_HD,
        target=Target(unique=0.98),
    ),
    Row(
        "room composite, two people, portrait",
        START_ROOM,
        _room_at("PORTRAIT_H264_720P_30"),
        crowd=_crowd(2, HD),
        canvas=Size(720, 1280),
        target=Target(unique=0.98),
    ),
    Row(
        "track composite, encoded, calm",
        START_TRACKS,
        _encoded,
        video=_video("vp8", False),
        target=Target(0.20, None, None, 0.5, 0.15),
        upstream=(0.40, 330, 1.4),
    ),
    Row(
        "track composite, encoded, busy",
        START_TRACKS,
        _encoded,
        busy=True,
        video=_video("vp8", True),
        target=Target(0.33, None, None, 0.5, 0.15),
        upstream=(0.65, 357, 1.4),
    ),
    Row(
        "track composite, passed through",
        START_TRACKS,
        _track_composite,
        busy=True,
        video=_video("h264", True),
        target=Target(0.04, None, None, 0.5, 0.15),
    ),
    Row(
        "track, video",
        "StartTrackEgress",
        _video_track,
        busy=True,
        video=_video("vp8", True),
        target=Target(0.006, 70, None, 0.5, 0.15),
        upstream=(0.067, 97, 0.85),
    ),
    Row(
        "track, audio",
        "StartTrackEgress",
        _audio_track,
        video=_video("vp8", False),
        target=Target(0.02, 70, None, 0.5, 0.15),
        upstream=(0.08, 93, 0.82),
    ),
    Row(
        "room, audio only",
        START_ROOM,
        _audio_room,
        video=_video("vp8", False),
        target=Target(0.02, None, None, 0.5, 0.15),
        upstream=(0.11, 93, 0.88),
    ),
)
