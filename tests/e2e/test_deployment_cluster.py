"""A cluster of our own: `serve` and `worker` on one Redis, records and webhooks ours."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher
from testkit.probe import probe
from testkit.redis_server import RedisServer
from testkit.servers import Versity
from testkit.service import Refused, Service, location
from testkit.webhook_receiver import VerifiedWebhooks

RECORDED_S = 3.0
MAY_BE_LOST_S = 2.0
LOST_S = 60.0
HEADERS_BYTES = 1024
"""More than an OGG file without sound."""


@dataclass(frozen=True, slots=True)
class Cluster:
    serve: Service
    worker: Service
    hooks: VerifiedWebhooks
    alice: Publisher

    async def start(self, **request: object) -> str:
        info = await self.serve.call(
            "StartTrackEgress",
            room_name=self.alice.room_name,
            track_id=self.alice.sid("microphone"),
            file={"filepath": "track"},
            **request,
        )
        egress_id = str(info["egress_id"])
        await self.serve.active(egress_id)
        await asyncio.sleep(RECORDED_S)
        return egress_id


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        redis, hooks = await enter(RedisServer()), await enter(VerifiedWebhooks())
        livekit = await enter(LivekitServer())  # it knows nothing of the Redis, as LiveKit Cloud does not
        hooks.trust(livekit.api_key, livekit.api_secret)
        config = {"redis": {"address": redis.address}}
        served = config | {"webhook": {"urls": [hooks.url], "api_key": livekit.api_key}}
        serve = await enter(Service(tmp_path / "serve", livekit, served))
        worker = await enter(Service(tmp_path / "worker", livekit, config, "worker"))
        alice = await enter(Publisher(livekit, "r", "alice", None, AudioSpec()))
        yield Cluster(serve, worker, hooks, alice)


async def written(folder: Path) -> None:
    """Sound lies on the disk: a track's first seconds wait in memory for a sender report, six at most."""
    async with asyncio.timeout(20):
        while not any(file.stat().st_size > HEADERS_BYTES for file in folder.rglob("recording.*")):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_recording_from_start_to_webhook(cluster: Cluster) -> None:
    """It is marked and paused meanwhile, and ended by an option: all over Redis."""
    egress_id = await cluster.start()
    (listed,) = (await cluster.serve.call("ListEgress", active=True))["items"]
    assert listed["egress_id"] == egress_id
    assert cluster.worker.handler_pid()
    await cluster.serve.control("AddMarker", egress_id, name="Three", ago="1s")
    assert (await cluster.serve.control("PauseEgress", egress_id))["details"] == "Paused"
    assert (await cluster.serve.control("ResumeEgress", egress_id))["details"] == ""
    with pytest.raises(Refused, match="changing leave_out of a running egress"):
        await cluster.serve.control("SetOptions", egress_id, options={"leave_out": "bob"})
    with pytest.raises(Refused, match="tracks are stored as they come"):
        await cluster.serve.control("SetOptions", egress_id, options={"text": "x"})
    await cluster.serve.control("SetOptions", egress_id, options={"max_duration": "1s"})
    info = await cluster.serve.wait(egress_id)
    assert (info["status"], info["error_code"]) == ("EGRESS_LIMIT_REACHED", 413)
    manifest = json.loads(Path(info["manifest_location"]).read_text())
    (marker,) = manifest["markers"]
    assert marker["name"] == "Three" and len(manifest["pauses"]) == 1
    assert marker["position"] / 1e9 == pytest.approx(RECORDED_S - 1, abs=1)
    audio = probe(location(info)).audio
    assert audio is not None and audio.duration_s > RECORDED_S * 0.8
    await cluster.hooks.until(egress_id, "egress_ended")
    names = cluster.hooks.of(egress_id)
    assert names[0] == "egress_started" and names[-1] == "egress_ended"
    assert set(names[1:-1]) == {"egress_updated"}
    statuses = [event.egress_info.status for event in cluster.hooks.events]
    assert statuses == sorted(statuses)
    assert cluster.hooks.refused == []


