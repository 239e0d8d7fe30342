"""What a recording notes for its recovery, on a disk that has space and on one that has not."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openegress.core.end_rules import EndRules
from openegress.core.errors import Code, EgressError
from openegress.core.events import FileUpdate
from openegress.core.marker import Marker
from openegress.core.plan import FileOutput as FilePlan
from openegress.core.plan import MediaSource, Plan
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.handler import recording_journal
from openegress.handler.recording_journal import RecordingJournal
from openegress.output.manifest import Pause
from openegress.storage.journal import NAME

PLAN = Plan(
    "EG_1",
    MediaSource("r", "ws://h", "t"),
    (FilePlan("a.mp4", None, StoragePlan(LocalStorage("/out"))),),
    None,
    None,
)


def update(**fields: Any) -> FileUpdate:
    return FileUpdate(output=0, filename="a.mp4", started_at_ns=5, **fields)


def taken_over(ledger: RecordingJournal) -> dict[tuple[int, int], object]:
    ledger.release()
    again = RecordingJournal.take_over(ledger.folder)
    again.release()
    return dict(again.told)


def test_the_first_word_and_the_end_of_an_output_are_kept(tmp_path: Path) -> None:
    ledger = RecordingJournal.create(tmp_path, PLAN)
    ledger.note(update())
    ledger.note(update(size_bytes=1))
    assert taken_over(ledger) == {(0, 0): update()}


def test_an_earlier_recording_of_the_same_egress_is_not_begun_over(tmp_path: Path) -> None:
    ledger = RecordingJournal.create(tmp_path, PLAN)
    ledger.note(update())
    with pytest.raises(EgressError, match="another process is still working on it"):
        RecordingJournal.create(tmp_path, PLAN)
    ledger.release()
    with pytest.raises(EgressError, match="an earlier recording with this egress_id still waits there"):
        RecordingJournal.create(tmp_path, PLAN)
    assert taken_over(ledger) == {(0, 0): update()}
    RecordingJournal.take_over(ledger.folder).settle()
    RecordingJournal.create(tmp_path, PLAN).release()


def test_a_full_disk_stops_nothing_and_is_made_up_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = RecordingJournal.create(tmp_path, PLAN)
    journal = ledger.folder / NAME
    aside = journal.rename(ledger.folder / "aside")
    journal.symlink_to("/dev/full")
    with caplog.at_level(logging.ERROR):
        ledger.note(update())
        ledger.note(update(size_bytes=1))
        ledger.note(update(size_bytes=1, ended_at_ns=9))
    assert ["No space left" in str(record.__dict__["error"]) for record in caplog.records] == [True]
    assert ledger.told == {(0, 0): update(size_bytes=1, ended_at_ns=9)}
    aside.replace(journal)
    ledger.note(update(size_bytes=2))
    assert taken_over(ledger) == {(0, 0): update(size_bytes=2)}


def test_what_a_manifest_says_survives_its_process(tmp_path: Path) -> None:
    ledger = RecordingJournal.create(tmp_path, PLAN)
    assert not ledger.is_passthrough and ledger.names == {}
    ledger.note_names({"track_id": "TR_1"})
    ledger.note_passthrough()
    ledger.release()
    again = RecordingJournal.take_over(ledger.folder)
    again.release()
    assert again.is_passthrough and again.names == {"track_id": "TR_1"}


def test_what_is_asked_without_end_leaves_room_for_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever administers a room changes its recorder as often as they like."""
    monkeypatch.setattr(recording_journal, "MAX_ASKED_BYTES", 20_000)
    ledger = RecordingJournal.create(tmp_path, PLAN)
    ledger.note_metadata('{"layout": "speaker"}')
    asks: list[Callable[[int], None]] = [
        lambda number: ledger.note_metadata('{"layout": "?title=' + "a" * 7000 + '"}'),
        lambda number: ledger.note_rules(EndRules(max_duration_s=number)),
        lambda number: ledger.note_marker(number, Marker("m" * 200, number, number)),
        lambda number: ledger.note_pause(number, Pause(number, number + 1)),
    ]
    for ask in asks:
        with pytest.raises(EgressError, match="too many changes were requested") as refused:
            for number in range(1000):
                ask(number)
        assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert (ledger.folder / NAME).stat().st_size < 25_000
    ledger.note(update(size_bytes=2))
    ledger.note_names({"track_id": "TR_1"})
    assert taken_over(ledger) == {(0, 0): update(size_bytes=2)}
