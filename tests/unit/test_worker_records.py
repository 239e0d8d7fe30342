"""The record of an egress that runs here: what is reported, and what waits for the next start."""

from pathlib import Path

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core.errors import Code, EgressError
from openegress.core.events import Active, Ended, Ending, EndReason
from openegress.worker import records
from openegress.worker.records import Record
from openegress.worker.unreported import Unreported

COMPLETE = EgressStatus.EGRESS_COMPLETE


class Keeper:
    """Takes reports, once it is there."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.taken: list[EgressInfo] = []

    async def take(self, info: EgressInfo) -> None:
        if self.away:
            self.away -= 1
            raise EgressError(Code.UNAVAILABLE, "not now")
        self.taken.append(info)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_RETRY_S", (0.0,))


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
    record.hurry()
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
        return records.told(info)

    first = after(1, "https://s3/a.m3u8?X-Amz-Signature=1")
    assert after(2, "https://s3/a.m3u8?X-Amz-Signature=2") == first
    assert after(2, "https://backup/a.m3u8?X-Amz-Signature=2") != first
    assert after(0, "") != first


def test_a_file_that_is_no_record_is_passed_over(tmp_path: Path) -> None:
    unreported = Unreported(tmp_path)
    unreported.keep(starting())
    (tmp_path / "EG_2.info").write_bytes(b"\xff")
    assert [info.egress_id for info in unreported.all()] == ["EG_1"]
