"""Handlers forked from a process that has loaded what they need."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from openegress.core import ipc
from openegress.worker.fork_client import ForkClient, lines_of
from openegress.worker.oom import oom_kills
from openegress.worker.process import HandlerProcess

SELVES = """
import os
import openegress.handler.loop
from aioice import Connection
from openegress.room.transport.dtls import DtlsSrtp

def self():
    ice = Connection(ice_controlling=False)
    return ice.local_username, ice.local_password, DtlsSrtp(print).fingerprint.value

for _ in range(2):
    if os.fork() == 0:
        print(*self(), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture
async def forks() -> AsyncIterator[ForkClient]:
    forks = ForkClient()
    yield forks
    await forks.close()


async def spawn(forks: ForkClient, folder: Path) -> HandlerProcess:
    handler = await HandlerProcess.spawn(forks, ipc.HandlerSettings(str(folder)))
    async with asyncio.timeout(20):
        assert isinstance(await anext(handler.messages()), ipc.Ready)
    return handler


def parent(handler: HandlerProcess) -> psutil.Process:
    found = psutil.Process(handler.pid).parent()
    assert found is not None
    return found


async def end(handler: HandlerProcess) -> str:
    async with asyncio.timeout(20):
        assert [message async for message in handler.messages()] == []
        await handler.reap()
    return handler.ended


async def test_one_that_hangs_tells_where(forks: ForkClient, tmp_path: Path) -> None:
    handler = await spawn(forks, tmp_path)
    await handler.dump_stacks()
    handler.kill()
    assert await end(handler) == "killed by SIGKILL", "the stacks are no last words for an error's text"
    assert any("openegress/handler/__main__.py" in line for line in handler.last_words)


async def test_one_that_the_kernel_killed_says_that_memory_ran_out(
    forks: ForkClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_us, by_others, by_kernel = [await spawn(forks, tmp_path) for _ in range(3)]
    os.kill(by_others.pid, signal.SIGKILL)
    assert await end(by_others) == "killed by SIGKILL"
    counted = oom_kills()
    monkeypatch.setattr("openegress.worker.process.oom_kills", lambda: counted + 1)
    by_us.kill()
    os.kill(by_kernel.pid, signal.SIGKILL)
    assert await end(by_us) == "killed by SIGKILL"
    assert await end(by_kernel) == "killed by SIGKILL: memory ran out"
    assert by_kernel.ran_out_of_memory and not by_us.ran_out_of_memory


async def test_handlers_of_one_process_live_and_end_apart(forks: ForkClient, tmp_path: Path) -> None:
    first, second = await asyncio.gather(*(spawn(forks, tmp_path) for _ in range(2)))
    assert parent(first) == parent(second) != psutil.Process()
    assert len({os.getsid(pid) for pid in (first.pid, second.pid, os.getpid())}) == 3
    assert parent(first).num_threads() == 1, "a fork of several threads may hang"
    first.kill()
    assert await end(first) == "killed by SIGKILL"
    assert second.alive
    await second.reap()
    assert second.ended == "exit status 0"


async def test_descriptors_of_handlers_do_not_pile_up(forks: ForkClient, tmp_path: Path) -> None:
    async def one() -> tuple[int, int]:
        handler = await spawn(forks, tmp_path)
        its, held = psutil.Process(handler.pid).num_fds(), parent(handler).num_fds()
        handler.kill()
        await end(handler)
        return its, held

    await one()
    before, ours = await one(), psutil.Process().num_fds()
    kept = [await spawn(forks, tmp_path) for _ in range(3)]
    its, held = await one()
    assert (its, held) == (before[0], before[1] + len(kept)), (
        "a pidfd for each that runs, in one process alone"
    )
    for handler in kept:
        await handler.reap()
    assert psutil.Process().num_fds() == ours


async def test_what_a_handler_said_last_is_told(forks: ForkClient, tmp_path: Path) -> None:
    handler = await spawn(forks, tmp_path)
    handler._writer.write(b"\xff" * 8)  # a length beyond all that is sent
    assert re.fullmatch(r"exit status 1: ValueError: message of 4294967295 bytes.*", await end(handler))


async def test_where_their_parent_dies_handlers_live_on_and_another_is_started(
    forks: ForkClient, tmp_path: Path
) -> None:
    first, second = [await spawn(forks, tmp_path) for _ in range(2)]
    before = parent(first)
    before.kill()
    third = await spawn(forks, tmp_path)
    assert parent(third) != before
    assert first.alive and second.alive
    os.kill(first.pid, signal.SIGKILL)
    assert await end(first) == "nobody saw how"
    await second.reap()
    await third.reap()


async def test_a_parent_that_dies_with_requests_unread_costs_none_of_them(
    forks: ForkClient, tmp_path: Path
) -> None:
    """Each has a channel of its own then: two handlers at one would take each other's messages."""
    first = await spawn(forks, tmp_path)
    before = parent(first)
    before.suspend()
    waiting = [asyncio.create_task(spawn(forks, tmp_path)) for _ in range(2)]
    await asyncio.sleep(0)
    before.kill()
    handlers = await asyncio.gather(*waiting)
    assert len({handler.pid for handler in handlers}) == 2
    for handler in (*handlers, first):
        await handler.reap()
        assert handler.ended in ("exit status 0", "nobody saw how")


async def test_a_line_without_end_on_standard_error_is_no_end(forks: ForkClient, tmp_path: Path) -> None:
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", buffering=0)
    )
    text = b"first\n" + b"x" * 200_000 + b"\nlast"

    def say() -> None:
        with os.fdopen(write, "wb") as pipe:
            pipe.write(text)

    _, said = await asyncio.gather(asyncio.to_thread(say), _all(lines_of(reader)))
    assert (said[0], said[-1]) == ("first", "last")
    assert sum(len(line) for line in said[1:-1]) == 200_000


async def _all(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


async def test_a_parent_that_cannot_start_says_why(
    forks: ForkClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "msgspec.py"
    broken.write_text("raise ImportError('the installation is broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(OSError, match=r"exit status 1: ImportError: the installation is broken"):
        await HandlerProcess.spawn(forks, ipc.HandlerSettings(str(tmp_path)))
    broken.unlink()
    handler = await spawn(forks, tmp_path)
    await handler.reap()


async def test_a_machine_without_room_for_one_more_says_so(forks: ForkClient, tmp_path: Path) -> None:
    handler = await spawn(forks, tmp_path)
    server = parent(handler)
    usual = server.rlimit(psutil.RLIMIT_NOFILE)
    room = server.num_fds() + 1  # for one of the two descriptors that come with a request
    server.rlimit(psutil.RLIMIT_NOFILE, (room, usual[1]))
    with pytest.raises(OSError, match="Too many open files"):
        await HandlerProcess.spawn(forks, ipc.HandlerSettings(str(tmp_path)))
    server.rlimit(psutil.RLIMIT_NOFILE, usual)
    other = await spawn(forks, tmp_path)
    assert parent(other) == server
    await other.reap()
    await handler.reap()


async def test_who_gives_up_waiting_leaves_no_handler(forks: ForkClient, tmp_path: Path) -> None:
    first = await spawn(forks, tmp_path)
    server = parent(first)
    server.suspend()
    waiting = asyncio.create_task(HandlerProcess.spawn(forks, ipc.HandlerSettings(str(tmp_path))))
    await asyncio.sleep(0)
    waiting.cancel()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
    server.resume()
    second = await spawn(forks, tmp_path)  # answered after the one nobody waits for
    deadline = time.monotonic() + 10
    while (left := {child.pid for child in server.children()}) != {first.pid, second.pid}:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.01)
    await first.reap()
    await second.reap()


async def test_forks_share_no_secret() -> None:
    asked = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SELVES,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    said, _ = await asked.communicate()
    assert asked.returncode == 0
    first, second = (line.split() for line in said.decode().splitlines())
    assert len(first) == 3 and all(a != b for a, b in zip(first, second, strict=True))
