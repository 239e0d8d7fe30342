"""A websocket server that takes a track's sound, and keeps what it receives."""

import asyncio
import json
import math
import time

from aiohttp import WSMsgType, web

from testkit.local_app import LocalApp


class WebsocketReceiver(LocalApp):
    """A websocket server that keeps what it receives. Use as an async context manager."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[dict[str, str]] = []
        self.sound = b""
        self.begin_s = math.inf
        """Unix time of the first sample, by the quickest message; if `bytes_per_s` is given."""
        self.bytes_per_s = 0
        self.texts: list[tuple[int, object]] = []
        """(bytes of sound before it, text)."""
        self.closed_properly = False
        self._changed = asyncio.Condition()
        self._sockets: list[web.WebSocketResponse] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/in", self._take)
        return app

    async def has(self, sound_bytes: int = 0, texts: int = 0) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.sound) >= sound_bytes and len(self.texts) >= texts)

    async def drop(self) -> None:
        """Cuts the connection without a word."""
        transport = self._sockets[-1]._req.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()

    async def _take(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.append(socket)
        self.headers.append(dict(request.headers))
        async for message in socket:
            async with self._changed:
                if message.type is WSMsgType.BINARY:
                    self.sound += message.data
                    if self.bytes_per_s:
                        self.begin_s = min(self.begin_s, time.time() - len(self.sound) / self.bytes_per_s)
                elif message.type is WSMsgType.TEXT:
                    self.texts.append((len(self.sound), json.loads(message.data)))
                self._changed.notify_all()
        self.closed_properly = socket.close_code == 1000
        return socket
