"""LiveKit's webhooks: who may tell, and what of."""

import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jwt
import pytest
from livekit.protocol.webhook import WebhookEvent

from openegress.api.room_events import PATH, RoomEvents
from openegress.api.server import MAX_BODY_BYTES, ApiServer, Listen, Parts

KEYS = {"key": "a secret of more than thirty-two bytes"}
OTHER = "a secret of more than 32 bytes, not ours"
BODY = json.dumps(
    {
        "event": "room_started",
        "room": {"sid": "RM_1", "name": "class-7", "creationTime": "1795953124"},
        "id": "EV_1",
        "createdAt": "1795953124",
        "fieldOfTomorrow": {"a": 1},
    }
).encode()


class Site:
    def __init__(self) -> None:
        self.events: list[WebhookEvent] = []
        self.server = ApiServer(Listen(port=0), Parts(KEYS, room_events=RoomEvents(KEYS, self.events.append)))

    async def post(self, body: bytes, authorization: str | None) -> int:
        headers = {"Content-Type": "application/webhook+json"}
        if authorization is not None:
            headers["Authorization"] = authorization
        async with (
            aiohttp.ClientSession() as http,
            http.post(self.server.url + PATH, data=body, headers=headers) as answer,
        ):
            return answer.status


def token(body: bytes = BODY, *, key: str = "key", secret: str = KEYS["key"], **claims: Any) -> str:
    """As livekit-server makes it."""
    now = int(time.time())
    said: dict[str, Any] = {
        "iss": key,
        "nbf": now,
        "exp": now + 300,
        "sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }
    return jwt.encode(said | claims, secret, algorithm="HS256")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    one = Site()
    await one.server.start()
    yield one
    await one.server.close()


async def test_an_event_is_taken_once(site: Site) -> None:
    assert await site.post(BODY, token()) == 200
    assert await site.post(BODY, f"Bearer {token()}") == 200
    (event,) = site.events
    assert (event.event, event.room.name, event.room.sid) == ("room_started", "class-7", "RM_1")


async def test_who_may_not_tell(site: Site) -> None:
    for authorization in (
        None,
        "",
        "nonsense",
        token(secret=OTHER),
        token(key="theirs", secret=OTHER),
        token(body=b"another"),
        token(sha256=None),
        token(sha256=7),
        token(sha256="\u00e4"),
        token(exp=int(time.time()) - 3600),
        jwt.encode({"iss": "key", "exp": time.time() + 60}, "", algorithm="none"),
    ):
        assert await site.post(BODY, authorization) == 401, authorization
    assert site.events == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"room":' * 2000, b'{"event": 7}'])
async def test_what_is_no_event(site: Site, body: bytes) -> None:
    assert await site.post(body, token(body)) == 400
    assert site.events == []


async def test_a_body_of_a_stranger_is_not_read(site: Site) -> None:
    large = bytes(MAX_BODY_BYTES + 1)
    assert await site.post(large, None) == 401
    assert await site.post(large, token(large)) == 413


async def test_without_rules_there_is_no_such_page() -> None:
    server = ApiServer(Listen(port=0), Parts(KEYS))
    await server.start()
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.post(server.url + PATH, data=BODY, headers={"Authorization": token()}) as answer,
        ):
            assert answer.status in (404, 405)
    finally:
        await server.close()
