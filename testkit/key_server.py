"""A key service as a user would write it: it trusts what LiveKit's own webhook receiver verifies."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web
from livekit.protocol.webhook import WebhookEvent

from testkit.signed_receiver import SignedReceiver

Asked = dict[str, Any]


class KeyServer(SignedReceiver):
    """`keys` are its answers, by room name. An unknown room gets 404."""

    path = "/keys"

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, list[dict[str, Any]]] = {}
        self.refresh: float | None = None
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], web.StreamResponse | None] = lambda _: None
        """Replaces its own answer unless it is None."""

    def of(self, room: str) -> list[Asked]:
        return [each for each in self.asked if each["room"]["name"] == room]

    async def until(self, room: str, times: int, timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(lambda: len(self.of(room)) >= times)

    async def answer_to(self, event: WebhookEvent, body: str) -> web.StreamResponse:
        asked: Asked = json.loads(body)
        assert event.room.name == asked["room"]["name"]
        async with self.changed:
            self.asked.append(asked)
            self.changed.notify_all()
        if (own := self.answer(asked)) is not None:
            return own
        keys = self.keys.get(event.room.name)
        if keys is None:
            return web.Response(status=404)
        return web.json_response({"keys": keys} | ({"refresh": self.refresh} if self.refresh else {}))
