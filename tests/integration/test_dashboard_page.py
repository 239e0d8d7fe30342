"""The dashboard page in a real Chromium, on a real server with a real feed."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    FileInfo,
    StopEgressRequest,
    StreamInfo,
    WebEgressRequest,
)

from openegress.api.board import Board
from openegress.api.pages import STATIC
from openegress.api.server import ApiServer, Listen, Parts
from openegress.api.twirp import Method
from openegress.core.errors import Code, EgressError
from openegress.core.events import Progress
from openegress.core.tokens import egress_token
from testkit.browser_tab import WITHIN_S, Tab, open_tab

KEYS = {"key": "a secret of more than thirty-two bytes"}
TOKEN = egress_token("key", KEYS["key"], timedelta(hours=6))
"""Made when the tests are collected, used when their turn comes."""
STARTED_NS = 1_700_000_000_000_000_000
MINUTE_NS = 60_000_000_000


class Stops:
    """Answers StopEgress in place of the workers, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.refusal: EgressError | None = None

    def methods(self) -> dict[str, Method]:
        return {"StopEgress": Method(StopEgressRequest, self._stop)}

    async def _stop(self, request: StopEgressRequest, _: Any) -> EgressInfo:
        self.asked.put_nowait(request.egress_id)
        if self.refusal is not None:
            raise self.refusal
        return EgressInfo(egress_id=request.egress_id, status=EgressStatus.EGRESS_ENDING)


@pytest.fixture
async def tab() -> AsyncIterator[Tab]:
    async with open_tab(1360, 700) as one:
        yield one


class Site:
    """A server with an empty board."""

    def __init__(self) -> None:
        self.board = Board()
        self.stops = Stops()
        self.server = self._made(0)
        self.port = 0

    def _made(self, port: int) -> ApiServer:
        parts = Parts(KEYS, egress=self.stops, board=self.board)  # type: ignore[arg-type]
        return ApiServer(Listen(port=port), parts)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dashboard/"

    async def start(self) -> None:
        await self.server.start()
        self.port = self.server.port

    async def restart(self, between: Callable[[], Awaitable[None]]) -> None:
        """Goes away, and comes back on the same port with the same board."""
        await self.server.close()
        await between()
        self.board = Board()
        self.server = self._made(self.port)
        await self.server.start()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    assert (STATIC / "dashboard" / "index.html").is_file(), "the pages are not built: run `make setup`"
    one = Site()
    await one.start()
    yield one
    await one.server.close()


def running(egress_id: str = "EG_one", **more: Any) -> EgressInfo:
    fields: dict[str, Any] = {
        "egress_id": egress_id,
        "status": EgressStatus.EGRESS_ACTIVE,
        "started_at": STARTED_NS,
        "updated_at": STARTED_NS,
        "web": WebEgressRequest(url="https://example.com/?a='b'"),
        "file_results": [FileInfo(filename="a.mp4", started_at=STARTED_NS)],
    }
    return EgressInfo(**(fields | more))


async def test_shows_what_is_there_and_what_changes(site: Site, tab: Tab) -> None:
    site.board.node(
        lambda: {"cpu_cores": 4, "cpu_used": 1.5, "memory_mib": 100, "version": "1.2", "uptime_s": 60}
    )
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("live", "#connection")
    await tab.sees("CPU 1.50 of 4 cores", "#node")
    for text in ("EG_one", "https://example.com/?a='b'", "active", "a.mp4 writing"):
        await tab.sees(text, "tbody tr")

    site.board.progress("EG_one", Progress(1, 300, 299, 7, 1_500_000, queue=2, fps=29.97, cpu_cores=0.42))
    await tab.sees("30.0 fps, 7 dropped, 0.42 cores, 2 queued", "tbody tr")
    await tab.sees("1.5 MB", "tbody tr")

    site.board.update(
        running("EG_two", started_at=STARTED_NS + MINUTE_NS, web=WebEgressRequest(url="http://b/"))
    )
    await tab.sees("EG_two", "tbody tr:first-child")

    failed = running(
        updated_at=STARTED_NS + 1,
        ended_at=STARTED_NS + MINUTE_NS,
        status=EgressStatus.EGRESS_FAILED,
        error="storage write: bucket <b>gone</b>",
        stream_results=[StreamInfo(url="rtmp://h/app/{k}", status=StreamInfo.FAILED, error="refused")],
    )
    site.board.update(failed)
    row = "tr[data-egress=EG_one]"
    for text in ("failed", "storage write", "bucket <b>gone</b>", "01:00", "failed: refused", "not stored"):
        await tab.sees(text, row)
    assert await tab.run(f"document.querySelector('{row} .phase').innerText") == "storage write"


async def test_pictures(site: Site, tab: Tab) -> None:
    picture = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_one", "tbody tr")
    assert await tab.run("document.querySelector('tbody img').checkVisibility()") is False
    site.board.thumbnail("EG_one", picture)
    site.board.progress("EG_one", Progress(1, 1, 1, 0, 10, fps=12.0))
    await tab.sees("12.0 fps", "tbody tr")
    image = "document.querySelector('tbody img')"
    drawn = f"{image}.decode().then(() => {image}.naturalWidth)"
    assert await tab.run(drawn) == 1


async def test_stops_after_asking(site: Site, tab: Tab) -> None:
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_one", "tbody tr")
    await tab.click("[aria-label='Stop EG_one']")
    await tab.sees("Stop EG_one", "#stop[open]")
    await tab.click("#stop-cancel")
    assert site.stops.asked.empty()

    site.stops.refusal = EgressError(Code.DEADLINE_EXCEEDED, "request timed out")
    await tab.click("[aria-label='Stop EG_one']")
    await tab.click("#stop-confirm")
    await tab.sees("request timed out", "#stop-failed")
    assert await asyncio.wait_for(site.stops.asked.get(), WITHIN_S) == "EG_one"

    site.stops.refusal = None
    await tab.click("#stop-confirm")
    assert await asyncio.wait_for(site.stops.asked.get(), WITHIN_S) == "EG_one"
    site.board.update(running(status=EgressStatus.EGRESS_COMPLETE, updated_at=STARTED_NS + 1))
    await tab.sees("complete", "tbody tr")
    assert await tab.run("document.querySelector('[aria-label=\"Stop EG_one\"]').checkVisibility()") is False
    assert await tab.run("document.querySelector('#stop').open") is False


async def test_the_request_as_a_command(site: Site, tab: Tab) -> None:
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_one", "tbody tr")
    await tab.click("[aria-label='Request of EG_one']")
    await tab.sees(f"http://127.0.0.1:{site.port}/twirp/livekit.Egress/StartWebEgress", "#request[open] pre")
    shown = await tab.run("document.querySelector('#request pre').textContent")
    assert TOKEN not in shown
    assert "$TOKEN" in shown
    assert "https://example.com/?a='\\''b'\\''" in shown


async def test_asks_for_a_token_until_one_is_good(site: Site, tab: Tab) -> None:
    site.board.update(running())
    await tab.open(site.url)
    await tab.sees("API token", "#sign-in:not([hidden])")

    async def sign_in(token: str) -> None:
        await tab.run(f"document.querySelector('#token').value = {json.dumps(token)}")
        await tab.click("#sign-in button")

    await sign_in("not a token")
    await tab.sees("refused this token", "#refused")
    assert await tab.run("document.querySelector('tbody').childElementCount") == 0
    await sign_in(TOKEN)
    await tab.sees("EG_one", "tbody tr")
    assert await tab.run("location.href") == site.url
    await tab.open(f"{site.url}?again")
    await tab.sees("EG_one", "tbody tr")
    await tab.click("#sign-out")
    await tab.sees("API token", "#sign-in:not([hidden])")
    assert await tab.run("sessionStorage.length") == 0


async def test_a_token_in_the_fragment_leaves_the_address_bar(site: Site, tab: Tab) -> None:
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("No egress yet")
    assert await tab.run("location.href") == site.url


async def test_says_that_the_server_is_gone_and_comes_back(site: Site, tab: Tab) -> None:
    site.board.update(running())
    await tab.open(f"{site.url}#token={TOKEN}")
    await tab.sees("EG_one", "tbody tr")

    async def gone() -> None:
        await tab.sees("not connected", "#connection")

    await site.restart(gone)
    site.board.update(running("EG_two"))
    await tab.sees("live", "#connection")
    await tab.sees("EG_two", "tbody tr")
    assert await tab.run("document.querySelectorAll('tbody tr').length") == 1
