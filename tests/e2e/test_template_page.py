"""The room composite page in a real browser and a real room: what it shows where, and what it signals."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from livekit import api

from openegress.api.pages import STATIC, Pages
from openegress.api.server import ApiServer, Listen, Parts
from testkit.browser_tab import Tab, open_tab
from testkit.livekit_server import LivekitServer, free_port
from testkit.participants import AudioSpec, Publisher, VideoSpec

EGRESS = "EG_page"
CAMERA = VideoSpec(width=320, height=180, fps=10, kbps=200)
SCREEN = VideoSpec(width=640, height=400, fps=5, kbps=200)
QUIET = AudioSpec(level=0.0, beep_level=0.0)
LOUD = AudioSpec(level=0.3, beep_level=1.0)
"""Not even: a server tells who speaks when levels change, and a latecomer would not hear of a steady tone."""

SHOWN = """Object.fromEntries([...document.querySelectorAll(".tile:not([hidden])")].map((tile) => [
  tile.dataset.identity + (tile.classList.contains("contain") ? "*" : ""),
  [tile.offsetLeft, tile.offsetTop, tile.offsetWidth, tile.offsetHeight],
]).sort(([a], [b]) => (a < b ? -1 : 1)))"""
"""Rectangles of the tiles by identity; a shared screen has a star."""

PICTURED = """!!document.querySelector(".tile:not([hidden])") &&
  [...document.querySelectorAll(".tile:not([hidden])")].every((tile) =>
    tile.querySelector(".cover").hidden && tile.querySelector("video").videoWidth > 0)"""
"""There are tiles, and all show pictures."""

WHOLE = [0, 0, 1280, 720]
FOCUS = [224, 8, 1048, 704]
BESIDE = [8, 8, 208, 116]
BELOW = [8, 132, 208, 116]
GRID = {"ann": [8, 8, 628, 704], "ben": [644, 8, 628, 704]}


@dataclass
class Room:
    """A room with what it takes to look at it."""

    server: LivekitServer
    pages: ApiServer
    tab: Tab
    people: AsyncExitStack

    async def join(self, identity: str, *, video: bool = True, audio: AudioSpec | None = None) -> Publisher:
        camera = CAMERA if video else None
        return await self.people.enter_async_context(
            Publisher(self.server, "room", identity, camera, audio, kind="agent" if identity == "bot" else "")
        )

    async def record(self, layout: str = "", *, url: str = "", token: str = "") -> None:
        query = {
            "layout": layout,
            "url": url or self.server.ws_url,
            "token": token or self.server.recorder_token("room", EGRESS),
        }
        await self.tab.open(f"{self.pages.url}/?{urlencode(query)}")

    async def update_layout(self, layout: str) -> None:
        """As UpdateLayout does it."""
        await self.server.room_service().update_participant(
            api.UpdateParticipantRequest(
                room="room", identity=EGRESS, metadata=json.dumps({"layout": layout})
            )
        )

    async def shows(self, tiles: dict[str, list[int]]) -> None:
        await self.tab.becomes(SHOWN, dict(sorted(tiles.items())))

    async def ended(self) -> None:
        await self.tab.hears("END_RECORDING")
        assert [said for _, said in self.tab.said if "disconnected from the room for good" in said] == []


@pytest.fixture(scope="module")
def built() -> Path:
    index = STATIC / "template" / "index.html"
    assert index.is_file(), "the pages are not built: run `make setup`"
    return index


@pytest.fixture
async def room(built: Path) -> AsyncIterator[Room]:
    async with AsyncExitStack() as parts:
        server = await parts.enter_async_context(LivekitServer())
        pages = ApiServer(Listen(port=0), Parts({}, pages=Pages()))
        await pages.start()
        parts.push_async_callback(pages.close)
        tab = await parts.enter_async_context(open_tab())
        people = await parts.enter_async_context(AsyncExitStack())
        yield Room(server, pages, tab, people)


@pytest.mark.quiet
async def test_layouts_change_within_a_frame_and_pictures_stay(room: Room) -> None:
    await room.join("ann")
    await room.join("ben")
    await room.record()
    await room.tab.hears("START_RECORDING")
    assert await room.tab.run(PICTURED)
    await room.shows(GRID)
    videos = "[...document.querySelectorAll('video')]"
    await room.tab.run(f"window.before = {videos}; window.covered = 0")
    watch = "const look = () => { if (!(PICTURED)) covered++; requestAnimationFrame(look); }; look()"
    await room.tab.run(watch.replace("PICTURED", PICTURED))
    for layout, tiles, light in (
        ("speaker", {"ann": FOCUS, "ben": BESIDE}, False),
        ("single-speaker-light", {"ann": WHOLE}, True),
        ("grid-light", GRID, True),
        ("single-speaker", {"ann": WHOLE}, False),
        ("speaker-light", {"ann": FOCUS, "ben": BESIDE}, True),
        ("grid-dark", GRID, False),
        ("single-speaker-dark", {"ann": WHOLE}, False),
        ("", GRID, False),
    ):
        await room.update_layout(layout)
        await room.shows(tiles)
        assert await room.tab.run("document.body.classList.contains('light')") is light
    assert await room.tab.run("covered") == 0
    assert await room.tab.run(f"{videos}.every((video, index) => video === before[index])")

    await room.update_layout("mosaic")
    await room.tab.hears('layout "mosaic" is unknown and taken for grid; there are grid, grid-dark')
    await room.shows(GRID)


async def test_the_focus_follows_who_speaks(room: Room) -> None:
    await room.join("ann", audio=QUIET)
    ben = await room.join("ben", audio=LOUD)
    await room.record("speaker")
    await room.shows({"ben": FOCUS, "ann": BESIDE})
    ann = await room.join("amy", audio=LOUD)
    ben.mute("microphone")
    await room.shows({"amy": FOCUS, "ann": BESIDE, "ben": BELOW})
    ann.mute("microphone")
    ben.unmute("microphone")
    await room.shows({"ben": FOCUS, "ann": BESIDE, "amy": BELOW})


async def test_a_shared_screen_takes_the_focus(room: Room) -> None:
    ann = await room.join("ann")
    await room.join("ben")
    await room.record("grid")
    await room.shows(GRID)
    await ann.publish("screen", SCREEN)
    await room.shows({"ann*": FOCUS, "ann": BESIDE, "ben": BELOW})
    await room.tab.becomes(PICTURED, True)
    await room.update_layout("single-speaker")
    await room.shows({"ann*": WHOLE})
    await room.update_layout("grid")
    await ann.unpublish("screen")
    await room.shows(GRID)


async def test_names_stand_for_pictures_that_are_not_there(room: Room) -> None:
    ann = await room.join("ann")
    await room.record()
    await room.tab.becomes(PICTURED, True)
    ann.mute("camera")
    await room.tab.sees("ann", ".tile")
    ann.unmute("camera")
    await room.tab.becomes(PICTURED, True)
    await room.join("ben", video=False, audio=QUIET)
    await room.join("bot", video=False, audio=QUIET)
    await room.shows(GRID)
    await room.tab.sees("ben", ".tile:nth-child(2)")


async def test_starts_at_once_without_video(room: Room) -> None:
    await room.join("ann", video=False, audio=QUIET)
    await room.record()
    await room.tab.hears("START_RECORDING")
    await room.shows({"ann": WHOLE})


async def test_starts_in_an_empty_room_and_waits_for_people(room: Room) -> None:
    await room.record()
    await room.tab.hears("START_RECORDING")
    ann = await room.join("ann")
    await room.shows({"ann": WHOLE})
    assert ("log", "END_RECORDING") not in room.tab.said
    await ann.leave()
    await room.ended()


async def test_ends_when_the_room_is_deleted(room: Room) -> None:
    await room.join("ann")
    await room.record()
    await room.tab.hears("START_RECORDING")
    await room.server.room_service().delete_room(api.DeleteRoomRequest(room="room"))
    await room.ended()


async def test_ends_when_the_recorder_is_removed(room: Room) -> None:
    await room.join("ann")
    await room.record()
    await room.tab.hears("START_RECORDING")
    await room.server.room_service().remove_participant(
        api.RoomParticipantIdentity(room="room", identity=EGRESS)
    )
    await room.ended()


async def test_goes_on_through_a_restart_of_the_server(room: Room) -> None:
    ann = await room.join("ann")
    await room.record()
    await room.tab.becomes(PICTURED, True)
    await room.server.kill()
    await ann.leave()
    await room.shows({"ann": WHOLE})
    await room.server.restart()
    await room.tab.hears("connected to the room again", within_s=40)
    await ann.join()
    await room.tab.becomes(f"({PICTURED}) && document.querySelectorAll('.tile').length", 1)
    assert ("log", "END_RECORDING") not in room.tab.said


@pytest.mark.parametrize(
    ("url", "token", "error"),
    [
        ("", "nonsense", "signalling: could not join the room at ws://127.0.0.1:"),
        (f"ws://127.0.0.1:{free_port()}", "", "signalling: could not join the room at ws://127.0.0.1:"),
    ],
    ids=["token", "server"],
)
async def test_says_why_it_cannot_begin(room: Room, url: str, token: str, error: str) -> None:
    await room.record(url=url, token=token)
    await room.tab.sees(error, "div.error")
    assert await room.tab.hears(error) == await room.tab.run(
        "document.querySelector('div.error').textContent"
    )
    assert ("log", "START_RECORDING") not in room.tab.said


async def test_says_what_its_query_lacks(room: Room) -> None:
    await room.tab.open(room.pages.url)
    await asyncio.gather(
        room.tab.sees("page load: query parameters url and token are required", "div.error"),
        room.tab.hears("page load: query parameters url and token are required"),
    )


async def test_a_template_is_tried_out_with_publishers(room: Room) -> None:
    command = [sys.executable, "-m", "openegress.cli", "test-template", "--no-open"]
    keys = {
        "LIVEKIT_URL": room.server.ws_url,
        "LIVEKIT_API_KEY": room.server.api_key,
        "LIVEKIT_API_SECRET": room.server.api_secret,
    }
    shown = await asyncio.create_subprocess_exec(
        *command,
        *("--base-url", room.pages.url, "--layout", "speaker", "--publishers", "2", "--room", "demo"),
        env=os.environ | keys,
        stdout=asyncio.subprocess.PIPE,
    )
    assert shown.stdout is not None
    async with asyncio.timeout(30):
        url = (await shown.stdout.readline()).decode().strip()
    await room.tab.open(url)
    await room.tab.hears("START_RECORDING")
    await room.tab.becomes(f"({PICTURED}) && document.querySelectorAll('.tile:not([hidden])').length", 2)
    # They take turns of three seconds.
    focus = "document.querySelectorAll('.tile:not([hidden])')"
    focus = f"[...{focus}].sort((a, b) => b.offsetWidth - a.offsetWidth)[0].dataset.identity"
    first = await room.tab.run(focus)
    other = {"demo-publisher_0": "demo-publisher_1", "demo-publisher_1": "demo-publisher_0"}[first]
    await room.tab.becomes(focus, other)
    shown.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        assert await shown.wait() == 0
    await room.tab.hears("END_RECORDING")
