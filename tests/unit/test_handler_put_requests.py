"""A handler's side of files for local storages: it asks, waits, and learns that its worker is gone."""

import asyncio
from pathlib import Path

import pytest

from openegress.core import ipc
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.storages import LocalStorage, S3Storage, StoragePlan
from openegress.core.tasks import cancelled
from openegress.handler.put_requests import PutRequests
from openegress.handler.uploaders import Uploaders


class World:
    def __init__(self, folder: Path) -> None:
        self.own, self.out = folder / "spool" / "EG_1", folder / "out"
        self.own.mkdir(parents=True)
        self.out.mkdir()
        self.asked: asyncio.Queue[ipc.PutFile] = asyncio.Queue()
        self.puts = PutRequests(self.own, self.asked.put_nowait)
        self.uploaders = Uploaders(lambda event: None, self.puts.connect)

    def spooled(self, name: str = "file-0/recording.mp4") -> Path:
        path = self.own / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
        return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_the_worker_puts_a_file_in_its_place(world: World) -> None:
    local = world.spooled()
    uploader = world.uploaders.make(StoragePlan(LocalStorage(str(world.out)), prefix="p"))
    putting = asyncio.create_task(uploader.put(local, "a.mp4", "video/mp4", delete_local=True))
    asked = await world.asked.get()
    assert asked == ipc.PutFile(0, "file-0/recording.mp4", str(world.out), "p/a.mp4")
    assert local.exists() and not putting.done()
    (world.out / "p").mkdir()
    (world.out / "p/a.mp4").write_bytes(b"mine")
    world.puts.answer(ipc.FilePut(5))
    world.puts.answer(ipc.FilePut(asked.call))
    stored = await putting
    assert (stored.location, stored.size_bytes) == (str(world.out / "p/a.mp4"), 4)
    assert not local.exists()


async def test_a_refusal_is_the_workers(world: World) -> None:
    world.spooled()
    storage = await world.puts.connect(LocalStorage(str(world.out)))
    putting = asyncio.create_task(storage.put(world.own / "file-0/recording.mp4", "a.mp4", ""))
    asked = await world.asked.get()
    world.puts.answer(ipc.FilePut(asked.call, Code.RESOURCE_EXHAUSTED, "full", Fault.DESTINATION.value))
    with pytest.raises(EgressError, match="full") as raised:
        await putting
    refused = raised.value
    assert (refused.code, refused.fault) == (Code.RESOURCE_EXHAUSTED, Fault.DESTINATION)
    assert refused.phase is Phase.STORAGE_WRITE


async def test_without_its_worker_a_file_stays_and_goes_to_no_backup(world: World) -> None:
    backup = S3Storage("b", access_key="a", secret="s", endpoint="http://127.0.0.1:1")
    uploader = world.uploaders.make(StoragePlan(LocalStorage(str(world.out)), backup=backup))
    first, second = world.spooled("first"), world.spooled("second")
    putting = asyncio.create_task(uploader.put(first, "a.mp4", "video/mp4", delete_local=True))
    await world.asked.get()
    world.puts.lose_worker()
    with pytest.raises(EgressError, match="the service has ended"):
        await putting
    with pytest.raises(EgressError, match="the service has ended"):
        await uploader.put(second, "b.mp4", "video/mp4", delete_local=True)
    assert first.exists() and second.exists() and world.asked.empty()


async def test_it_asks_for_a_few_at_once(world: World) -> None:
    storage = await world.puts.connect(LocalStorage(str(world.out)))
    locals_ = [world.spooled(str(number)) for number in range(2 * ipc.MAX_PUTS)]
    putting = [asyncio.create_task(storage.put(each, each.name, "")) for each in locals_]
    for number in range(2 * ipc.MAX_PUTS):
        asked = await world.asked.get()
        assert asked.call == number
        if number >= ipc.MAX_PUTS - 1:
            assert world.asked.empty()
            world.puts.answer(ipc.FilePut(number - ipc.MAX_PUTS + 1))
    for number in range(ipc.MAX_PUTS + 1, 2 * ipc.MAX_PUTS):
        world.puts.answer(ipc.FilePut(number))
    await asyncio.gather(*putting)


async def test_what_it_no_longer_waits_for_counts_until_the_worker_is_done(world: World) -> None:
    storage = await world.puts.connect(LocalStorage(str(world.out)))
    local = world.spooled()
    given_up = [asyncio.create_task(storage.put(local, "a.mp4", "")) for _ in range(ipc.MAX_PUTS)]
    calls = [(await world.asked.get()).call for _ in given_up]
    await cancelled(*given_up)
    following = asyncio.create_task(storage.put(local, "b.mp4", ""))
    await asyncio.sleep(0)
    assert world.asked.empty()
    world.puts.answer(ipc.FilePut(calls[0]))
    asked = await world.asked.get()
    world.puts.answer(ipc.FilePut(asked.call))
    await following


async def test_what_stays_in_the_spool_needs_no_worker(world: World) -> None:
    storage = await world.puts.connect(LocalStorage(str(world.own / "tracks")))
    await storage.put(world.spooled(), "tracks.mkv", "video/x-matroska")
    assert (world.own / "tracks/tracks.mkv").read_bytes() == b"mine" and world.asked.empty()
