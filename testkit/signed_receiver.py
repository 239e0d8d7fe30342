"""An endpoint that accepts what LiveKit's own webhook receiver verifies."""

import asyncio

from aiohttp import web
from livekit.api import TokenVerifier, WebhookReceiver
from livekit.protocol.webhook import WebhookEvent

from testkit.local_app import LocalApp


class SignedReceiver(LocalApp):
    """Use as an async context manager. `trust()` names the key whose signature counts; others get 401."""

    path = "/"

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.refused: list[str] = []
        self.changed = asyncio.Condition()
        self._official: WebhookReceiver | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def trust(self, api_key: str, api_secret: str) -> None:
        self._official = WebhookReceiver(TokenVerifier(api_key, api_secret))

    async def answer_to(self, event: WebhookEvent, body: str) -> web.StreamResponse:
        """The answer to a verified request."""
        raise NotImplementedError

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(self.path, self._take)
        return app

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode()
        try:
            assert self._official is not None, "trust() comes first"
            event = self._official.receive(body, request.headers.get("Authorization", ""))
        except Exception as error:
            self.refused.append(repr(error))
            return web.Response(status=401)
        return await self.answer_to(event, body)
