"""Uploads while the storage misbehaves: nothing is lost, nothing is left half there, and the status is true.

Time between attempts is the tests': a `sleep` that repairs the storage instead of waiting.
"""

import asyncio
import hashlib
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.storages import LocalStorage, S3Storage, StoragePlan
from openegress.storage import open_storage
from openegress.storage.uploader import Uploader, UploadRetry
from testkit.fault_proxy import FaultProxy
from testkit.servers import S3Server

BUCKET = "recordings"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
async def faults(s3: S3Server) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(s3.port) as proxy:
        yield proxy


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "spooled.mp4"
    path.write_bytes(random.Random(5).randbytes(20 * MIB))
    return path


def backend(faults: FaultProxy) -> S3Storage:
    return S3Storage(bucket=BUCKET, access_key="key", secret="secret", endpoint=faults.url)


class Waiting:
    """A clock that only waiting moves. After `repair_after` waits, `repair` is called."""

    def __init__(self, repair: Callable[[], Awaitable[None]] | None = None, repair_after: int = 1) -> None:
        self.now_s = 0.0
        self.waits = 0
        self._repair = repair
        self._repair_after = repair_after

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s
        self.waits += 1
        if self._repair is not None and self.waits == self._repair_after:
            await self._repair()


def stored_whole(s3: S3Server, key: str, local: Path) -> bool:
    data = s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return hashlib.sha256(data).digest() == hashlib.sha256(local.read_bytes()).digest()


def unfinished(s3: S3Server) -> list[str]:
    return [entry["Key"] for entry in s3.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]


async def test_down_then_back(s3: S3Server, faults: FaultProxy, recording: Path) -> None:
    await faults.refuse()
    waiting = Waiting(faults.accept, repair_after=2)
    retries: list[UploadRetry] = []
    uploader = Uploader(
        StoragePlan(backend=backend(faults)),
        clock=waiting.clock,
        sleep=waiting.sleep,
        on_retry=retries.append,
    )
    stored = await uploader.put(recording, "down.mp4", "video/mp4")
    assert stored_whole(s3, "down.mp4", recording)
    assert not stored.backup_used
    assert [retry.attempt for retry in retries] == [1, 2]
    assert "Connection refused" in retries[0].error.message
    assert retries[0].error.fault is Fault.DESTINATION


async def test_connection_reset_in_mid_upload(s3: S3Server, faults: FaultProxy, recording: Path) -> None:
    faults.reset_after(3 * MIB, times=2)
    uploader = Uploader(StoragePlan(backend=backend(faults)))
    await uploader.put(recording, "reset.mp4", "video/mp4")
    assert stored_whole(s3, "reset.mp4", recording)
    assert faults.connections > 2


async def test_connection_reset_again_and_again_leaves_no_parts(
    s3: S3Server, faults: FaultProxy, recording: Path
) -> None:
    faults.reset_after(3 * MIB, times=1000)
    waiting = Waiting(faults.accept)
    uploader = Uploader(StoragePlan(backend=backend(faults)), clock=waiting.clock, sleep=waiting.sleep)
    await uploader.put(recording, "resets.mp4", "video/mp4")
    assert waiting.waits == 1
    assert stored_whole(s3, "resets.mp4", recording)
    assert unfinished(s3) == []


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_answers_of_trouble_pass(
    s3: S3Server, faults: FaultProxy, recording: Path, status: int
) -> None:
    faults.answer(status, times=1000)
    waiting = Waiting(faults.accept)
    retries: list[UploadRetry] = []
    uploader = Uploader(
        StoragePlan(backend=backend(faults)),
        clock=waiting.clock,
        sleep=waiting.sleep,
        on_retry=retries.append,
    )
    await uploader.put(recording, f"{status}.mp4", "video/mp4")
    assert stored_whole(s3, f"{status}.mp4", recording)
    assert "S3 upload failed: InternalError (" in retries[0].error.message


async def test_slow_storage_is_waited_for(s3: S3Server, faults: FaultProxy, recording: Path) -> None:
    faults.slow(6 * MIB)
    waiting = Waiting()
    uploader = Uploader(StoragePlan(backend=backend(faults)), clock=waiting.clock, sleep=waiting.sleep)
    await uploader.put(recording, "slow.mp4", "video/mp4")
    assert stored_whole(s3, "slow.mp4", recording)
    assert waiting.waits == 0


