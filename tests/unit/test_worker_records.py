"""The record of an egress that runs here: what is reported, and what waits for the next start."""

import asyncio
import time
from pathlib import Path

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core.backoff import Backoff
from openegress.core.errors import Code, EgressError
from openegress.core.events import (
    Active,
    Ended,
    Ending,
    EndReason,
    ImagesUpdate,
    ManifestStored,
    OutputFailed,
    Paused,
    Resumed,
)
from openegress.core.info import is_paused
from openegress.worker import records
from openegress.worker.records import Record
from openegress.worker.unreported import Unreported

COMPLETE = EgressStatus.EGRESS_COMPLETE


class Keeper:
    """Takes reports, once it is there."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.taken: list[EgressInfo] = []
        self.took = asyncio.Event()

    async def take(self, info: EgressInfo) -> None:
        if self.away:
            self.away -= 1
            raise EgressError(Code.UNAVAILABLE, "not now")
        self.taken.append(info)
        self.took.set()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_BACKOFF", Backoff(first_s=0.0))


def starting() -> EgressInfo:
    return EgressInfo(egress_id="EG_1", started_at=1, updated_at=1)


def live(record: Record) -> None:
    for event in (Active(2), Ending(EndReason.API), Ended(3, EndReason.API)):
        record.apply(event)


async def test_what_happens_is_reported_in_order_and_kept_no_longer(tmp_path: Path) -> None:
    keeper, unreported = Keeper(away=3), Unreported(tmp_path)
    seen: list[int] = []
    record = Record(starting(), keeper.take, unreported, lambda info: seen.append(info.status))
    live(record)
    assert [info.egress_id for info in unreported.all()] == ["EG_1"]
    await record.close()
    assert [info.status for info in keeper.taken] == [1, 2, COMPLETE] == seen
    assert unreported.all() == []


async def test_a_report_on_its_way_is_never_taken_back(tmp_path: Path) -> None:
    """Reports that wait make room for newer ones of the same status, but not the one that is being sent."""
    taken: list[EgressInfo] = []
    sending, may_go_on = asyncio.Event(), asyncio.Event()

    async def take(info: EgressInfo) -> None:
        sending.set()
        await may_go_on.wait()
        taken.append(info)

    record = Record(starting(), take, Unreported(tmp_path))
    record.apply(Active(2))
    await sending.wait()
    for location in ("s3://b/1.json", "s3://b/2.json"):
        record.apply(ManifestStored(location))
        record.apply(OutputFailed(0, location, "internal"))
    may_go_on.set()
    await record.close()
    assert [info.manifest_location for info in taken] == ["", "s3://b/1.json"]
    assert taken[-1] == record.info


def taken(images: int) -> ImagesUpdate:
    return ImagesUpdate(0, "i", images, 2, 0)


def with_images(status: EgressStatus) -> EgressInfo:
    info = EgressInfo(egress_id="EG_1", updated_at=1, status=status)
    info.image_results.add(started_at=2, filename_prefix="i")
    return info


async def test_images_are_counted_while_they_are_taken_but_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "COUNT_EVERY_S", 0.01)
    reports, counter = Keeper(), Keeper()
    info = with_images(EgressStatus.EGRESS_ACTIVE)
    record = Record(info, reports.take, Unreported(tmp_path), count=counter.take)
    for images in (1, 2, 7):
        record.apply(taken(images))
        await asyncio.wait_for(counter.took.wait(), 5)
        counter.took.clear()
        assert counter.taken[-1].image_results[0].image_count == images
    assert reports.taken == []
    record.apply(Ended(9, EndReason.API))
    await record.close()
    assert [each.status for each in reports.taken] == [COMPLETE]
    assert {each.status for each in counter.taken} == {EgressStatus.EGRESS_ACTIVE}


async def test_a_count_never_tells_what_has_to_be_reported(tmp_path: Path) -> None:
    """A record that a count had moved to ENDING would have no webhook of it."""
    order: list[tuple[str, EgressStatus]] = []
    counted = asyncio.Event()

    async def report(info: EgressInfo) -> None:
        order.append(("report", info.status))
        record.apply(taken(5))
        await asyncio.sleep(0)

    async def count(info: EgressInfo) -> None:
        order.append(("count", info.status))
        counted.set()

    record = Record(with_images(EgressStatus.EGRESS_ACTIVE), report, Unreported(tmp_path), count=count)
    record.apply(taken(1))
    record.apply(Ending(EndReason.API))
    await asyncio.wait_for(counted.wait(), 5)
    await record.close()
    assert order == [("report", EgressStatus.EGRESS_ENDING), ("count", EgressStatus.EGRESS_ENDING)]


async def test_who_keeps_no_counts_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "COUNT_EVERY_S", 0.0)
    reports, asked = Keeper(), asyncio.Event()

    async def refuse(_: EgressInfo) -> None:
        assert not asked.is_set()
        asked.set()
        raise EgressError(Code.UNAVAILABLE, "a livekit-server")

    record = Record(with_images(EgressStatus.EGRESS_ACTIVE), reports.take, Unreported(tmp_path), count=refuse)
    record.apply(taken(1))
    await asked.wait()
    record.apply(taken(2))
    record.apply(Ended(9, EndReason.API))
    await record.close()
    assert reports.taken[-1].image_results[0].image_count == 2


def test_a_kept_end_that_a_disk_has_lost_keeps_nothing_waiting(tmp_path: Path) -> None:
    unreported = Unreported(tmp_path)
    unreported.keep(starting())
    for name, data in (("EG_2", b""), ("EG_3", b"\xff"), ("EG_4", starting().SerializeToString())):
        (tmp_path / f"{name}.info").write_bytes(data)
    assert [info.egress_id for info in unreported.all()] == ["EG_1"]
    assert [unreported.keeps(f"EG_{n}") for n in (1, 2, 3, 4)] == [True, False, False, False]


async def test_an_end_that_nobody_takes_waits_for_the_next_start(tmp_path: Path) -> None:
    unreported = Unreported(tmp_path)
    record = Record(starting(), Keeper(away=1000).take, unreported)
    live(record)
    record.stop_retrying()
    await record.close()
    (left,) = unreported.all()
    assert left.status == COMPLETE

    keeper = Keeper(away=1)
    again = Record(left, keeper.take, unreported)
    again.repeat()
    await again.close()
    assert keeper.taken == [left]
    assert unreported.all() == []


async def test_what_the_keeper_refuses_is_not_offered_again(tmp_path: Path) -> None:
    async def refuse(info: EgressInfo) -> None:
        raise EgressError(Code.INVALID_ARGUMENT, "no")

    unreported = Unreported(tmp_path)
    record = Record(starting(), refuse, unreported)
    live(record)
    await record.close()
    assert unreported.all() == []


def test_what_grows_and_what_a_playlist_is_signed_with_is_no_news() -> None:
    """Each report is a webhook."""

    def after(count: int, location: str) -> EgressInfo:
        info = starting()
        segments = info.segment_results.add(segment_count=count, size=count, playlist_location=location)
        info.segments.CopyFrom(segments)
        return records.reported_part(info)

    first = after(1, "https://s3/a.m3u8?X-Amz-Signature=1")
    assert after(2, "https://s3/a.m3u8?X-Amz-Signature=2") == first
    assert after(2, "https://backup/a.m3u8?X-Amz-Signature=2") != first
    assert after(0, "") != first


def test_a_file_that_is_no_record_is_passed_over(tmp_path: Path) -> None:
    unreported = Unreported(tmp_path)
    unreported.keep(starting())
    (tmp_path / "EG_2.info").write_bytes(b"\xff")
    assert [info.egress_id for info in unreported.all()] == ["EG_1"]


async def test_a_record_that_changes_without_end_is_reported_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each report causes a webhook. The last state arrives, and the end does not wait."""
    slept_s: list[float] = []
    sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        slept_s.append(seconds)
        for _ in range(10):  # what happens meanwhile
            await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", wait)
    monkeypatch.setattr(time, "monotonic_ns", lambda: round((1 + sum(slept_s)) * 1e9))
    keeper = Keeper()
    record = Record(starting(), keeper.take, Unreported(tmp_path))
    record.apply(Active(2))
    for number in range(1000):
        record.apply(Resumed(number) if number % 2 else Paused(number))
        await sleep(0)
    record.apply(Paused(1000))
    async with asyncio.timeout(10):
        while not is_paused(keeper.taken[-1]):
            await sleep(0)
    assert len(keeper.taken) == pytest.approx(50 + 5 * sum(slept_s), abs=2) and len(keeper.taken) < 200
    waited = len(slept_s)
    record.apply(Ended(3, EndReason.API))
    await record.close()
    assert keeper.taken[-1].status == COMPLETE and len(slept_s) == waited
