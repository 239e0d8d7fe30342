"""Services that share a disk and nothing else: what one writes, the other does not."""

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from openegress.app.worker_config import path_leases
from openegress.config.destination import LOCKS, local_folders
from openegress.config.settings import Settings
from openegress.core.codecs import Container
from openegress.core.errors import EgressError
from openegress.core.plan import FileOutput, Plan, WebSource
from openegress.core.storages import LocalStorage, S3Storage, StoragePlan
from openegress.request import places
from openegress.request.naming import local_path
from openegress.store import disk_leases
from openegress.store.disk_leases import DiskLeases
from openegress.store.leases import MemoryLeases, share
from openegress.worker.paths import Paths


def service(root: Path, data: Path, *, is_guest: bool = False) -> DiskLeases:
    return DiskLeases(MemoryLeases(), [root], data, is_guest=is_guest)


def recording(path: str, root: Path | None, egress_id: str = "EG_1") -> Plan:
    backend = LocalStorage(str(root)) if root else S3Storage(bucket="b", access_key="a")
    output = FileOutput(path, Container.MP4, StoragePlan(backend))
    return Plan(egress_id, WebSource("http://e"), (output,), None, None)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[DiskLeases, DiskLeases]]:
    """On one root, with data folders of their own."""
    both = service(tmp_path / "out", tmp_path / "a"), service(tmp_path / "out", tmp_path / "b")
    yield both
    for each in both:
        await each.close()


async def test_a_path_that_another_service_writes_is_taken(
    two: tuple[DiskLeases, DiskLeases], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openegress.worker.paths._PAUSE_S", 0)
    one, other = (Paths(leases, f"NE_{number}", lambda _: False) for number, leases in enumerate(two))
    plan = recording("a.mp4", tmp_path / "out")
    assert await one.claim(plan) is None
    taken = await other.claim(recording("a.mp4", tmp_path / "out", "EG_2"))
    assert taken is not None
    assert f"another recording is writing to '{tmp_path}/out/a.mp4'" in places.taken(taken).message
    assert await other.claim(recording("b.mp4", tmp_path / "out", "EG_3")) is None
    # What was refused is nobody's, and what has ended is free.
    assert other.held() == places.places_of(recording("b.mp4", tmp_path / "out"), os.uname().nodename)
    await one.release("EG_1")
    assert await other.claim(recording("a.mp4", tmp_path / "out", "EG_2")) is None


async def test_a_root_has_another_name_in_another_container(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "mount").symlink_to(tmp_path / "disk")
    one, other = service(tmp_path / "disk", tmp_path / "a"), service(tmp_path / "mount", tmp_path / "b")
    assert await one.take("NE_1", f"local|one|{tmp_path}/disk/in/a.mp4")
    assert not await other.take("NE_2", f"local|other|{tmp_path}/mount/in/a.mp4")
    assert await other.take("NE_2", f"local|other|{tmp_path}/mount/in/b.mp4")
    await one.close()
    await other.close()


async def test_other_storages_are_locked_where_the_data_is(tmp_path: Path) -> None:
    one, other = service(tmp_path / "x", tmp_path / "data"), service(tmp_path / "y", tmp_path / "data")
    apart = service(tmp_path / "x", tmp_path / "elsewhere")
    (place,) = places.places_of(recording("a.mp4", None), "machine")
    assert await one.take("NE_1", place)
    assert not await other.take("NE_2", place)
    assert await apart.take("NE_3", place)
    for each in (one, other, apart):
        await each.close()


async def test_a_recovery_holds_what_it_could_not_take_once_it_is_free(
    two: tuple[DiskLeases, DiskLeases], tmp_path: Path
) -> None:
    one, other = two
    place = f"local|m|{tmp_path}/out/a.mp4"
    assert await one.take("NE_1", place)
    await other.hold("NE_2", [place])
    await one.release([place])
    await other.hold("NE_2", [place])
    assert not await one.take("NE_1", place)


async def test_services_share_what_none_has_alone(two: tuple[DiskLeases, DiskLeases], tmp_path: Path) -> None:
    one, other = two
    place = f"local|m|{tmp_path}/out/x.mp4"
    assert await one.take("NE_1", share(place, "NE_1"))
    assert await other.take("NE_2", share(place, "NE_2"))
    assert not await one.take("NE_1", place)
    await other.release([share(place, "NE_2")])
    await one.release([share(place, "NE_1")])
    assert await one.take("NE_1", place)
    assert not await other.take("NE_2", share(place, "NE_2"))


_HOLDS = """
import asyncio, sys
from pathlib import Path
from openegress.store.disk_leases import DiskLeases
from openegress.store.leases import MemoryLeases
leases = DiskLeases(MemoryLeases(), [Path(sys.argv[1])], Path(sys.argv[1]))
print(asyncio.run(leases.take("NE_1", sys.argv[2])), flush=True)
sys.stdin.read()
"""


def test_a_service_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    place = f"local|m|{tmp_path}/a.mp4"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(tmp_path), place], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        leases = service(tmp_path, tmp_path)
        assert not asyncio.run(leases.take("NE_2", place))
        process.kill()
        process.wait()
        assert asyncio.run(leases.take("NE_2", place))
        asyncio.run(leases.close())


async def test_a_single_recording_leaves_no_locks_behind(tmp_path: Path) -> None:
    place = f"local|m|{tmp_path}/a.mp4"
    guest = service(tmp_path, tmp_path, is_guest=True)
    assert await guest.take("NE_1", place)
    assert list(tmp_path.iterdir()) == []
    await guest.release([place])
    host = service(tmp_path, tmp_path)
    assert await host.take("NE_2", place)
    assert not await guest.take("NE_1", place)
    for each in (guest, host):
        await each.close()


async def test_a_disk_without_locks_is_told_once_and_keeps_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    leases = service(tmp_path, tmp_path)
    with structlog.testing.capture_logs() as logged:
        for number in range(3):
            assert await leases.take("NE_1", f"local|m|{tmp_path}/{number}.mp4")
    assert [entry["error"] for entry in logged] == ["Operation not supported"]
    await leases.close()


async def test_no_request_writes_over_the_locks(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / "data"), output_root=str(tmp_path / "out"))
    leases = path_leases(settings, MemoryLeases())
    assert await leases.take("NE_1", f"local|m|{tmp_path}/out/a.mp4")
    assert (tmp_path / "out" / LOCKS).is_file()
    (folder,) = local_folders(settings)
    with pytest.raises(EgressError, match="a folder of the server's own"):
        local_path(LOCKS, folder)
    await leases.close()


def test_the_structure_is_the_kernels() -> None:
    assert disk_leases._FLOCK.size == 32
