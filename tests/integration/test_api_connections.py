"""Who has a token and keeps connections open leaves room for the others."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from openegress.api import connections
from openegress.api.room_events import RoomEvents
from openegress.api.server import ApiServer, Listen, Parts
from openegress.core.tokens import egress_token

KEYS = {"key": "a secret of more than thirty-two bytes"}
FEED = "/dashboard/api/events"
MOST = 20


@pytest.fixture
async def url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setattr(connections, "max_connections", lambda: MOST)
    server = ApiServer(Listen(port=0), Parts(KEYS, room_events=RoomEvents(KEYS, lambda _: None)))
    await server.start()
    yield server.url
    await server.close()


async def test_half_of_them_at_most_are_a_callers(url: str) -> None:
    """Here of a dashboard, whose feed is a request that never ends."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    token = {"Authorization": f"Bearer {egress_token('key', KEYS['key'])}"}
    async with aiohttp.ClientSession(connector=connector, headers=token) as http:
        feeds = [await http.get(url + FEED) for _ in range(MOST // 2)]
        for feed in feeds:
            assert feed.status == 200
        for path in (FEED, "/dashboard/api/egress/EG_1/files"):
            async with http.get(url + path) as refused:
                assert refused.status == 429, await refused.text()
        # Strangers, each of whom makes room for the next: those who watch are none of them.
        strangers = [
            await asyncio.open_connection(*url.removeprefix("http://").split(":")) for _ in range(MOST)
        ]
        async with http.get(url + "/healthz") as health:
            assert health.status == 200
        for _, writer in strangers:
            writer.close()
        for feed in feeds:
            feed.close()
        async with asyncio.timeout(10):
            while True:
                async with http.get(url + FEED) as feed:
                    if feed.status == 200:
                        return
                await asyncio.sleep(0.05)
