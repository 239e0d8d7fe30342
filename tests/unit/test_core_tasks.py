"""What is done beside the work may fail; the work goes on."""

import asyncio
import errno
import time

import psutil
import pytest

from openegress.core.tasks import SideTasks, non_fatal
from openegress.worker.load import LoadMeter
from openegress.worker.usage import UsageMeter


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), KeyError("x"), ValueError()])
def test_a_failure_is_told_and_goes_no_further(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with non_fatal("counting"):
        raise error
    assert caplog.messages == ["counting failed; what it belongs to goes on"]


def test_a_cancellation_is_no_failure() -> None:
    with pytest.raises(asyncio.CancelledError), non_fatal("counting"):
        raise asyncio.CancelledError


def test_meters_without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """They say what they knew last, or nothing."""
    meter = LoadMeter()
    known = meter.sample()

    def refuse(*_: object, **__: object) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    monkeypatch.setattr(psutil, "cpu_times", refuse)
    monkeypatch.setattr(psutil, "Process", refuse)
    later_s = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    assert meter.sample() == known
    assert UsageMeter().measure({"EG_1": 1}) == {}


async def test_errands_end_before_their_owner_and_tell_of_failures(caplog: pytest.LogCaptureFixture) -> None:
    errands, done = SideTasks("an errand failed"), list[str]()

    async def first() -> None:
        await asyncio.sleep(0)
        errands.begin(second())

    async def second() -> None:
        await asyncio.sleep(0)
        done.append("second")
        raise ValueError("no")

    errands.begin(first())
    await errands.wait()
    assert done == ["second"]
    assert "an errand failed" in caplog.text
    errands.begin(asyncio.sleep(3600))
    await errands.cancel()
    await errands.wait()
