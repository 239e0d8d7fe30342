"""Displays of workers that see neither each other's processes nor each other's sockets, but share /tmp."""

import asyncio
import contextlib
import os
import select
import shutil
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from openegress.core.units import MS
from openegress.source.web.damage import Damage
from openegress.source.web.display import Display
from openegress.source.web.display_number import CLAIMS, DisplayNumber
from openegress.source.web.identity import current
from openegress.source.web.x11 import XConnection

WORKER = """
import asyncio, socket, struct, sys, tempfile
from pathlib import Path
from openegress.source.web import display
from openegress.source.web.display import Display, SOCKETS
from openegress.source.web.identity import current
from openegress.source.web import display_number

async def main():
    display_number.NUMBERS = range(int(sys.argv[1]), int(sys.argv[1]) + 100)
    with tempfile.TemporaryDirectory() as folder:
        shown = await Display.start(320, 240, Path(folder), current())
        print(shown.number, flush=True)
        for line in sys.stdin:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(SOCKETS / f"X{shown.number}"))
                client.sendall(struct.pack("<BxHHHHxx", 0x6C, 11, 0, 18, 16))
                client.sendall(b"MIT-MAGIC-COOKIE-1\\0\\0" + shown.cookie)
                print(client.recv(1)[0], flush=True)
        await shown.close()

asyncio.run(main())
"""

ISOLATED = ("unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child")

pytestmark = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")


class Worker:
    """One in namespaces of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    async def say(self) -> int:
        line = await self._out.readline()
        assert line, "the worker ended"
        return int(line)

    async def connects(self) -> bool:
        """Its display lets in who has its cookie: it is the one it started."""
        self._in.write(b"\n")
        return await self.say() == 1


@contextlib.asynccontextmanager
async def worker(first: int) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        *(*ISOLATED, sys.executable, "-c", WORKER, str(first)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    yield Worker(process)
    await process.communicate(b"")
    assert process.returncode == 0


async def test_workers_in_namespaces_of_their_own() -> None:
    """Each takes its number from the same few."""
    probe = await asyncio.create_subprocess_exec(*ISOLATED, "true")
    if await probe.wait():
        pytest.skip("this user may make no namespaces")
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(worker(30_000)) for _ in range(5)]
        numbers = [await each.say() for each in workers]
        assert len(set(numbers)) == len(numbers)
        assert all([await each.connects() for each in workers])
    assert not [number for number in numbers if Path(f"/tmp/.X11-unix/X{number}").exists()]


def test_a_claimed_number_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openegress.source.web.display_number.NUMBERS", range(40_000, 40_100))
    claimed = [DisplayNumber.claim(tmp_path) for _ in range(30)]
    assert len({each.value for each in claimed}) == 30
    for each in claimed:
        each.release()
        each.release()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / f".{CLAIMS}49999"
    left.write_bytes(b"")
    claimed = DisplayNumber.claim(tmp_path)
    assert not left.exists()
    claimed.release()


async def test_a_picture_has_the_time_at_which_it_was_drawn(tmp_path: Path) -> None:
    """However late the thread that films it gets to run."""
    create_gc, fill_rectangle = 55, 70
    display = await Display.start(320, 240, tmp_path, current())
    damage = Damage(display.number, display.cookie)
    painter = XConnection(display.number, display.cookie)
    gc = painter.id_base
    painter.send(struct.pack("<BxHIII", create_gc, 4, gc, painter.root, 0))
    for _ in range(2):
        began_ns = time.monotonic_ns()
        painter.send(struct.pack("<BxHIIhhHH", fill_rectangle, 5, painter.root, gc, 10, 20, 30, 40))
        painter.sync()
        ended_ns = time.monotonic_ns()
        await asyncio.sleep(0.15)  # the filming thread waits for a core
        drawn = damage.drain()
        assert drawn is not None
        assert drawn.rows[-1] == (20, 40)
        assert began_ns - MS <= drawn.at_ns <= ended_ns + MS
    painter.close()
    damage.close()
    await display.close()


async def test_a_display_that_stands_still_has_drawn_nothing(tmp_path: Path) -> None:
    """Nobody waits for it for long, and its answer that comes later is no answer to anything else."""
    display = await Display.start(320, 240, tmp_path, current())
    damage = Damage(display.number, display.cookie)
    damage.settled()  # all of it counts as drawn at first
    os.kill(display.child.pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            began_s = time.monotonic()
            assert damage.settled() is None
            assert time.monotonic() - began_s < 1
        assert damage.asked_s is not None
    finally:
        os.kill(display.child.pid, signal.SIGCONT)
    assert select.select([damage], [], [], 5)[0]
    assert damage.drain() is None and damage.asked_s is None
    assert damage.settled() is None and damage.asked_s is None
    damage.close()
    await display.close()
