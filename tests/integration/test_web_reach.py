"""What a page can do to get at what is not its own: by every API of a browser that connects or remembers."""

import asyncio
import json
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
"""Both count as secure, so that a page has all APIs there are."""
WITHIN_S = 20.0

REACHING = """<!doctype html><body><script>
const place = "%(inside)s:%(tcp)d", got = [], no = {mode: "no-cors"}
const late = ms => new Promise((_, fail) => setTimeout(fail, ms))
const attempt = async (name, what) => {
  try { await Promise.race([what(), late(2000)]); got.push(name) } catch {}
}
const opened = (made, event) => new Promise((done, fail) => { made[event] = done; made.onerror = fail })
const answered = made => new Promise((done, fail) => { made.onmessage = e => e.data ? done() : fail() })
const working = url => {
  const source = `fetch("${url}", {mode: "no-cors"}).then(() => postMessage(1), () => postMessage(0))`
  return answered(new Worker(URL.createObjectURL(new Blob([source], {type: "text/javascript"}))))
}
const element = (tag, fields) => {
  const made = Object.assign(document.createElement(tag), fields)
  document.body.append(made)
  return opened(made, "onload")
}
const attempts = {
  fetch: () => fetch(`http://${place}/`, no),
  keepalive: () => fetch(`http://${place}/`, {...no, keepalive: true}),
  events: () => opened(new EventSource(`http://${place}/`), "onopen"),
  socket: () => opened(new WebSocket(`ws://${place}/`), "onopen"),
  transport: () => new WebTransport("https://%(inside)s:%(udp)d/").ready,
  worker: () => working(`http://${place}/worker`),
  module: () => import(`http://${place}/x.js`),
  script: () => element("script", {src: `http://${place}/x.js`}),
  image: () => element("img", {src: `http://${place}/x.png`}),
  style: () => element("link", {rel: "stylesheet", href: `http://${place}/x.css`}),
  prefetch: () => element("link", {rel: "prefetch", href: `http://${place}/x`}),
  object: () => element("object", {data: `http://${place}/x`}),
  service: async () => {
    await navigator.serviceWorker.register("/service.js")
    const ready = await navigator.serviceWorker.ready
    ready.active.postMessage(0)
    await answered(navigator.serviceWorker)
  },
  file: () => fetch("file:///etc/passwd"),
  fileOfWorker: () => working("file:///etc/passwd"),
  ownPort: () => fetch("http://%(outside)s:%(own)d/healthz", no),
}
for (const rel of ["preconnect", "dns-prefetch", "modulepreload"])
  element("link", {rel, href: `http://${place}/`}).catch(() => 0)
const rules = JSON.stringify({prerender: [{urls: [`http://${place}/`]}]})
element("script", {type: "speculationrules", textContent: rules}).catch(() => 0)
const frames = [`http://${place}/`, "file:///etc/passwd", "chrome://version", `view-source:http://${place}/`]
for (const src of frames) element("iframe", {src}).catch(() => 0)
element("iframe", {name: "frame"}).catch(() => 0)
const form = Object.assign(document.createElement("form"), {method: "post", target: "frame"})
form.action = `http://${place}/`
document.body.append(form)
form.submit()
navigator.sendBeacon(`http://${place}/`, "x")
window.open(`http://${place}/`)
Promise.all(Object.entries(attempts).map(([name, what]) => attempt(name, what)))
  .then(() => fetch("/told", {method: "POST", body: JSON.stringify(got)}))
</script>"""

SERVICE_WORKER = """
const asked = () => fetch("http://%(inside)s:%(tcp)d/service", {mode: "no-cors"})
oninstall = event => { skipWaiting(); event.waitUntil(asked().catch(() => 0)) }
onactivate = event => event.waitUntil(clients.claim())
onmessage = event => asked().then(() => event.source.postMessage(1), () => event.source.postMessage(0))
"""

