"""`make pictures`: makes docs/images anew, of recordings of the demo's people and of the dashboard.

Each picture in the documentation is what the request above it gave: nothing is drawn by hand. `make pictures`
starts a livekit-server, three people and `openegress serve`, sends the requests, and cuts the files.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from aiohttp import web
from livekit import api
from PIL import Image

from examples.people import CAST, Person
from openegress.core.tokens import egress_token
from testkit.browser_tab import Tab, open_tab
from testkit.livekit_server import LivekitServer
from testkit.local_app import serving
from testkit.probe import frames
from testkit.service import Service, location

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"
ROOM = "weekly-call"
LAYOUTS = ("grid", "speaker-light", "single-speaker")
COLOURS = 160
"""Of a PNG with a palette: drawn faces need no more, and a page loads in a blink."""
WAVE_HEIGHT = 90
WAVES = ((31, 78, 121), (194, 69, 45))
GAP = 6

Pixels = npt.NDArray[np.uint8]


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


def frame_at(path: Path, at_s: float, width: int) -> Pixels:
    """The picture at this time, or the last one."""
    found = None
    for time_s, frame in frames(path):
        if found is not None and time_s > at_s:
            break
        found = frame
    if found is None:
        raise SystemExit(f"{path} has no picture")
    height = round(found.height * width / found.width / 2) * 2
    return found.reformat(width=width, height=height, format="rgb24").to_ndarray().astype(np.uint8)


def wave(path: Path, width: int) -> Pixels:
    """The sound of a file, a row for each channel: how loud it is, from left to right."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="stereo")
        blocks = [
            block.to_ndarray() for frame in container.decode(audio=0) for block in resampler.resample(frame)
        ]
    samples = np.concatenate(blocks, axis=1)
    drawn = np.full((2 * WAVE_HEIGHT, width, 3), 250, np.uint8)
    edges = np.linspace(0, samples.shape[1], width + 1, dtype=int)
    loudest = max(0.05, float(np.abs(samples).max()))
    for row, channel in enumerate(samples):
        middle = row * WAVE_HEIGHT + WAVE_HEIGHT // 2
        for x, (begin, end) in enumerate(pairwise(edges)):
            half = int(
                float(np.abs(channel[begin : max(end, begin + 1)]).max()) / loudest * (WAVE_HEIGHT // 2 - 6)
            )
            drawn[middle - half : middle + half + 1, x] = WAVES[row]
    return drawn


def side_by_side(pictures: Sequence[Pixels]) -> Pixels:
    height = max(each.shape[0] for each in pictures)
    between = np.full((height, GAP, 3), 255, np.uint8)
    row: list[Pixels] = []
    for each in pictures:
        below = np.full((height - each.shape[0], each.shape[1], 3), 255, np.uint8)
        row += [between, np.concatenate([each, below])] if row else [np.concatenate([each, below])]
    return np.concatenate(row, axis=1)


def save(name: str, pixels: Pixels) -> None:
    Image.fromarray(pixels).quantize(COLOURS).save(IMAGES / f"{name}.png", optimize=True)
    print(f"docs/images/{name}.png")


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
        token = egress_token(service.api_key, service.api_secret)
        await tab.open(f"{service.url}/dashboard/#token={token}")
        await tab.becomes("document.querySelectorAll('#running img[src^=\"data:\"]').length", 2, within_s=30)
        await asyncio.sleep(15)  # for the graphs to have something to draw
        await photograph(tab, "dashboard")
        await tab.appear(1280, 800, dark=True)
        await tab.click("#running .title")
        await photograph(tab, "dashboard-dark")
        await tab.click("#details-close")
        await tab.appear(390, 844, phone=True)
        await photograph(tab, "dashboard-phone")
    for info in (room, page):
        await service.finish(info["egress_id"])


async def photograph(tab: Tab, name: str) -> None:
    path = IMAGES / f"{name}.png"
    await tab.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    await tab.photograph(path)
    save(name, np.asarray(Image.open(path).convert("RGB")))


PARTS = {each.__name__: each for each in (rooms, tracks, page_and_images, dashboard)}


async def main(names: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with studio(Path(folder)) as made:
            for name in names or PARTS:
                await PARTS[name](made)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