async def test_a_killed_worker_returns_and_its_record_learns_of_the_file(
    cluster: Cluster, tmp_path: Path
) -> None:
    egress_id = await cluster.start()
    await written(tmp_path / "worker")
    handler = psutil.Process(cluster.worker.handler_pid())
    os.kill(handler.pid, signal.SIGKILL)
    await cluster.worker.kill()
    info = await cluster.serve.wait(egress_id, timeout_s=LOST_S)
    assert info["status"] == "EGRESS_FAILED" and "has not been heard of for" in info["error"]
    assert not info["file_results"][0]["location"]
    await cluster.hooks.until(egress_id, "egress_ended")
    before = len(cluster.hooks.of(egress_id))

    await cluster.worker.start()
    async with asyncio.timeout(60):
        while not info["file_results"][0]["location"]:
            await asyncio.sleep(0.1)
            info = await cluster.serve.info(egress_id)
    assert info["status"] == "EGRESS_FAILED" and "has not been heard of for" in info["error"]
    audio = probe(location(info)).audio
    assert audio is not None and audio.duration_s > RECORDED_S - MAY_BE_LOST_S
    await asyncio.sleep(1.0)
    # What is learnt after the end is an update, never a second end.
    assert cluster.hooks.of(egress_id)[before:] == ["egress_updated"]


async def test_without_a_worker_a_start_says_so(cluster: Cluster) -> None:
    await cluster.worker.stop()
    with pytest.raises(Refused, match="no egress worker is connected") as refused:
        await cluster.start()
    assert refused.value.code == "unavailable"
    assert (await cluster.serve.call("ListEgress"))["items"] == []


async def test_two_workers_never_write_one_object_of_a_bucket(tmp_path: Path) -> None:
    """A name that the request gives, and one that only the room can tell, each asked for twice; the bucket is
    another maker's S3 server, the claims go over Redis."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        redis, livekit = await enter(RedisServer()), await enter(LivekitServer())
        s3 = stack.enter_context(Versity())
        await asyncio.to_thread(s3.create_bucket, "calls")
        bucket = {
            "bucket": "calls",
            "endpoint": s3.url,
            "region": s3.region,
            "access_key": s3.access_key,
            "secret": s3.secret,
            "force_path_style": True,
        }
        config = {"redis": {"address": redis.address}, "same_path": "suffix", "storage": {"s3": bucket}}
        serve = await enter(Service(tmp_path / "serve", livekit, config))
        alice = await enter(Publisher(livekit, "r", "alice", None, AudioSpec()))

        async def start(filepath: str) -> str:
            asked = {"room_name": "r", "track_id": alice.sid("microphone"), "file": {"filepath": filepath}}
            egress_id = str((await serve.call("StartTrackEgress", **asked))["egress_id"])
            await serve.active(egress_id)
            return egress_id

        paths = ("calls/{room_name}.ogg", "calls/{publisher_identity}")
        first = await enter(Service(tmp_path / "first", livekit, config, "worker"))
        begun = [await start(path) for path in paths]
        os.kill(first.pid, signal.SIGTERM)  # it takes nothing more, and goes on with what it has
        await enter(Service(tmp_path / "second", livekit, config, "worker"))
        begun += [await start(path) for path in paths]
        await asyncio.sleep(RECORDED_S)
        ended = [await serve.finish(egress_id) for egress_id in begun]

        assert [(info["status"], info["error"]) for info in ended] == [("EGRESS_COMPLETE", "")] * 4
        names = [info["file_results"][0]["filename"] for info in ended]
        assert names == [
            "calls/r.ogg",
            "calls/alice.ogg",
            f"calls/r-{begun[2]}.ogg",
            f"calls/alice-{begun[3]}.ogg",
        ]
        for name, info in zip(names, ended, strict=True):
            assert info["file_results"][0]["location"] == f"{s3.url}/calls/{name}"
            stored = tmp_path / "stored.ogg"
            found = await asyncio.to_thread(s3.client().get_object, Bucket="calls", Key=name)
            stored.write_bytes(found["Body"].read())
            assert stored.stat().st_size == int(info["file_results"][0]["size"])
            audio = probe(stored).audio
            assert audio is not None and audio.duration_s > RECORDED_S * 0.8