async def test_down_for_hours_then_backup(
    s3: S3Server, faults: FaultProxy, recording: Path, tmp_path: Path
) -> None:
    await faults.refuse()
    waiting = Waiting()
    plan = StoragePlan(
        backend=backend(faults),
        backup=LocalStorage(root=str(tmp_path / "backup")),
        backup_prefix="spare",
        retry_for_s=30,
    )
    uploader = Uploader(plan, clock=waiting.clock, sleep=waiting.sleep)
    content = recording.read_bytes()
    stored = await uploader.put(recording, "d/a.mp4", "video/mp4", delete_local=True)
    assert stored.backup_used
    assert stored.location == str(tmp_path / "backup/spare/d/a.mp4")
    assert Path(stored.location).read_bytes() == content
    assert waiting.now_s <= 30
    assert not recording.exists()


async def test_down_for_good_keeps_the_file_for_the_next_process(
    s3: S3Server, faults: FaultProxy, recording: Path
) -> None:
    await faults.refuse()
    waiting = Waiting()
    plan = StoragePlan(backend=backend(faults), retry_for_s=3)
    with pytest.raises(EgressError) as raised:
        await Uploader(plan, clock=waiting.clock, sleep=waiting.sleep).put(
            recording, "later.mp4", "video/mp4", delete_local=True
        )
    error = raised.value
    assert (error.code, error.fault) == (Code.UNAVAILABLE, Fault.DESTINATION)
    assert error.phase is Phase.STORAGE_WRITE
    assert error.text.startswith("storage write: S3 upload failed: Connection refused")
    assert recording.stat().st_size == 20 * MIB
    await faults.accept()
    content = hashlib.sha256(recording.read_bytes()).digest()
    await Uploader(plan).put(recording, "later.mp4", "video/mp4", delete_local=True)
    data = s3.client().get_object(Bucket=BUCKET, Key="later.mp4")["Body"].read()
    assert hashlib.sha256(data).digest() == content
    assert not recording.exists()


async def test_check_of_a_storage_that_is_down_answers_soon(faults: FaultProxy) -> None:
    await faults.refuse()
    storage = await open_storage(backend(faults))
    with pytest.raises(EgressError, match="Connection refused") as raised:
        await storage.check("a.mp4")
    assert raised.value.phase is Phase.STORAGE_CHECK
    assert raised.value.code is Code.UNAVAILABLE


async def test_check_of_a_storage_that_says_nothing_ends_in_seconds() -> None:
    ended = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()
        ended.set()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    storage = await open_storage(S3Storage(bucket=BUCKET, access_key="k", secret="s", endpoint=url))
    async with asyncio.timeout(12):
        with pytest.raises(EgressError, match="timed out") as raised:
            await storage.check("a.mp4")
    assert raised.value.fault is Fault.DESTINATION
    await ended.wait()
    server.close()
    await server.wait_closed()


DISK_FULL = """
import asyncio, sys
from pathlib import Path
from openegress.core.errors import EgressError
from openegress.core.storages import LocalStorage
from openegress.storage import open_storage

async def main():
    storage = await open_storage(LocalStorage(root="/mnt"))
    await storage.check("d/a.mp4")
    try:
        await storage.put(Path(sys.argv[1]), "d/a.mp4", "video/mp4")
    except EgressError as error:
        print(error.fault.name, error.text)
    print(sorted(entry.name for entry in Path("/mnt/d").iterdir()))

asyncio.run(main())
"""


def test_full_disk_is_told_and_leaves_no_part(recording: Path) -> None:
    mounted = 'mount -t tmpfs -o size=4m none /mnt && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", DISK_FULL, str(recording)],
        check=True,
        capture_output=True,
        text=True,
    )
    told, left = done.stdout.splitlines()
    assert told.startswith("DESTINATION storage write: cannot write 'd/a.mp4' below /mnt: No space left")
    assert left == "[]"
    assert recording.stat().st_size == 20 * MIB
