"""Receives LiveKit's webhooks about its rooms, signed with an API key that both servers know.

The Authorization header holds a JWT whose claim `sha256` is the hash of the body in base64, as LiveKit's SDKs
check it (livekit_webhook.proto, WebhookEvent). The token is checked before the body is read.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping

from aiohttp import web
from google.protobuf import json_format
from livekit.protocol.webhook import WebhookEvent

from openegress.api import connections
from openegress.api.auth import BEARER, Unauthorized, verified_claims
from openegress.api.bodies import Bodies, TooLarge
from openegress.core.errors import EgressError
from openegress.core.seen import SeenIds
from openegress.core.units import S

PATH = "/webhooks/livekit"
KEPT_NS = 600 * S
"""How long the id of an event is remembered. A token is valid for five minutes."""


class RoomEvents:
    """Passes each event to `on_event` once."""

    def __init__(self, keys: Mapping[str, str], on_event: Callable[[WebhookEvent], None]) -> None:
        self._keys = keys
        self._on_event = on_event
        self._bodies = Bodies()
        self._seen = SeenIds()

    async def handle(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix(BEARER)
        try:
            if not token:
                raise Unauthorized("a LiveKit webhook needs a token in its Authorization header")
            _, claims = verified_claims(token, self._keys)
        except Unauthorized as error:
            return web.Response(status=401, text=str(error))
        try:
            connections.trust(request)
            body = await self._bodies.read(request)
        except TooLarge:
            return web.Response(status=413, text="the body is too large for a LiveKit webhook")
        except EgressError as error:
            return web.Response(status=error.code.http_status, text=error.message)
        if not _matches(body, claims.get("sha256")):
            return web.Response(status=401, text="the token does not belong to this body")
        try:
            event = await self._bodies.decode(body, parse)
        except (json_format.ParseError, UnicodeDecodeError, RecursionError):
            return web.Response(status=400, text="the body is not a LiveKit webhook event")
        if self._is_new(event.id):
            self._on_event(event)
        return web.Response()

    def _is_new(self, event_id: str) -> bool:
        """Whether an event is new. It may be repeated by a server that got no answer, or by an attacker."""
        now_ns = time.time_ns()
        return not event_id or self._seen.is_new(event_id, now_ns + KEPT_NS, now_ns)


def _matches(body: bytes, claimed: object) -> bool:
    found = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return isinstance(claimed, str) and hmac.compare_digest(found.encode(), claimed.encode())


def parse(body: bytes) -> WebhookEvent:
    """Decodes an event in JSON. Raises ParseError, UnicodeDecodeError and RecursionError."""
    event = WebhookEvent()
    json_format.Parse(body.decode(), event, ignore_unknown_fields=True, max_recursion_depth=20)
    if not event.event:
        raise json_format.ParseError("no event")
    return event
