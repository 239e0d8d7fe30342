"""Work on a disk that may not answer: in order, with an end, and nobody waits longer than was said."""

import asyncio
import threading
import time
from functools import partial

import pytest

from openegress.core.errors import Code, EgressError, Fault
from openegress.output.disk_thread import DiskThread, in_time, patience_s


async def test_what_is_given_is_done_in_order_in_one_thread() -> None:
    thread = DiskThread("writing")
    done: list[tuple[int, int]] = []

    def do(n: int) -> None:
        done.append((n, threading.get_ident()))

    for n in range(50):
        thread.submit(partial(do, n))
    await thread.finish(5)
    assert [n for n, _ in done] == list(range(50))
    assert len({ident for _, ident in done}) == 1
    assert done[0][1] != threading.get_ident()


async def test_what_it_raises_comes_out_and_the_next_is_done_all_the_same() -> None:
    thread = DiskThread("writing")
    with pytest.raises(OSError, match="broken"):
        await thread.result(lambda: (_ for _ in ()).throw(OSError("broken")), 5)
    assert await thread.result(lambda: 7, 5) == 7
    thread.close()


async def test_a_disk_that_does_not_answer_is_given_up_and_keeps_no_process_alive() -> None:
    dead = threading.Event()
    began_s = time.monotonic()
    try:
        with pytest.raises(EgressError, match="rewriting: the disk of the recordings did not") as raised:
            await in_time("rewriting", dead.wait, 0.1)
        assert time.monotonic() - began_s < 5
        assert (raised.value.code, raised.value.fault) == (Code.DEADLINE_EXCEEDED, Fault.SERVICE)
        assert [thread.daemon for thread in threading.enumerate() if thread.name == "rewriting"] == [True]
    finally:
        dead.set()


async def test_what_waits_behind_a_stuck_call_is_not_done_once_its_time_is_over() -> None:
    thread, dead, done = DiskThread("writing"), threading.Event(), []
    thread.submit(dead.wait)
    with pytest.raises(EgressError):
        await thread.result(lambda: done.append("late"), 0.05)
    dead.set()
    await thread.finish(5)
    await asyncio.sleep(0)
    assert done == []


def test_a_large_file_on_a_slow_disk_has_its_time() -> None:
    slow_bytes_s, size_bytes = 2_000_000, 100_000_000_000
    assert size_bytes / slow_bytes_s < patience_s(size_bytes) < 48 * 3600
    assert patience_s(0) >= 60
