"""`make pictures`: makes docs/images anew, of recordings of the demo's people and of the dashboard.

Each picture in the documentation is what the request above it gave: nothing is drawn by hand. `make pictures`
starts a livekit-server, three people and `openegress serve`, sends the requests, and cuts the files.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from livekit import api
from PIL import Image

from examples.drawing import (
    element,
    film_strip,
    frame_at,
    photograph,
    save,
    side_by_side,
    stacked,
    terminal,
    wave,
)
from examples.people import CAST, Person
from openegress.core.tokens import egress_token
from testkit.browser_tab import Tab, open_tab
from testkit.livekit_server import LivekitServer
from testkit.local_app import serving
from testkit.service import Service, location
from testkit.stream_servers import RtmpServer

HERE = Path(__file__).parent
ROOM = "weekly-call"
LAYOUTS = ("grid", "speaker-light", "single-speaker")
SHOWN_FOLDER = "/srv/recordings"
"""Shown in place of the temporary folder."""


@dataclass(frozen=True)
class Studio:
    server: LivekitServer
    service: Service
    people: Sequence[Person]
    board: str
    """URL of the whiteboard."""

    async def record(self, method: str, seconds: float, **request: Any) -> Path:
        info = await self.service.record(method, seconds, **request)
        if info["status"] != "EGRESS_COMPLETE":
            raise SystemExit(f"{method}: {info['error']}")
        return location(info)


@contextlib.asynccontextmanager
async def studio(folder: Path) -> AsyncIterator[Studio]:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(LivekitServer())
        began = time.monotonic()
        people = [Person(server, ROOM, place, began) for place in range(len(CAST))]
        for person in people:
            await stack.enter_async_context(person)
        service = await stack.enter_async_context(Service(folder, server))
        pages = web.Application()
        pages.router.add_static("/", HERE)
        port = await stack.enter_async_context(serving(pages))
        yield Studio(server, service, people, f"http://127.0.0.1:{port}/board.html")


async def rooms(studio: Studio) -> None:
    files = [{"filepath": "{room_name}-{time}.mp4"}]
    shown = []
    for layout in LAYOUTS:
        path = await studio.record(
            "StartRoomCompositeEgress", 4, room_name=ROOM, layout=layout, file_outputs=files
        )
        shown.append(frame_at(path, 3, 320))
        if layout == "grid":
            save("recording", frame_at(path, 3, 640))
    save("layouts", side_by_side(shown))
    sound = await studio.record(
        "StartRoomCompositeEgress",
        12,
        room_name=ROOM,
        audio_only=True,
        audio_mixing="DUAL_CHANNEL_ALTERNATE",
        file_outputs=[{"filepath": "sound-{time}.ogg"}],
    )
    save("sound", wave(sound, 640))
    await update_layout(studio, files)
    ada = await studio.record("StartParticipantEgress", 6, room_name=ROOM, identity="Ada", file_outputs=files)
    save("participant", frame_at(ada, 4, 480))


async def update_layout(studio: Studio, files: list[dict[str, str]]) -> None:
    service = studio.service
    info = await service.call("StartRoomCompositeEgress", room_name=ROOM, layout="grid", file_outputs=files)
    await service.active(info["egress_id"])
    await asyncio.sleep(2.5)
    await service.call("UpdateLayout", egress_id=info["egress_id"], layout="speaker")
    await asyncio.sleep(2.5)
    path = location(await service.finish(info["egress_id"]))
    save("update-layout", side_by_side([frame_at(path, 2, 320), frame_at(path, 4.5, 320)]))


async def tracks(studio: Studio) -> None:
    room = await studio.server.room_service().list_participants(api.ListParticipantsRequest(room=ROOM))
    sids = {(each.identity, track.name): track.sid for each in room.participants for track in each.tracks}
    composite = await studio.record(
        "StartTrackCompositeEgress",
        12,
        room_name=ROOM,
        video_track_id=sids["Grace", "camera"],
        audio_track_id=sids["Grace", "microphone"],
        file_outputs=[{"filepath": "grace-{time}.mp4"}],
    )
    save("track-composite", side_by_side([frame_at(composite, 6, 320), wave(composite, 320)]))
    track = await studio.record(
        "StartTrackEgress",
        3,
        room_name=ROOM,
        track_id=sids["Alan", "camera"],
        file={"filepath": "{track_source}-{time}"},
    )
    save("track", frame_at(track, 2, 320))


async def page_and_images(studio: Studio) -> None:
    page = await studio.record(
        "StartWebEgress",
        4,
        url=studio.board,
        await_start_signal=True,
        file_outputs=[{"filepath": "board-{time}.mp4"}],
    )
    save("web", frame_at(page, 3.5, 480))
    info = await studio.service.record(
        "StartRoomCompositeEgress",
        7,
        room_name=ROOM,
        layout="speaker",
        image_outputs=[{"capture_interval": 2, "filename_prefix": "shots/room", "width": 320, "height": 180}],
    )
    if info["status"] != "EGRESS_COMPLETE":
        raise SystemExit(f"images: {info['error']}")
    shots = sorted((studio.service.out / "shots").glob("*.jpeg"))[:3]
    save("images", side_by_side([np.asarray(Image.open(each).convert("RGB")) for each in shots]))


async def dashboard(studio: Studio) -> None:
    """While a room and a page are recorded, after all that was recorded before."""
    service = studio.service
    room = await service.call(
        "StartRoomCompositeEgress",
        room_name=ROOM,
        layout="grid",
        file_outputs=[{"filepath": "{room_name}-{time}.mp4"}],
    )
    page = await service.call("StartWebEgress", url=studio.board, file_outputs=[{"filepath": "board.mp4"}])
    for info in (room, page):
        await service.active(info["egress_id"])
    async with open_tab(1280, 800) as tab:
        await open_dashboard(tab, service)
        await tab.becomes("document.querySelectorAll('#running img[src^=\"data:\"]').length", 2, within_s=30)
        await asyncio.sleep(15)  # for the graphs to have something to draw
        save("dashboard", await photograph(tab))
        await tab.appear(1280, 800, dark=True)
        await tab.click("#running .title")
        save("dashboard-dark", await photograph(tab))
        await tab.click("#details-close")
        await tab.appear(390, 844, phone=True)
        save("dashboard-phone", await photograph(tab))
    for info in (room, page):
        await service.finish(info["egress_id"])


async def start_egress(studio: Studio) -> None:
    """Ada on the left channel, everybody else on both."""
    path = await studio.record(
        "StartEgress",
        12,
        room_name=ROOM,
        media={
            "participant_video": {"identity": "Ada"},
            "audio": {
                "routes": [{"participant_identity": "Ada", "channel": "AUDIO_CHANNEL_LEFT"}],
                "capture_all": True,
            },
        },
        preset="H264_720P_30",
        outputs=[{"file": {"filepath": "{room_name}-{time}.mp4"}}],
    )
    save("start-egress", side_by_side([frame_at(path, 3, 320), wave(path, 320)]))


async def update_stream(studio: Studio) -> None:
    """What a server receives: the second stream is added after three seconds, then the first is removed."""
    service = studio.service
    with RtmpServer() as receiver:
        urls = [receiver.rtmp_url("live/stream-key"), receiver.rtmp_url("live/second-key")]
        started = await service.call(
            "StartRoomCompositeEgress",
            room_name=ROOM,
            layout="speaker",
            stream_outputs=[{"protocol": "RTMP", "urls": urls[:1]}],
        )
        egress_id = started["egress_id"]
        await service.active(egress_id)
        await asyncio.sleep(3)
        await service.call("UpdateStream", egress_id=egress_id, add_output_urls=urls[1:])
        await asyncio.sleep(7)  # the added stream begins with the next key frame
        await service.call("UpdateStream", egress_id=egress_id, remove_output_urls=urls[:1])
        await asyncio.sleep(4)
        results = (await service.finish(egress_id))["stream_results"]
        begin_s, end_s = zip(
            *((int(r["started_at"]) / 1e9, int(r["ended_at"]) / 1e9) for r in results), strict=True
        )
        strips = [
            film_strip(path, began_s - begin_s[0], max(end_s) - begin_s[0], 640, 8)
            for path, began_s in zip(receiver.recordings(), begin_s, strict=True)
        ]
    save("update-stream", stacked(strips))


async def list_and_stop(studio: Studio) -> None:
    """The command's list of egresses, and what the dashboard shows of one that was stopped."""
    service = studio.service
    files = [{"filepath": "{room_name}-{time}.mp4"}]
    await studio.record("StartParticipantEgress", 5, room_name=ROOM, identity="Ada", file_outputs=files)
    room = await service.call("StartRoomCompositeEgress", room_name=ROOM, layout="grid", file_outputs=files)
    await service.active(room["egress_id"])
    await asyncio.sleep(5)
    listed = (await command(service, "list", "--room", ROOM)).replace(str(service.out), SHOWN_FOLDER)
    await service.finish(room["egress_id"])
    save("list-egress", await terminal([f"$ openegress list --room {ROOM}", *listed.splitlines()]))
    async with open_tab(820, 1400) as tab:
        await open_dashboard(tab, service)
        await tab.becomes("document.querySelector('#history .title') !== null", True)
        await tab.click("#history .title")
        await tab.becomes("document.querySelectorAll('#details-files li').length", 1)
        await tab.run(
            f"""(() => {{
              const find = (id) => document.getElementById(id);
              find("details").style.maxHeight = "none";
              find("details-player").hidden = true;
              find("details-outputs").innerHTML =
                find("details-outputs").innerHTML.replaceAll("{service.out}", "{SHOWN_FOLDER}");
            }})()"""
        )
        save("stop-egress", await element(tab, "#details > header", "#details-timeline + details"))


async def command(service: Service, *arguments: str) -> str:
    """What `openegress` prints."""
    environment = {
        **os.environ,
        "OPENEGRESS_URL": service.url,
        "LIVEKIT_API_KEY": service.api_key,
        "LIVEKIT_API_SECRET": service.api_secret,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openegress.cli", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    return printed.decode()


async def open_dashboard(tab: Tab, service: Service) -> None:
    token = egress_token(service.api_key, service.api_secret)
    await tab.open(f"{service.url}/dashboard/#token={token}")
    await tab.becomes("document.getElementById('board')?.hidden", False)


PARTS = {
    each.__name__: each
    for each in (rooms, tracks, page_and_images, start_egress, update_stream, list_and_stop, dashboard)
}


async def main(names: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with studio(Path(folder)) as made:
            for name in names or PARTS:
                await PARTS[name](made)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
