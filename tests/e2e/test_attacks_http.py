"""Strangers at the API's port: what they send costs nothing, and nobody else waits or ends because of it."""

import asyncio
import gzip
import http.client
import resource
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil
import pytest
from livekit.protocol.egress import WebEgressRequest

from openegress.api import connections
from openegress.api.room_events import PATH as ROOM_EVENTS
from openegress.core.tokens import egress_token
from testkit.bystander import unharmed_recording
from testkit.health_watch import HealthWatch, idle_ms, keeps_nobody_waiting
from testkit.page_server import PageServer
from testkit.service import Service
from testkit.strangers import HALF_A_HEADER, START, Strangers

pytestmark = pytest.mark.quiet

MIB = 2**20


def resident_mib(service: Service) -> float:
    return float(psutil.Process(service.pid).memory_info().rss / MIB)


@pytest.mark.parametrize("path", [START, "/twirp/livekit.Egress/Nothing", ROOM_EVENTS])
async def test_nothing_of_a_stranger_is_unpacked_or_kept(tmp_path: Path, path: str) -> None:
    packed = gzip.compress(b'{"url":"' + b"a" * 1_000_000 + b'"}')
    rule = {"rooms": ["*"], "egress": {"room": {"file_outputs": [{"filepath": "{room_name}"}]}}}
    config = {"auto_start": [rule], "ws_url": "ws://127.0.0.1:9"}
    async with Service(tmp_path, config=config) as service, aiohttp.ClientSession() as http:
        await service.call("ListEgress")
        before_mib, usual_ms = resident_mib(service), await idle_ms(service.health_port)

        async def attack() -> None:
            for number in range(300):
                headers = {
                    "Content-Type": "application/json",
                    "Content-Encoding": "gzip",
                    "X-Livekit-Request-Id": f"a{number}",
                }
                async with http.post(service.url + path, data=packed, headers=headers) as answer:
                    assert answer.status == (404 if path.endswith("Nothing") else 401)

        await keeps_nobody_waiting(service.health_port, usual_ms, attack)
        assert resident_mib(service) - before_mib < 20
        assert len(service.log.splitlines()) < 50


@pytest.mark.parametrize("has_token", [False, True], ids=["a stranger", "a caller"])
async def test_bodies_that_unpack_to_gigabytes(tmp_path: Path, has_token: bool) -> None:
    bomb = gzip.compress(b"a" * (400 * MIB))
    async with Service(tmp_path) as service, aiohttp.ClientSession() as http:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        if has_token:
            headers["Authorization"] = f"Bearer {egress_token(service.api_key, service.api_secret)}"
        before_mib, usual_ms = resident_mib(service), await idle_ms(service.health_port)

        async def send() -> int:
            async with http.post(service.url + START, data=bomb, headers=headers) as answer:
                return answer.status

        async def attack() -> None:
            found = await asyncio.gather(*(send() for _ in range(16)))
            await asyncio.sleep(0.5)
            assert set(found) == {413 if has_token else 401}

        await keeps_nobody_waiting(service.health_port, usual_ms, attack)
        assert resident_mib(service) - before_mib < 40


LARGE = {
    "objects": (b'{"url":"http://a","file_outputs":[' + b",".join([b"{}"] * 85_000) + b"]}", "json"),
    "values": (
        b'{"url":"http://a","stream_outputs":[{"urls":[' + b",".join([b'""'] * 85_000) + b"]}]}",
        "json",
    ),
    "nested": (b'{"a":' * 40_000, "json"),
    "outputs": (
        WebEgressRequest(url="http://a", file_outputs=[{}] * 100_000).SerializeToString(),
        "protobuf",
    ),
    "images": (
        WebEgressRequest(url="http://a", image_outputs=[{}] * 100_000).SerializeToString(),
        "protobuf",
    ),
    "webhooks": (WebEgressRequest(url="http://a", webhooks=[{}] * 100_000).SerializeToString(), "protobuf"),
}


@pytest.mark.parametrize("kind", LARGE)
async def test_large_requests_of_a_caller_keep_nobody_waiting(tmp_path: Path, kind: str) -> None:
    body, coding = LARGE[kind]
    async with Service(tmp_path) as service, aiohttp.ClientSession() as http:
        headers = {
            "Content-Type": f"application/{coding}",
            "Authorization": f"Bearer {egress_token(service.api_key, service.api_secret)}",
        }

        async def send() -> int:
            async with http.post(service.url + START, data=body, headers=headers) as answer:
                return answer.status

        async def attack() -> None:
            for _ in range(10):
                assert set(await asyncio.gather(*(send() for _ in range(4)))) == {400}
                await asyncio.sleep(0.1)

        await keeps_nobody_waiting(service.health_port, await idle_ms(service.health_port), attack)


async def until(holds: Callable[[], bool], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            if holds():
                return
            await asyncio.sleep(0.2)


def _list(connection: http.client.HTTPConnection, service: Service) -> int:
    headers = {
        "Authorization": f"Bearer {egress_token(service.api_key, service.api_secret)}",
        "Content-Type": "application/json",
    }
    connection.request("POST", "/twirp/livekit.Egress/ListEgress", b"{}", headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


async def test_more_connections_than_descriptors(tmp_path: Path) -> None:
    """Half of them say nothing, the others half a header: a recording runs, callers and health are answered,
    the log stays short, and nobody holds for long.

    A connection that a caller keeps is not closed for strangers."""
    async with PageServer() as pages, Service(tmp_path) as service:
        await service.call("ListEgress")
        kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        kept.auto_open = 0
        kept.connect()
        assert await asyncio.to_thread(_list, kept, service) == 200
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (256, 256))
        async with unharmed_recording(service, pages):
            async with HealthWatch(service.port) as watch, Strangers(service.port) as strangers:
                await asyncio.gather(strangers.connect(200), strangers.connect(200, HALF_A_HEADER))
                try:
                    for _ in range(20):
                        assert (await service.call("ListEgress"))["items"]
                        await asyncio.sleep(0.1)
                    assert strangers.held <= 256 // connections.DESCRIPTOR_SHARE
                    assert await asyncio.to_thread(_list, kept, service) == 200
                    await until(lambda: not strangers.held, connections.IDLE_S + 5)
                finally:
                    kept.close()
            assert watch.seen.failures == 0
        assert (tmp_path / "log").stat().st_size < 20_000, service.log[-3000:]
