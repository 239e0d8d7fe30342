"""A webhook endpoint that accepts what the official receiver verifies."""

import asyncio

from aiohttp import web
from livekit.protocol.webhook import WebhookEvent

from testkit.livekit_server import free_port
from testkit.signed_receiver import SignedReceiver


class VerifiedWebhooks(SignedReceiver):
    """Keeps the events."""

    path = "/hook"

    def __init__(self) -> None:
        super().__init__(free_port())
        self.events: list[WebhookEvent] = []

    def of(self, egress_id: str) -> list[str]:
        """Names of the events of an egress, in order of arrival."""
        return [event.event for event in self.events if event.egress_info.egress_id == egress_id]

    async def until(self, egress_id: str, event: str, timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(lambda: event in self.of(egress_id))

    async def answer_to(self, event: WebhookEvent, body: str) -> web.StreamResponse:
        async with self.changed:
            self.events.append(event)
            self.changed.notify_all()
        return web.Response()
