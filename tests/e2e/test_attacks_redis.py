"""Others who can write to Redis: they stop no recording, delete nothing, and list and restart go on."""

import asyncio
import os
from pathlib import Path

import pytest
import redis.asyncio
from livekit.protocol.egress import EncodedFileOutput, WebEgressRequest

from openegress.config.settings import Redis
from openegress.core.errors import EgressError
from openegress.proto import egress_rpc_pb2 as rpc
from openegress.proto import psrpc_pb2 as psrpc
from openegress.psrpc.client import RPCClient
from openegress.psrpc.envelope import seal
from openegress.psrpc.redis import RedisBus
from openegress.psrpc.services import EgressInternal
from openegress.store import redis_keys
from testkit.page_server import PageServer
from testkit.probe import counters, probe
from testkit.redis_server import RedisServer
from testkit.service import Refused, Service, location

pytestmark = pytest.mark.quiet

MIB = 2**20
FOREVER_NS = 2**63 - 1


def _garbage() -> list[bytes]:
    return [
        b"",
        b"\xff" * 100,
        os.urandom(3000),
        b"A" * (16 * MIB),
        seal(psrpc.Request(request_id="x", expiry=FOREVER_NS, raw_request=b"\xff\xff", client_id="C")),
        seal(psrpc.Request(request_id="y" * 100_000, expiry=FOREVER_NS, client_id="\x00|*")),
        seal(psrpc.ClaimResponse(request_id="z", server_id="q")),
    ]


async def test_a_recording_goes_on_whatever_redis_holds(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("precious")
    async with RedisServer() as server, PageServer() as pages:
        config = {"redis": {"address": server.address}, "deny_networks": []}
        async with (
            Service(tmp_path / "serve", config=config) as service,
            Service(tmp_path / "worker", config=config, command="worker") as worker,
        ):
            raw = redis.asyncio.Redis(port=server.port)
            request = {
                "url": pages.url("pattern.html?tone=1&busy=1"),
                "file_outputs": [{"filepath": "a.mp4"}],
            }
            egress_id = (await service.call("StartWebEgress", **request))["egress_id"]
            await service.active(egress_id)

            for channel in await raw.pubsub_channels():
                for payload in _garbage():
                    await raw.publish(channel, payload)
            await _odd_ids(server)
            await raw.hset(redis_keys.RECORDS, mapping={"EG_bad": b"\xff\xff", "../x": b""})
            await raw.sadd(redis_keys.ACTIVE, "EG_bad", "../x")
            await raw.incr(redis_keys.REVISION)
            await raw.hset(redis_keys.DELIVERIES, "99", b"junk")
            await raw.rpush(redis_keys.LANE + "x y", 99)
            await raw.zadd(redis_keys.LANES, {"x y": 0})

            assert [item["egress_id"] for item in (await service.call("ListEgress"))["items"]] == [egress_id]
            with pytest.raises(Refused, match="404"):
                await service.call("StopEgress", egress_id="../x")
            await service.stop()
            await raw.hset(redis_keys.RECORDS, "EG_worse", b"\xff\xff")
            await service.start()
            assert [item["egress_id"] for item in (await service.call("ListEgress"))["items"]] == [egress_id]

            info = await service.finish(egress_id)
            assert info["status"] == "EGRESS_COMPLETE", info["error"]
            facts = probe(location(info))
            assert facts.audio is not None and facts.audio.contiguous
            assert counters(location(info)).in_order
            assert (victim / "precious").read_text() == "precious"
            assert "Traceback" not in service.log + worker.log
            assert len(service.log) + len(worker.log) < 60_000
            await raw.aclose()


async def _odd_ids(server: RedisServer) -> None:
    bus = RedisBus(Redis(address=server.address))
    client = RPCClient(bus)

    async def start(egress_id: str) -> str:
        web = WebEgressRequest(url="http://127.0.0.1:9/", file_outputs=[EncodedFileOutput(filepath="x.mp4")])
        with pytest.raises(EgressError) as refused:
            await client.call(
                EgressInternal.START_EGRESS, rpc.StartEgressRequest(egress_id=egress_id, web=web)
            )
        return refused.value.message

    ids = ["../../../victim", "/etc", "EG_" + "a" * 300, "EG_\x00x", "EG_a\nb", ""]
    told = await asyncio.gather(*(start(egress_id) for egress_id in ids))
    assert all("egressID" in message for message in told), told
    await client.close()
    await bus.close()
