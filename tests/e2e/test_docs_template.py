"""The template that the documentation shows, in a real browser and a real room."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest

from openegress.api.pages import Pages
from openegress.api.server import ApiServer, Listen, Parts
from testkit.browser_tab import Tab, open_tab
from testkit.livekit_server import LivekitServer
from testkit.markdown import ROOT, blocks
from testkit.page_server import LIVEKIT_CLIENT
from testkit.participants import Publisher, VideoSpec

CDN = "https://esm.sh/livekit-client"
CAMERA = VideoSpec(width=320, height=180, fps=10, kbps=200)
PICTURED = "document.getElementById('picture').videoWidth > 0"
ERROR = "document.querySelector('div.error')?.textContent ?? ''"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[str]:
    """URL of the page, with the client library beside it: the recorder may have no way to a CDN."""
    shown = (block.text for block in blocks([ROOT / "docs" / "templates.md"]) if block.language == "html")
    (page,) = (text for text in shown if CDN in text)
    (tmp_path / "index.html").write_text(page.replace(CDN, "./livekit-client.js"))
    shutil.copy(LIVEKIT_CLIENT.with_name("livekit-client.esm.mjs"), tmp_path / "livekit-client.js")
    server = ApiServer(Listen(port=0), Parts({}, pages=Pages({"/": tmp_path})))
    await server.start()
    yield server.url
    await server.close()


async def test_it_says_what_a_recorder_waits_for(site: str) -> None:
    async with AsyncExitStack() as parts:
        server = await parts.enter_async_context(LivekitServer())
        tab: Tab = await parts.enter_async_context(open_tab())
        async with Publisher(server, "room", "ann", CAMERA):
            query = {"layout": "", "url": server.ws_url, "token": server.recorder_token("room", "EG_page")}
            await tab.open(f"{site}/?{urlencode(query)}")
            await tab.hears("START_RECORDING")
            assert await tab.run(PICTURED)
        await tab.hears("END_RECORDING")
        await tab.open(f"{site}/?{urlencode(query | {'token': 'none'})}")
        await tab.becomes(f"({ERROR}) !== ''", True)
