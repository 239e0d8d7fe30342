"""Clips through the bus, made by handlers in their cages: from disks and buckets, many at a time, killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    EncodedFileOutput,
    FileInfo,
    RoomCompositeEgressRequest,
)

from openegress.core import ipc, plan, storages
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.output import Opening
from openegress.output.file.recorder import FileRecorder
from openegress.proto.openegress_control_pb2 import ClipInfo, ClipRequest, CutRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.memory import MemoryBus
from openegress.psrpc.server import RPCServer
from openegress.psrpc.services import EgressInternal
from openegress.request.context import Context
from openegress.storage.uploader import Uploader
from openegress.store.leases import MemoryLeases
from openegress.worker.clips import MAX_CONCURRENT, MAX_WAITING, ClipService
from openegress.worker.paths import Paths
from openegress.worker.pool import Pool, Shape
from openegress.worker.supervisor import Supervisor
from testkit.encoded import Encoded, Spec
from testkit.probe import av_offset, counters
from testkit.servers import S3Server

FPS = 30


@dataclass
class Rig:
    service: ClipService
    client: RPCClient
    spool: Path
    info: EgressInfo
    paths: Paths

    async def clip(self, begin: str, end: str, name: str = "") -> ClipInfo:
        asked = ClipRequest(egress_id="EG_1", to=end, filepath=name)
        setattr(asked, "from", begin)
        return await self.client.call(EgressInternal.CLIP, CutRequest(asked=asked, egress=self.info))

    def check_clean(self) -> None:
        assert list(self.spool.glob("CL_*")) == []


async def recorded(storage: storages.StoragePlan, spool: Path) -> EgressInfo:
    output = plan.FileOutput("film.mp4", Container.MP4, storage)
    events: list[object] = []
    recorder = FileRecorder(output, 0, emit=events.append, uploader=Uploader(storage))
    encoded = Encoded(Spec(seconds=8, sample_rate=44_100))
    recorder.open(Opening(encoded.formats, 1_700_000_000_000_000_000, str(spool / "EG_1"), {}))
    for packet in encoded.packets():
        recorder.write(packet)
    await recorder.finish(0)
    told = recorder.records().files[0]
    return EgressInfo(
        egress_id="EG_1",
        status=EgressStatus.EGRESS_COMPLETE,
        room_composite=RoomCompositeEgressRequest(
            room_name="r", file_outputs=[EncodedFileOutput(filepath=told.filename)]
        ),
        file_results=[FileInfo(filename=told.filename, location=told.location, started_at=1_700_000_000)],
    )


@asynccontextmanager
async def rig_of(storage: storages.StoragePlan, tmp_path: Path) -> AsyncIterator[Rig]:
    spool = tmp_path / "spool"
    (spool / "EG_1").mkdir(parents=True)
    info = await recorded(storage, spool)
    pool = Pool(ipc.HandlerSettings(str(spool)), browsers=0, shape=Shape(), on_log=lambda record: None)
    await pool.start()
    bus = MemoryBus()
    server, client = RPCServer(bus), RPCClient(bus)
    supervisor = Supervisor(pool, lambda job: None)
    context = Context(now_ns=0, storage=storage)
    paths = Paths(MemoryLeases(), "NE_1", lambda egress_id: False)
    service = ClipService(server, supervisor, pool.spawn, lambda: context, "", spool, paths)
    await service.open()
    try:
        yield Rig(service, client, spool, info, paths)
    finally:
        await service.close()
        await client.close()
        await server.close()
        await pool.close()
        await bus.close()


def local(tmp_path: Path) -> storages.StoragePlan:
    return storages.StoragePlan(storages.LocalStorage(str(tmp_path / "out")), retry_for_s=0)


def check(path: Path, begin_s: float, end_s: float) -> None:
    assert counters(path).values == list(range(round(begin_s * FPS), round(end_s * FPS)))
    offset = av_offset(path)
    assert max(abs(offset.min_ms), abs(offset.max_ms)) < 3


async def test_from_a_disk(tmp_path: Path) -> None:
    async with rig_of(local(tmp_path), tmp_path) as rig:
        made = await rig.clip("1.5", "6.2")
        assert (made.clip.duration, made.to) == (4_700_000_000, 6_200_000_000)
        assert made.clip.started_at == 1_700_000_000 + 1_500_000_000
        check(Path(made.clip.location), 1.5, 6.2)
        with pytest.raises(EgressError) as refused:
            await rig.clip("1.5", "9")
        assert refused.value.code is Code.INVALID_ARGUMENT
        assert "beyond the end" in refused.value.message
        rig.check_clean()
        Path(rig.info.file_results[0].location).unlink()
        with pytest.raises(EgressError) as refused:
            await rig.clip("1.5", "6.2")
        assert "no connected worker has the stored files" in refused.value.message


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server(enforce=True) as server:
        server.create_bucket("kept")
        yield server


async def test_from_a_bucket(s3: S3Server, tmp_path: Path) -> None:
    backend = storages.S3Storage("kept", s3.access_key, s3.secret, region=s3.region, endpoint=s3.url)
    storage = storages.StoragePlan(backend, prefix="all", retry_for_s=0)
    async with rig_of(storage, tmp_path) as rig:
        made = await rig.clip("1.5", "6.2", "clips/{from}")
        rig.check_clean()
    assert made.clip.filename == "clips/00-00-01.500.mp4"
    body = await asyncio.to_thread(s3.client().get_object, Bucket="kept", Key=f"all/{made.clip.filename}")
    (tmp_path / "clip.mp4").write_bytes(body["Body"].read())
    check(tmp_path / "clip.mp4", 1.5, 6.2)


async def test_one_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    async with rig_of(local(tmp_path), tmp_path) as rig:
        spawn, spawned = rig.service._spawn, asyncio.Event()

        async def watched():  # type: ignore[no-untyped-def]
            handler = await spawn()
            os.kill(handler.pid, signal.SIGKILL)
            spawned.set()
            return handler

        rig.service._spawn = watched
        with pytest.raises(EgressError) as failed:
            await rig.clip("1.5", "6.2")
        assert spawned.is_set()
        assert (failed.value.code, "ended" in failed.value.message) == (Code.INTERNAL, True)
        rig.check_clean()
        rig.service._spawn = spawn
        check(Path((await rig.clip("1.5", "6.2")).clip.location), 1.5, 6.2)


async def test_many_at_once(tmp_path: Path) -> None:
    """They wait for each other, up to a number, and those beyond are refused."""
    async with rig_of(local(tmp_path), tmp_path) as rig:
        most = MAX_CONCURRENT + MAX_WAITING
        calls = [rig.clip("1.5", "2.5", f"clip-{n}") for n in range(most + 2)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        refused = [each for each in done if isinstance(each, EgressError)]
        assert [each.code for each in refused] == [Code.RESOURCE_EXHAUSTED] * 2
        assert len([each for each in done if isinstance(each, ClipInfo)]) == most
        rig.check_clean()


async def test_two_never_write_one_path(tmp_path: Path) -> None:
    async with rig_of(local(tmp_path), tmp_path) as rig:
        calls = [rig.clip("1.5", "2.5", "same"), rig.clip("3.5", "4.5", "same"), rig.clip("3.5", "4.5")]
        done = await asyncio.gather(*calls, return_exceptions=True)
        refused = [each for each in done if isinstance(each, EgressError)]
        assert [each.code for each in refused] == [Code.ALREADY_EXISTS]
        storage = local(tmp_path)
        running = plan.Plan(
            "EG_2",
            plan.WebSource("http://e"),
            (plan.FileOutput("other.mp4", Container.MP4, storage),),
            None,
            None,
        )
        assert await rig.paths.claim(running) is None
        with pytest.raises(EgressError, match="written by a recording"):
            await rig.clip("1.5", "2.5", "other")
        rig.check_clean()
        await rig.paths.release("EG_2")
        assert (await rig.clip("1.5", "2.5", "other")).clip.filename == "other.mp4"
        assert rig.paths.held() == frozenset()
