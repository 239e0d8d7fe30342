"""WebRTC of a page: what is denied gets no packet of it, over UDP, TCP and STUN."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from openegress.core.ipc import BrowserSettings
from openegress.source.web.browser import Browser
from testkit.local_app import serving

INSIDE, OUTSIDE = "127.0.0.1", "127.0.0.2"
PAGE = """<!doctype html><script>
(async () => {
  const one = new RTCPeerConnection({iceServers: [{urls: "stun:%(inside)s:%(udp)d"}]})
  const two = new RTCPeerConnection()
  one.createDataChannel("x")
  await one.setLocalDescription(await one.createOffer())
  await two.setRemoteDescription(one.localDescription)
  await two.setLocalDescription(await two.createAnswer())
  const lines = two.localDescription.sdp.split("\\r\\n").filter(line => !line.startsWith("a=candidate"))
  await one.setRemoteDescription({type: "answer", sdp: lines.join("\\r\\n")})
  for (const [protocol, rest] of [["udp 2130706431 %(inside)s %(udp)d", ""],
                                  ["tcp 1518214911 %(inside)s %(tcp)d", " tcptype passive"],
                                  ["tcp 1518214910 %(outside)s %(outside_tcp)d", " tcptype passive"]])
    await one.addIceCandidate(
      {candidate: `candidate:1 1 ${protocol} typ host${rest}`, sdpMid: "0", sdpMLineIndex: 0})
})()
</script>"""


@dataclass
class Peers:
    """Who is spoken to inside, and outside of what is denied."""

    inside: list[str] = field(default_factory=list)
    inside_came: asyncio.Event = field(default_factory=asyncio.Event)
    outside_checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    url: str = ""


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._peers.inside.append("udp")
        self._peers.inside_came.set()


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    found = Peers()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(found), (INSIDE, 0))

    async def inside(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.inside.append("tcp")
        writer.close()

    async def outside(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(2048):
            found.outside_checks.release()
        writer.close()

    servers = [await asyncio.start_server(inside, INSIDE, 0), await asyncio.start_server(outside, OUTSIDE, 0)]
    ports = {
        "udp": transport.get_extra_info("sockname")[1],
        "tcp": servers[0].sockets[0].getsockname()[1],
        "outside_tcp": servers[1].sockets[0].getsockname()[1],
    }

    async def page(request: web.Request) -> web.Response:
        text = PAGE % {"inside": INSIDE, "outside": OUTSIDE, **ports}
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    async with serving(app, OUTSIDE) as port:
        found.url = f"http://{OUTSIDE}:{port}/"
        yield found
    transport.close()
    for server in servers:
        server.close()


@asynccontextmanager
async def visiting(peers: Peers, folder: Path, **settings: Any) -> AsyncIterator[None]:
    denied = BrowserSettings(deny_networks=(f"{INSIDE}/32",), **settings)
    browser = await Browser.start(denied, 320, 180, 10, folder / "b", audio=False)
    try:
        await browser.page.navigate(peers.url)
        yield
    finally:
        await browser.close()


async def test_nothing_is_sent_to_a_denied_network(peers: Peers, tmp_path: Path) -> None:
    async with visiting(peers, tmp_path, udp=False), asyncio.timeout(30):
        for _ in range(3):  # by then all candidates have been checked more than once
            await peers.outside_checks.acquire()
    assert peers.inside == []


async def test_the_operators_page_keeps_its_udp(peers: Peers, tmp_path: Path) -> None:
    async with visiting(peers, tmp_path, udp=False, udp_pages=(peers.url,)), asyncio.timeout(30):
        await peers.inside_came.wait()
    assert set(peers.inside) == {"udp"}, "its TCP is judged all the same"
