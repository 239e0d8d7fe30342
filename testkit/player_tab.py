"""A tab of Chromium that plays a file of a folder: how browsers play recordings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from testkit.browser_tab import Tab, open_tab
from testkit.local_app import serving


@asynccontextmanager
async def open_player(folder: Path, page: str) -> AsyncIterator[Tab]:
    """`page` is HTML with a promise `loaded`, which becomes "loaded". It is in `folder`, beside the file that
    it plays."""
    (folder / "page.html").write_text(page)
    app = web.Application()
    app.router.add_static("/", folder)
    async with serving(app) as port, open_tab() as tab:
        await tab.open(f"http://127.0.0.1:{port}/page.html")
        await tab.becomes("typeof loaded", "object")
        assert await tab.run("loaded") == "loaded"
        yield tab