REMEMBERING = """<!doctype html><script>
const database = name => new Promise((done, fail) => {
  const open = indexedDB.open(name)
  open.onsuccess = done
  open.onerror = fail
});
(async () => {
  const found = {
    local: localStorage.length,
    session: sessionStorage.length,
    cookies: document.cookie,
    databases: (await indexedDB.databases()).length,
    caches: (await caches.keys()).length,
    workers: (await navigator.serviceWorker.getRegistrations()).length,
    files: 0,
    name: window.name,
  }
  const root = await navigator.storage.getDirectory()
  for await (const _ of root.keys()) found.files++
  localStorage.secret = sessionStorage.secret = document.cookie = window.name = "secret"
  document.cookie = "kept=secret; max-age=100000"
  await database("secret")
  await (await caches.open("secret")).put("/secret", new Response("secret"))
  await root.getFileHandle("secret", {create: true})
  await navigator.serviceWorker.register("/service.js")
  await fetch("/told", {method: "POST", body: JSON.stringify(found)})
})()
</script>"""


@dataclass
class Site:
    """Outside of what is denied; and what listens inside."""

    url: str = ""
    own_port: int = 0
    came: list[str] = field(default_factory=list)
    """Inside."""
    told: "asyncio.Queue[Any]" = field(default_factory=asyncio.Queue)
    """By pages."""


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, site: Site) -> None:
        self._site = site

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._site.came.append("udp")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found, loop = Site(), asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(found), (INSIDE, 0))

    async def inside(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.came.append((await reader.readline()).decode(errors="replace"))
        writer.close()

    async def own(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.came.append("its own port")
        writer.close()

    servers = [await asyncio.start_server(inside, INSIDE, 0), await asyncio.start_server(own, OUTSIDE, 0)]
    places = {
        "udp": transport.get_extra_info("sockname")[1],
        "tcp": servers[0].sockets[0].getsockname()[1],
        "own": servers[1].sockets[0].getsockname()[1],
        "inside": INSIDE,
        "outside": OUTSIDE,
    }

    def document(text: str, kind: str) -> Any:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=text, content_type=kind)

        return answer

    async def told(request: web.Request) -> web.Response:
        found.told.put_nowait(json.loads(await request.text()))
        return web.Response()

    app = web.Application()
    app.router.add_get("/reaching", document(REACHING % places, "text/html"))
    app.router.add_get("/remembering", document(REMEMBERING, "text/html"))
    app.router.add_get("/service.js", document(SERVICE_WORKER % places, "text/javascript"))
    app.router.add_post("/told", told)
    async with serving(app, OUTSIDE) as port:
        found.url, found.own_port = f"http://{OUTSIDE}:{port}", servers[1].sockets[0].getsockname()[1]
        yield found
    transport.close()
    for server in servers:
        server.close()


@asynccontextmanager
async def visiting(site: Site, page: str, folder: Path, **settings: Any) -> AsyncIterator[Any]:
    """Gives what the page tells."""
    browser = await Browser.start(BrowserSettings(**settings), 320, 180, 10, folder, audio=False)
    try:
        async with asyncio.timeout(WITHIN_S):
            await browser.page.navigate(f"{site.url}/{page}")
            yield await site.told.get()
    finally:
        await browser.close()


async def test_no_api_of_a_browser_leads_into_a_denied_network(site: Site, tmp_path: Path) -> None:
    denied = {"deny_networks": (f"{INSIDE}/32",), "own_ports": (site.own_port,), "udp": False}
    async with visiting(site, "reaching", tmp_path / "b", **denied) as got:
        assert got == []
    assert site.came == []


async def test_what_they_would_reach(site: Site, tmp_path: Path) -> None:
    """Where nothing is denied: the page tries what it says it does."""
    async with visiting(site, "reaching", tmp_path / "b") as got:
        assert not {"file", "fileOfWorker"} & set(got)
    lines = {each.partition(" HTTP")[0] for each in site.came}
    assert {"GET /", "GET /worker", "GET /service", "POST /", "its own port", "udp"} <= lines, lines


async def test_a_recording_finds_nothing_of_the_one_before(site: Site, tmp_path: Path) -> None:
    for number in range(2):
        async with visiting(site, "remembering", tmp_path / f"{number}") as found:
            assert set(found.values()) == {0, ""}, found
        assert not (tmp_path / f"{number}").exists()
