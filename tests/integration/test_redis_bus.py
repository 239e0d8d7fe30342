"""What only the Redis bus has to stand: a server that goes away, hangs, asks for a password or for TLS."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from livekit.protocol.egress import EgressInfo, StopEgressRequest

from openegress.config.settings import Redis as RedisSettings
from openegress.config.settings import RedisTLS
from openegress.core.errors import Code, EgressError
from openegress.core.values import Secret
from openegress.psrpc import Subscription
from openegress.psrpc import redis as redis_bus
from openegress.psrpc.client import RPCClient
from openegress.psrpc.connection import split_address
from openegress.psrpc.redis import RedisBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import EgressHandler
from testkit.certificates import make_certificate
from testkit.livekit_server import free_port
from testkit.redis_server import RedisServer

STOP = EgressHandler.STOP_EGRESS


async def next_of(subscription: Subscription) -> bytes:
    async with asyncio.timeout(10):
        async for payload in subscription:
            return payload
    raise AssertionError("the subscription ended")


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


@pytest.fixture
async def bus(redis: RedisServer) -> AsyncIterator[RedisBus]:
    bus = RedisBus(RedisSettings(address=redis.address))
    yield bus
    await bus.close()


async def works(settings: RedisSettings) -> None:
    """A call from one bus to another arrives and returns."""

    async def stop(request: StopEgressRequest) -> EgressInfo:
        return EgressInfo(egress_id=request.egress_id)

    ours, theirs = RedisBus(settings), RedisBus(settings)
    server, client = RPCServer(ours), RPCClient(theirs)
    await server.register(STOP, stop)
    assert (await client.call(STOP, StopEgressRequest(egress_id="EG_1"))).egress_id == "EG_1"
    await client.close()
    await server.close()
    await ours.close()
    await theirs.close()


async def test_a_server_that_restarts_finds_its_subscribers_again(redis: RedisServer, bus: RedisBus) -> None:
    async def stop(request: StopEgressRequest) -> EgressInfo:
        return EgressInfo(egress_id=request.egress_id)

    server, client = RPCServer(bus), RPCClient(bus)
    await server.register(STOP, stop, topic="EG_1")
    fresh = RPCClient(bus)
    await client.call(STOP, StopEgressRequest(), topic="EG_1")
    await redis.kill()
    with pytest.raises(EgressError, match=r"redis at 127\.0\.0\.1") as caught:
        await client.call(STOP, StopEgressRequest(), topic="EG_1")
    assert caught.value.code is Code.UNAVAILABLE
    with pytest.raises(EgressError, match="the message bus cannot be reached") as caught:
        await fresh.call(STOP, StopEgressRequest(), topic="EG_1", timeout_s=0.3)
    assert caught.value.code is Code.UNAVAILABLE
    await redis.start()
    late = await bus.subscribe("late")  # returns only when the connection is back, with all of its channels
    answer = await client.call(STOP, StopEgressRequest(egress_id="EG_1"), topic="EG_1")
    assert answer.egress_id == "EG_1"
    await bus.publish("late", b"x")
    assert await next_of(late) == b"x"
    await client.close()
    await server.close()


async def test_a_publish_may_wait_for_redis(redis: RedisServer, bus: RedisBus) -> None:
    await redis.kill()
    with pytest.raises(EgressError):
        await bus.publish("c", b"x", retry_for_s=0.3)
    publishing = asyncio.create_task(bus.publish("c", b"x", retry_for_s=30))
    await redis.start()
    async with asyncio.timeout(10):
        await publishing


async def test_a_bus_opens_before_its_redis(redis: RedisServer, bus: RedisBus) -> None:
    await redis.kill()
    subscribing = asyncio.create_task(bus.subscribe("c"))
    await asyncio.wait([subscribing], timeout=0.3)
    assert not subscribing.done()
    await redis.start()
    async with asyncio.timeout(10):
        subscription = await subscribing
    await bus.publish("c", b"x")
    assert await next_of(subscription) == b"x"


async def test_a_connection_that_hangs_is_made_anew(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "QUIET_S", 0.2)
    bus = RedisBus(RedisSettings(address=redis.address, dial_timeout=500, read_timeout=500))
    await bus.ping()
    subscription = await bus.subscribe("c")
    redis.pause()
    with pytest.raises(EgressError):
        await bus.ping()
    joining = asyncio.create_task(bus.subscribe("d"))
    await asyncio.wait([joining], timeout=1.0)
    assert not joining.done()
    redis.resume()
    async with asyncio.timeout(10):
        await joining
    await bus.publish("c", b"x")
    assert await next_of(subscription) == b"x"
    await bus.close()


async def test_a_queue_respects_a_lock_that_a_stock_worker_took(redis: RedisServer, bus: RedisBus) -> None:
    queue = await bus.subscribe_queue("q")
    taken = base64.b64encode(hashlib.sha256(b"theirs").digest()).decode()
    assert "OK" in await redis.command("SET", taken, "1", "NX", "EX", "5")
    await bus.publish("q", b"theirs")
    await bus.publish("q", b"ours")
    assert await next_of(queue) == b"ours"
    ours = base64.b64encode(hashlib.sha256(b"ours").digest()).decode()
    assert await redis.command("TTL", ours) in (":5\r\n", ":4\r\n")


async def test_a_user_with_a_password() -> None:
    config = ("user default off", "user egress on >se%20cret~ ~* &* +@all")
    async with RedisServer(*config) as redis:
        await works(
            RedisSettings(address=redis.address, username="egress", password=Secret("se%20cret~"), db=3)
        )
        wrong = RedisBus(RedisSettings(address=redis.address, username="egress", password=Secret("hunter2")))
        with pytest.raises(EgressError, match=r"WRONGPASS|invalid username-password") as caught:
            await wrong.ping()
        assert "hunter2" not in caught.value.message
        await wrong.close()


async def test_tls(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    plain = RedisServer()
    config = (
        "port 0",
        f"tls-port {plain.port}",
        f"tls-cert-file {cert}",
        f"tls-key-file {key}",
        f"tls-ca-cert-file {cert}",
    )
    redis = RedisServer(*config)
    redis.port = plain.port
    async with redis:
        ours: dict[str, Any] = {"client_cert_file": str(cert), "client_key_file": str(key)}
        verified = RedisTLS(enabled=True, ca_cert_file=str(cert), **ours)
        await works(RedisSettings(address=f"localhost:{redis.port}", tls=verified))
        await works(RedisSettings(address=redis.address, tls=RedisTLS(enabled=True, insecure=True, **ours)))
        distrusting = RedisBus(RedisSettings(address=redis.address, tls=RedisTLS(enabled=True, **ours)))
        with pytest.raises(EgressError, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
            await distrusting.ping()
        await distrusting.close()


async def test_the_name_in_the_certificate_may_be_another_than_the_address(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    files = (
        f"tls-cert-file {cert}",
        f"tls-key-file {key}",
        f"tls-ca-cert-file {cert}",
        "tls-auth-clients no",
    )
    inner = ("tls-replication yes", "tls-cluster yes")
    tls_ports = [free_port() for _ in range(3)]
    alone, node = (
        RedisServer(f"tls-port {tls_ports[0]}", *files),
        RedisServer(f"tls-port {tls_ports[1]}", *files, *inner, cluster=True),
    )
    sentinel = RedisServer(
        f"tls-port {tls_ports[2]}",
        *files,
        "tls-replication yes",
        f"sentinel monitor main 127.0.0.1 {tls_ports[0]} 1",
        sentinel=True,
    )
    async with alone, node, sentinel:
        at_alone, at_node, at_sentinel = (f"127.0.0.1:{port}" for port in tls_ports)
        for server in (
            RedisSettings(address=at_alone),
            RedisSettings(cluster_addresses=(at_node,)),
            RedisSettings(sentinel_addresses=(at_sentinel,), sentinel_master_name="main"),
        ):
            tls = RedisTLS(enabled=True, ca_cert_file=str(cert), server_name="localhost")
            await works(msgspec.structs.replace(server, tls=tls))
            other = msgspec.structs.replace(tls, server_name="other.example")
            distrusting = RedisBus(msgspec.structs.replace(server, tls=other, dial_timeout=500))
            with pytest.raises(EgressError, match=r"other\.example|No master found"):
                await distrusting.ping()
            await distrusting.close()


async def test_sentinels(redis: RedisServer) -> None:
    async with RedisServer(f"sentinel monitor main 127.0.0.1 {redis.port} 1", sentinel=True) as sentinel:
        await works(RedisSettings(sentinel_addresses=(sentinel.address,), sentinel_master_name="main", db=1))
        lost = RedisBus(RedisSettings(sentinel_addresses=(sentinel.address,), sentinel_master_name="other"))
        with pytest.raises(EgressError, match="No master found for 'other'"):
            await lost.ping()
        await lost.close()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:6380", ("localhost", 6380)),
        ("localhost", ("localhost", 6379)),
        ("[::1]:6380", ("::1", 6380)),
        ("[::1]", ("::1", 6379)),
        ("::1", ("::1", 6379)),
    ],
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected
