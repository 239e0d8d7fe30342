"""Strangers at the API's port: what they send costs nothing, and nobody else waits or ends because of it."""

import asyncio
import contextlib
import gzip
import http.client
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import psutil
import pytest
from livekit.protocol.egress import WebEgressRequest

from openegress.api import connections
from openegress.core.tokens import egress_token
from testkit.health_watch import HealthWatch
from testkit.page_server import PageServer
from testkit.probe import counters, probe
from testkit.service import Service, location

pytestmark = pytest.mark.quiet

START = "/twirp/livekit.Egress/StartWebEgress"
MIB = 2**20
WITHIN_MS = 100.0
"""By which nobody's answer may be later than this machine makes it by itself."""


TRIES = 3


async def idle_ms(service: Service) -> float:
    """How late answers are while nobody attacks."""
    async with HealthWatch(service.health_port) as watch:
        await asyncio.sleep(2)
    return watch.seen.worst_ms


async def keeps_nobody_waiting(port: int, usual_ms: float, attack: Callable[[], Awaitable[None]]) -> None:
    """A machine that stops for a moment makes one attack of three look bad; a service that does, each."""
    worst_ms = []
    for _ in range(TRIES):
        async with HealthWatch(port) as watch:
            await attack()
        assert watch.seen.failures == 0 and watch.seen.answers > 5, watch.seen
        worst_ms.append(watch.seen.worst_ms)
        if worst_ms[-1] < usual_ms + WITHIN_MS:
            return
    raise AssertionError(f"{worst_ms} ms, and {usual_ms} while nobody attacks")


def resident_mib(service: Service) -> float:
    return float(psutil.Process(service.pid).memory_info().rss / MIB)


@contextlib.asynccontextmanager
async def unharmed_recording(service: Service, pages: PageServer) -> AsyncIterator[None]:
    """A recording that runs meanwhile, and is whole: every picture in order, no hole in its sound."""
    request = {
        "url": pages.url("pattern.html?tone=1&busy=1"),
        "file_outputs": [{"filepath": "bystander.mp4"}],
    }
    egress_id = (await service.call("StartWebEgress", **request))["egress_id"]
    await service.active(egress_id)
    yield
    info = await service.finish(egress_id)
    assert info["status"] == "EGRESS_COMPLETE", info["error"]
    facts = probe(location(info))
    assert facts.audio is not None and facts.audio.contiguous
    assert counters(location(info)).in_order


@pytest.mark.parametrize("method", ["StartWebEgress", "ListEgress", "Nothing"])
async def test_nothing_of_a_stranger_is_unpacked_or_kept(tmp_path: Path, method: str) -> None:
    packed = gzip.compress(b'{"url":"' + b"a" * 1_000_000 + b'"}')
    async with Service(tmp_path) as service, aiohttp.ClientSession() as http:
        await service.call("ListEgress")
        before_mib, usual_ms = resident_mib(service), await idle_ms(service)

        async def attack() -> None:
            for number in range(300):
                headers = {
                    "Content-Type": "application/json",
                    "Content-Encoding": "gzip",
                    "X-Livekit-Request-Id": f"a{number}",
                }
                url = f"{service.url}/twirp/livekit.Egress/{method}"
                async with http.post(url, data=packed, headers=headers) as answer:
                    assert answer.status == (404 if method == "Nothing" else 401)

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
        before_mib, usual_ms = resident_mib(service), await idle_ms(service)

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

        await keeps_nobody_waiting(service.health_port, await idle_ms(service), attack)


async def until(holds: Callable[[], bool], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            if holds():
                return
            await asyncio.sleep(0.2)


def _connections(port: int, count: int, first: bytes) -> list[socket.socket]:
    found = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), timeout=5)
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.send(first)
        found.append(connection)
    return found


def _held(found: list[socket.socket]) -> int:
    """How many the server has not closed."""
    held = 0
    for connection in found:
        try:
            held += connection.recv(1024) != b""
        except BlockingIOError:
            held += 1
        except OSError:
            pass
    return held


def _list(connection: http.client.HTTPConnection, service: Service) -> int:
    headers = {
        "Authorization": f"Bearer {egress_token(service.api_key, service.api_secret)}",
        "Content-Type": "application/json",
    }
    connection.request("POST", "/twirp/livekit.Egress/ListEgress", b"{}", headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.parametrize(
    "first", [b"", b"POST /twirp/x HTTP/1.1\r\nHost: x\r\nA: "], ids=["idle", "half a header"]
)
async def test_more_connections_than_descriptors(tmp_path: Path, first: bytes) -> None:
    """A recording runs, callers and health are answered, the log stays short, and nobody holds for long.

    A connection that a caller keeps is not closed for strangers."""
    async with PageServer() as pages, Service(tmp_path) as service:
        await service.call("ListEgress")
        kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        kept.auto_open = 0
        kept.connect()
        assert await asyncio.to_thread(_list, kept, service) == 200
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (256, 256))
        async with unharmed_recording(service, pages):
            async with HealthWatch(service.port) as watch:
                found = await asyncio.to_thread(_connections, service.port, 400, first)
                try:
                    for _ in range(20):
                        assert (await service.call("ListEgress"))["items"]
                        await asyncio.sleep(0.1)
                    assert _held(found) <= 256 // connections.SHARE
                    assert await asyncio.to_thread(_list, kept, service) == 200
                    await until(lambda: not _held(found), connections.IDLE_S + 5)
                finally:
                    kept.close()
                    for connection in found:
                        connection.close()
            assert watch.seen.failures == 0
        assert (tmp_path / "log").stat().st_size < 20_000, service.log[-3000:]


async def test_two_thousand_idle_and_two_hundred_hostile_connections(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    bomb = gzip.compress(b"a" * (100 * MIB))
    hostile = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (
        *(START.encode(), len(bomb), bomb[:50_000]),
    )
    try:
        async with PageServer() as pages, Service(tmp_path) as service, unharmed_recording(service, pages):
            usual_ms = await idle_ms(service)
            found = await asyncio.to_thread(_connections, service.port, 2000, b"")

            async def attack() -> None:
                found.extend(await asyncio.to_thread(_connections, service.port, 200, hostile))
                for _ in range(20):
                    await service.call("ListEgress")
                    await asyncio.sleep(0.1)

            try:
                await keeps_nobody_waiting(service.port, usual_ms, attack)
            finally:
                for connection in found:
                    connection.close()
            assert resident_mib(service) < 400
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
