"""A webhook endpoint that takes what the official receiver verifies."""

import asyncio

from aiohttp import web
from livekit.api import TokenVerifier, WebhookReceiver
from livekit.protocol.webhook import WebhookEvent

from testkit.livekit_server import free_port
from testkit.local_app import LocalApp


class VerifiedWebhooks(LocalApp):
    """Use as an async context manager. `trust()` names the key whose signature counts; others get 401."""

    def __init__(self) -> None:
        super().__init__(free_port())
        self.events: list[WebhookEvent] = []
        self.refused: list[str] = []
        self._official: WebhookReceiver | None = None
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def trust(self, api_key: str, api_secret: str) -> None:
        self._official = WebhookReceiver(TokenVerifier(api_key, api_secret))

    def of(self, egress_id: str) -> list[str]:
        """Names of the events of an egress, in the order of their coming."""
        return [event.event for event in self.events if event.egress_info.egress_id == egress_id]

    async def until(self, egress_id: str, event: str, timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: event in self.of(egress_id))

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/hook", self._hook)
        return app

    async def _hook(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        try:
            assert self._official is not None, "trust() comes first"
            event = self._official.receive(body, request.headers.get("Authorization", ""))
        except Exception as error:
            self.refused.append(repr(error))
            return web.Response(status=401)
        async with self._changed:
            self.events.append(event)
            self._changed.notify_all()
        return web.Response()
