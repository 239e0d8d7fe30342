"""The thread between the media and an output: order, overflow, failures, the end."""

import asyncio
import threading
from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from openegress.core.codecs import MediaKind
from openegress.core.errors import Code, EgressError
from openegress.media import Packet
from openegress.output.writer import QueuedWriter, QueueLimits

QUICK = QueueLimits(max_bytes=1000, max_s=10.0, linger_s=0.01)


def packet(at_s: int, size: int = 1) -> Packet:
    return Packet(MediaKind.VIDEO, b"x" * size, at_s, at_s, 1, Fraction(1), True)


@dataclass
class Recorder:
    """A job that notes what it is asked, fails where it is told to, and waits while its gate is shut."""

    fails_at: str = ""
    error: Exception = field(default_factory=lambda: EgressError(Code.UNAVAILABLE, "told to fail"))
    calls: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    writing: threading.Event = field(default_factory=threading.Event)
    threads: set[int] = field(default_factory=set)
    rested: threading.Event = field(default_factory=threading.Event)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.threads.add(threading.get_ident())
        if name == self.fails_at:
            raise self.error

    def open(self) -> None:
        self._call("open")

    def write(self, packet: Packet) -> None:
        self.writing.set()
        self.gate.wait(10)
        self._call(f"write {packet.pts}")

    def rest(self) -> None:
        self._call("rest")
        self.rested.set()

    def close(self) -> None:
        self._call("close")

    def abort(self, error: EgressError) -> None:
        self.calls.append("abort")


def started(job: Recorder, limits: QueueLimits = QUICK) -> tuple[QueuedWriter, list[EgressError]]:
    failures: list[EgressError] = []
    writer = QueuedWriter("a test", job, failures.append, limits)
    writer.start(5.0)
    return writer, failures


async def test_a_job_rests_once_when_nothing_more_comes() -> None:
    """What waits in its memory, of a stream of one picture a minute, is not lost with the process."""
    job = Recorder()
    job.gate.set()
    writer, _ = started(job, QueueLimits(linger_s=0.0, rest_s=0.01))
    for n in (1, 2):
        writer.put(packet(n))
        assert await asyncio.to_thread(job.rested.wait, 5)
        job.rested.clear()
    assert not await asyncio.to_thread(job.rested.wait, 0.05), "nothing came since"
    await writer.finish(5)
    assert job.calls == ["open", "write 1", "rest", "write 2", "rest", "close"]


async def test_packets_are_written_in_order_in_one_thread_and_the_job_is_closed() -> None:
    job = Recorder()
    job.gate.set()
    writer, failures = started(job)
    for n in range(5):
        writer.put(packet(n))
    await writer.written()
    assert job.calls == ["open", *(f"write {n}" for n in range(5))]
    writer.put(packet(5))
    await writer.finish(5)
    assert job.calls[-2:] == ["write 5", "close"]
    assert len(job.threads) == 1 and threading.get_ident() not in job.threads
    assert not failures
    writer.put(packet(6))
    assert job.calls[-1] == "close"


@pytest.mark.parametrize("fails_at", ["write 1", "close"])
@pytest.mark.parametrize("ours", [True, False])
async def test_a_failure_is_told_once_and_raised_at_the_end(fails_at: str, ours: bool) -> None:
    job = Recorder(fails_at) if ours else Recorder(fails_at, KeyError("surprise"))
    job.gate.set()
    writer, failures = started(job)
    for n in range(4):
        writer.put(packet(n))
    with pytest.raises(EgressError) as caught:
        await writer.finish(5)
    assert failures == [caught.value] == [writer.failure]
    assert caught.value.message == "told to fail" if ours else "KeyError: 'surprise'" in caught.value.message
    assert job.calls[-2:] == [fails_at, "abort"]


async def test_what_cannot_be_opened_is_refused_at_the_start() -> None:
    with pytest.raises(EgressError, match="told to fail"):
        started(Recorder("open"))


@pytest.mark.parametrize(
    "packets",
    [
        [packet(0), *(packet(1, 300) for _ in range(4))],
        [packet(0), packet(1), packet(12)],
    ],
)
async def test_a_queue_that_overflows_fails_its_output_and_no_caller_waits(packets: list[Packet]) -> None:
    job = Recorder()
    writer, failures = started(job)
    writer.put(packets[0])
    assert await asyncio.to_thread(job.writing.wait, 5)
    for each in packets[1:]:
        writer.put(each)
    assert writer.failure is not None and writer.failure.code is Code.RESOURCE_EXHAUSTED
    assert "cannot keep up" in writer.failure.message
    assert writer.depth == 0
    job.gate.set()
    with pytest.raises(EgressError, match="cannot keep up"):
        await writer.finish(5)
    assert len(failures) == 1
    assert job.calls == ["open", "write 0", "abort"]


async def test_an_end_that_takes_too_long_is_not_waited_for() -> None:
    job = Recorder()
    writer, _ = started(job)
    writer.put(packet(0))
    with pytest.raises(EgressError) as caught:
        await writer.finish(0.1)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    job.gate.set()


async def test_nobody_waits_for_what_a_failure_left_unwritten() -> None:
    job = Recorder("write 0")
    writer, _ = started(job)
    writer.put(packet(0))
    waiting = asyncio.create_task(writer.written())
    await asyncio.sleep(0)
    job.gate.set()
    await asyncio.wait_for(waiting, 5)
    with pytest.raises(EgressError):
        await writer.finish(5)
