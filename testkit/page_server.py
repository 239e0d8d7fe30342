"""Pages on loopback that load, fail or hang in every way that a recorded page may: plain and TLS."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

PAGES = Path(__file__).parent / "pages"
LIVEKIT_CLIENT = PAGES.parents[1] / "web/node_modules/livekit-client/dist/livekit-client.umd.js"
"""The same as on the template's page."""
E2EE_WORKER = LIVEKIT_CLIENT.with_name("livekit-client.e2ee.worker.js")

FRAME = """<!doctype html><style>
html, body { margin: 0; background: rgb(200, 0, 0) } p { height: 400vh; margin: 0 }
div { position: fixed; inset: 0; border: 1px solid rgb(0, 255, 0); box-sizing: border-box }
</style><p></p><div></div>"""
"""A green line one pixel wide all round, and a page longer than the window."""

BLANK = "<!doctype html><title>blank</title><body style='background: rgb(40, 90, 170)'>"

TEXTS = {
    "frame": FRAME,
    "blank": BLANK,
    "silent-template": BLANK
    + "<script>console.error('no room for', location.href); fetch('/status/503')</script>",
    "template-error": BLANK + "<div class='error'>the token is expired</div>",
    "connected": BLANK
    + """<script>const socket = new WebSocket("/socket")
      socket.onmessage = event => console.log(event.data)</script>""",
    "late-template-error": BLANK
    + """<script>setTimeout(() => {
      document.body.innerHTML = "<div class='error'>no way to the room</div>"; console.error("no way")
    }, 300)</script>""",
    "hung": BLANK + "<script>onload = () => setTimeout(() => { for (;;); })</script>",
    "hung-waiting": BLANK
    + "<script>onload = () => setTimeout(() => { console.error('oh'); for (;;); }, 300)</script>",
    "starting": BLANK + "<script>setTimeout(() => console.log('START_RECORDING'), 100)</script>",
    "late-start": BLANK + "<script>setTimeout(() => console.log('START_RECORDING'), 1500)</script>",
    "ending": BLANK
    + "<script>console.log('START_RECORDING'); setTimeout(() => console.log('END_RECORDING'), 500)</script>",
    "dialogs": BLANK + "<script>alert('hello'); confirm('really?'); console.log('answered')</script>",
    "popup": BLANK
    + "<script>const w = window.open('/frame'); console.log('popup ' + (w ? 'open' : 'blocked'))</script>",
    "features": "<!doctype html><body style='margin: 0; background: black'><canvas></canvas><script>"
    "const canvas = document.querySelector('canvas'); canvas.width = innerWidth; canvas.height = innerHeight;"
    "print(); const gl = canvas.getContext('webgl2', {preserveDrawingBuffer: true});"
    "gl?.clearColor(0, 1, 0, 1); gl?.clear(gl.COLOR_BUFFER_BIT);"
    "Notification.requestPermission().then(answer => console.log('NOTIFICATIONS', answer))</script>",
    "hungry": BLANK
    + """<script>const kept = []
      setInterval(() => kept.push(new Uint8Array(32 << 20).fill(1)), 50)</script>""",
    "hostile": BLANK
    + """<script>const kept = [], places = JSON.parse(decodeURIComponent(location.hash.slice(1)))
      const said = text => { for (let n = 0; n < 200; n++) console.log(text + " " + n + "\\n".repeat(50)) }
      setInterval(() => {
        kept.push(new Uint8Array(32 << 20).fill(1))
        said("line")
        if (kept.length > 5) return
        for (const place of places) {
          fetch("http://" + place, {mode: "no-cors"}).then(() => said("REACHED")).catch(() => {})
          try { new WebSocket("ws://" + place).onopen = () => said("REACHED") } catch {}
          navigator.sendBeacon("http://" + place, "x")
          const frame = document.createElement("iframe")
          frame.src = "http://" + place
          document.body.append(frame)
        }
      }, 100)</script>""",
    "talkative": BLANK
    + """<script>console.log("x".repeat(9 << 20)); for (let n = 0; n < 5000; n++) console.log("line " + n)
      setTimeout(() => console.error("the end"), 500)</script>""",
    "storing": BLANK
    + """<script>caches.open("x").then(async cache => {
      for (let n = 0; ; n++) await cache.put("/" + n, new Response(new Uint8Array(4 << 20)))
    })</script>""",
    "hidden": BLANK + "<script>console.log(document.visibilityState, document.hasFocus())</script>",
}
"""The page under each name."""


class PageServer:
    """Use as an async context manager. `requests` holds the path and query of each request."""

    def __init__(self, tls: ssl.SSLContext | None = None, files: Path | None = None) -> None:
        """`files`: a folder that is served at /files."""
        self.requests: list[str] = []
        self.asked = asyncio.Event()
        """Set by the first request."""
        self.sockets: asyncio.Queue[web.WebSocketResponse] = asyncio.Queue()
        """The connections that pages open at /socket."""
        self.port = 0
        self._tls = tls
        self._files = files
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}/{path}"

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._note])
        app.router.add_get("/status/{code}", self._status)
        app.router.add_get("/hang", self._hang)
        app.router.add_get("/hanging-image", self._hanging_image)
        app.router.add_get("/fetch", self._fetch)
        app.router.add_get("/socket", self._socket)
        app.router.add_get("/favicon.ico", self._no_content)
        for name, text in TEXTS.items():
            app.router.add_get(f"/{name}", _page(text))
        app.router.add_get("/livekit-client.js", self._livekit_client)
        app.router.add_get(f"/{E2EE_WORKER.name}", self._e2ee_worker)
        if self._files is not None:
            app.router.add_static("/files", self._files)
        app.router.add_static("/", PAGES)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _note(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        self.asked.set()
        return await handler(request)

    async def _livekit_client(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(LIVEKIT_CLIENT)

    async def _e2ee_worker(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(E2EE_WORKER)

    async def _status(self, request: web.Request) -> web.Response:
        code = int(request.match_info["code"])
        headers = {"WWW-Authenticate": "Basic realm=x"} if code == 401 else {}
        return web.Response(status=code, text="<p>sorry", content_type="text/html", headers=headers)

    async def _hang(self, request: web.Request) -> web.Response:
        await self._stopping.wait()
        return web.Response()

    async def _hanging_image(self, request: web.Request) -> web.Response:
        return web.Response(text=BLANK + "<img src='/hang'>", content_type="text/html")

    async def _fetch(self, request: web.Request) -> web.Response:
        script = """<script>fetch(URL, {mode: "no-cors"}).then(() => console.log("reached"),
            e => console.log("refused")).finally(() => console.log("START_RECORDING"))</script>"""
        text = BLANK + script.replace("URL", f'"{request.query["url"]}"')
        return web.Response(text=text, content_type="text/html")

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.put_nowait(socket)
        async for _ in socket:
            pass
        return socket

    async def _no_content(self, request: web.Request) -> web.Response:
        return web.Response(status=204)


def _page(text: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    return serve
