"""A key service as a user writes one: it trusts what LiveKit's own webhook receiver verifies."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web
from livekit.api import TokenVerifier, WebhookReceiver

from testkit.local_app import LocalApp

Asked = dict[str, Any]


class KeyServer(LocalApp):
    """Use as an async context manager. `trust()` names the key whose signature counts; others get 401.

    `keys` is what it gives, by names of rooms. A room that is not there gets 404.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, list[dict[str, Any]]] = {}
        self.refresh: float | None = None
        self.asked: list[Asked] = []
        self.refused: list[str] = []
        self.answer: Callable[[Asked], web.StreamResponse | None] = lambda _: None
        """In place of its own, where it is not None."""
        self._official: WebhookReceiver | None = None
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    def trust(self, api_key: str, api_secret: str) -> None:
        self._official = WebhookReceiver(TokenVerifier(api_key, api_secret))

    def of(self, room: str) -> list[Asked]:
        return [each for each in self.asked if each["room"]["name"] == room]

    async def until(self, room: str, times: int, timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.of(room)) >= times)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/keys", self._ask)
        return app

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode()
        try:
            assert self._official is not None, "trust() comes first"
            event = self._official.receive(body, request.headers.get("Authorization", ""))
        except Exception as error:
            self.refused.append(repr(error))
            return web.Response(status=401)
        asked: Asked = json.loads(body)
        assert event.room.name == asked["room"]["name"]
        async with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()
        if (own := self.answer(asked)) is not None:
            return own
        keys = self.keys.get(event.room.name)
        if keys is None:
            return web.Response(status=404)
        return web.json_response({"keys": keys} | ({"refresh": self.refresh} if self.refresh else {}))
