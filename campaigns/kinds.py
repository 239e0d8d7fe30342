"""Requests of every kind, in two small rooms and on a page that show the wall clock."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaigns.account import playlist_zero_ns
from openegress.core.units import S
from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Codec, Publisher, VideoSpec
from testkit.service import Info, Service

FPS = 15
"""Frame rate of cameras and the page: half of the recording's, so that each picture has a frame to itself."""
SMALL = {"width": 320, "height": 180, "framerate": 2 * FPS, "video_bitrate": 400}
SMALL_VP8 = {**SMALL, "video_codec": "VP8"}


@dataclass(frozen=True, slots=True)
class World:
    service: Service
    people: Mapping[Codec, Publisher]
    page: str


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    method: str
    codec: Codec | None
    """The codec of the publisher whose media it records; None: a page."""
    video: bool
    audio: bool
    request: Callable[[World, str], dict[str, Any]]
    """Makes the request, from the world and the name of its output."""
    as_sent: bool = False
    ending: str = ".mp4"


def _room(world: World, codec: Codec) -> dict[str, Any]:
    return {"room_name": world.people[codec].room_name}


def _tracks(world: World, codec: Codec) -> dict[str, Any]:
    ann = world.people[codec]
    return {
        **_room(world, codec),
        "audio_track_id": ann.sid("microphone"),
        "video_track_id": ann.sid("camera"),
    }


def _file(path: str) -> dict[str, Any]:
    return {"file_outputs": [{"filepath": path}]}


def _hls(path: str) -> dict[str, Any]:
    return {"segment_outputs": [{"filename_prefix": path, "segment_duration": 2}]}


KINDS = (
    Kind(
        "room composite",
        "StartRoomCompositeEgress",
        "h264",
        True,
        True,
        lambda world, path: {**_room(world, "h264"), **_file(path), "advanced": SMALL},
    ),
    Kind(
        "room composite, with stems",
        "StartRoomCompositeEgress",
        "h264",
        True,
        True,
        lambda world, path: {
            **_room(world, "h264"),
            **_file(path),
            "layout": "grid?stems=opus",
            "advanced": SMALL,
        },
    ),
    Kind(
        "room composite, deferred",
        "StartRoomCompositeEgress",
        "h264",
        True,
        True,
        lambda world, path: {
            **_room(world, "h264"),
            **_file(path),
            "layout": "grid?render=deferred",
            "advanced": SMALL,
        },
    ),
    Kind(
        "room composite, HLS",
        "StartRoomCompositeEgress",
        "h264",
        True,
        True,
        lambda world, path: {**_room(world, "h264"), **_hls(path), "advanced": SMALL},
        ending="",
    ),
    Kind(
        "room, audio only",
        "StartRoomCompositeEgress",
        "h264",
        False,
        True,
        lambda world, path: {**_room(world, "h264"), **_file(path), "audio_only": True},
        ending=".ogg",
    ),
    Kind(
        "room, all tracks",
        "StartRoomCompositeEgress",
        "h264",
        True,
        True,
        lambda world, path: {**_room(world, "h264"), **_file(path), "layout": "tracks"},
        as_sent=True,
        ending=".mkv",
    ),
    Kind(
        "participant",
        "StartParticipantEgress",
        "vp8",
        True,
        True,
        lambda world, path: {**_room(world, "vp8"), **_file(path), "identity": "ann", "advanced": SMALL_VP8},
        ending=".webm",
    ),
    Kind(
        "track composite, encoded",
        "StartTrackCompositeEgress",
        "vp8",
        True,
        True,
        lambda world, path: {**_tracks(world, "vp8"), **_file(path), "advanced": SMALL},
    ),
    Kind(
        "track composite, passed through",
        "StartTrackCompositeEgress",
        "h264",
        True,
        True,
        lambda world, path: {**_tracks(world, "h264"), **_file(path)},
        as_sent=True,
    ),
    Kind(
        "track, audio",
        "StartTrackEgress",
        "h264",
        False,
        True,
        lambda world, path: {
            **_room(world, "h264"),
            "track_id": world.people["h264"].sid("microphone"),
            "file": {"filepath": path},
        },
        ending=".ogg",
    ),
    Kind(
        "track, video",
        "StartTrackEgress",
        "vp8",
        True,
        False,
        lambda world, path: {
            **_room(world, "vp8"),
            "track_id": world.people["vp8"].sid("camera"),
            "file": {"filepath": path},
        },
        as_sent=True,
        ending=".webm",
    ),
    Kind(
        "web",
        "StartWebEgress",
        None,
        True,
        True,
        lambda world, path: {"url": world.page, **_file(path), "advanced": SMALL},
    ),
)


async def start(around: World, kind: Kind, name: str) -> tuple[str, float]:
    """Its id, and the unix time at which it was active."""
    path = f"{name}-{kind.name.replace(', ', '-').replace(' ', '-')}{kind.ending}"
    info = await around.service.call(kind.method, **kind.request(around, path))
    await around.service.active(info["egress_id"])
    return str(info["egress_id"]), time.time()


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Two rooms, each with ann, and a page that counts the wall clock."""
    async with LivekitServer() as livekit, PageServer() as pages:
        config = {"deny_networks": [], "queue": {"size": 32, "max_wait": "80s"}}
        service = Service(folder, livekit, config)
        async with service, _ann(livekit, "h264") as one, _ann(livekit, "vp8") as other:
            page = pages.url(f"pattern.html?tone=1&wall={FPS}")
            yield World(service, {"h264": one, "vp8": other}, page)


def _ann(livekit: LivekitServer, codec: Codec) -> Publisher:
    camera = VideoSpec(codec, width=320, height=180, fps=FPS, kbps=300, encoded=True, catches_up=True)
    return Publisher(livekit, codec, "ann", camera, AudioSpec())


def where(info: Info) -> tuple[Path, int]:
    """The file or playlist of a recording, and the unix time of its zero, in ns."""
    for result in info["segment_results"]:
        if not result["playlist_location"]:
            raise ValueError("no playlist")
        return Path(result["playlist_location"]), playlist_zero_ns(result["playlist_location"])
    if not info["file_results"] or not info["file_results"][0]["location"]:
        raise ValueError("no file")
    [result] = info["file_results"]
    return Path(result["location"]), int(result["started_at"])


def captured_ns(around: World, kind: Kind, active_s: float, killed_s: float) -> Mapping[int, int]:
    """When each picture was captured, by its counter."""
    if kind.codec is not None:
        return around.people[kind.codec].sent_ns()
    first, last = (int(at_s * FPS) for at_s in (active_s - 30, killed_s + 1))
    return {number % (1 << 20): number * S // FPS for number in range(first, last)}
