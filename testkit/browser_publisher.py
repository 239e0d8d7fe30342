"""A participant in Chromium with livekit-client, as nearly every user publishes: simulcast or SVC, RED, DTX,
and a camera and a microphone of the browser's own making (a ball that rolls, and beeps)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from testkit.browser_tab import Tab, open_tab
from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer

Codec = Literal["vp8", "h264", "vp9", "av1"]

CAMERA = (1280, 720)
"""The size that livekit-client requests from a camera."""

_FLAGS = (
    "--use-fake-device-for-media-stream=fps=30",
    "--use-fake-ui-for-media-stream",
    # Candidates with mDNS names cannot be reached without a responder.
    "--disable-features=WebRtcHideLocalIpsWithMdns",
)


@dataclass(frozen=True, slots=True)
class BrowserPublisher:
    tab: Tab
    camera: str
    """The SID of its track."""
    microphone: str


@asynccontextmanager
async def publishing(
    server: LivekitServer, pages: PageServer, room: str, identity: str, codec: Codec, secret: str = ""
) -> AsyncIterator[BrowserPublisher]:
    """Publishes until the context is left; entered when both tracks are published. `secret`: the passphrase
    of an encrypted room."""
    async with open_tab(flags=_FLAGS) as tab:
        query = {"url": server.ws_url, "token": server.token(room, identity), "codec": codec}
        if secret:
            query["secret"] = secret
        await tab.open(pages.url(f"publisher.html?{urlencode(query)}"))
        await tab.becomes("typeof published", "object")
        tracks = await tab.run("published", timeout_s=60.0)
        yield BrowserPublisher(tab, tracks["camera"], tracks["microphone"])
