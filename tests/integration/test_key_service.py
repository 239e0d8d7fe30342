"""Key services over HTTP: signed questions, retries, bounds, and answers that are none."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from openegress.core.errors import EgressError
from openegress.core.key_service import MAX_ANSWER_BYTES
from openegress.core.plan import Plan
from openegress.core.room_keys import KeyAnswer, KeyQuestion, RoomKey
from openegress.core.values import Secret
from openegress.worker import key_service
from openegress.worker.key_service import KeyServiceAddress, KeyServices
from testkit.key_server import KeyServer
from tests.unit.test_worker_metrics import plan as some_plan

API_KEY, API_SECRET = "devkey", "a-secret-of-at-least-32-characters"
ANN = KeyQuestion(("ann",))
HIDDEN = "the hidden passphrase"


def plan(room: str) -> Plan:
    return msgspec.structs.replace(some_plan(), room_name=room, room_id="RM_1", egress_id="EG_1")


class World:
    def __init__(self, server: KeyServer) -> None:
        self.server = server
        self.counted: list[str] = []
        self.services = self.at(server.url)

    def at(self, url: str, **more: Any) -> KeyServices:
        address = KeyServiceAddress(("*",), url, API_KEY, **({"timeout_s": 1.0} | more))
        return KeyServices([address], {API_KEY: Secret(API_SECRET)}, self.counted.append)

    async def failure(self, services: KeyServices | None = None) -> str:
        with pytest.raises(EgressError) as raised:
            await (services or self.services).ask(plan("board"), ANN)
        assert HIDDEN not in raised.value.text
        return raised.value.text


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    async with KeyServer() as server:
        server.trust(API_KEY, API_SECRET)
        server.keys["board"] = [{"key": HIDDEN}]
        world = World(server)
        yield world
        await world.services.close()


async def test_livekits_own_receiver_verifies_what_is_asked(world: World) -> None:
    answer = await world.services.ask(plan("board"), KeyQuestion(("ann", "ben"), 2))
    assert answer == KeyAnswer((RoomKey(0, HIDDEN.encode()),))
    (asked,) = world.server.asked
    assert (asked["room"], asked["egressInfo"]["egressId"]) == ({"sid": "RM_1", "name": "board"}, "EG_1")
    assert (asked["identities"], asked["keyIndex"]) == (["ann", "ben"], 2)
    assert (world.counted, world.server.refused) == (["given"], [])


async def test_a_room_that_it_does_not_know_has_no_keys(world: World) -> None:
    assert await world.services.ask(plan("elsewhere"), ANN) == KeyAnswer()
    assert world.counted == ["none"]


async def test_who_asks_the_same_at_once_gets_one_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = await asyncio.gather(*(world.services.ask(plan("board"), ANN) for _ in range(20)))
    assert len(set(answers)) == 1 and len(world.server.asked) == 1
    await world.services.ask(plan("board"), KeyQuestion(("ann",), 1))
    await world.services.ask(plan("annual"), ANN)
    assert len(world.server.asked) == 3, "another question"
    monkeypatch.setattr(key_service, "CACHE_S", 0.0)
    await world.services.ask(plan("board"), ANN)
    assert len(world.server.asked) == 4, "nothing is kept for longer"


async def test_it_is_tried_again(world: World) -> None:
    statuses = iter([503, 429])

    def answer(_: object) -> web.StreamResponse | None:
        status = next(statuses, 0)
        return web.Response(status=status) if status else None

    world.server.answer = answer
    assert (await world.services.ask(plan("board"), ANN)).keys
    assert len(world.server.asked) == 3


@pytest.mark.parametrize(
    ("response", "why", "tries"),
    [
        (web.Response, "is not JSON", 1),
        (lambda: web.Response(text=HIDDEN), "is not JSON", 1),
        (lambda: web.json_response({"keys": [{"key": HIDDEN, "index": 99}]}), "keys[0].index is not", 1),
        (lambda: web.Response(body=bytes(MAX_ANSWER_BYTES + 1)), "is longer than 1048576 bytes", 1),
        (lambda: web.Response(status=403, text=HIDDEN), "it answers 403", 1),
        (lambda: web.Response(status=307, headers={"Location": "/keys"}), "it answers 307", 1),
        (lambda: web.Response(status=500, text=HIDDEN), "it answers 500", 3),
    ],
)
async def test_an_answer_that_is_none(
    world: World, response: Any, why: str, tries: int, capsys: pytest.CaptureFixture[str]
) -> None:
    world.server.answer = lambda _: response()
    text = await world.failure()
    assert f"the key service at http://127.0.0.1:{world.server.port}/" in text and why in text
    assert (len(world.server.asked), world.counted) == (tries, ["failed"])
    logged = capsys.readouterr().out
    assert why in logged and HIDDEN not in logged


async def test_another_secret_is_refused(world: World) -> None:
    world.server.trust(API_KEY, "another secret of at least 32 characters")
    assert "it answers 401" in await world.failure()


async def test_a_service_that_hangs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        hanging = world.at(url, timeout_s=0.2)
        assert "no answer within 0.2 s" in await world.failure(hanging)
        await hanging.close()
        monkeypatch.setattr(key_service, "TOTAL_TIMEOUT_S", 0.3)
        slow = world.at(url, timeout_s=5.0)
        assert "no answer within 0.3 s" in await world.failure(slow)
        await slow.close()


async def test_a_service_that_is_not_there(world: World) -> None:
    nowhere = world.at("http://127.0.0.1:1/")
    assert "Connect call failed" in await world.failure(nowhere)
    await nowhere.close()


async def test_keys_do_not_go_through_a_proxy_in_the_clear(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert (await world.services.ask(plan("board"), ANN)).keys
