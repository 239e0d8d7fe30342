"""The journal: what it keeps over a kill, and who may read it."""

import errno
import os
import stat
from pathlib import Path

import pytest

from openegress.core.errors import Code, EgressError
from openegress.storage.journal import MAX_BYTES, NAME, Journal

PLAN = b"\x00\xffplan with a secret"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.create(tmp_path, "EG_1", PLAN)


def test_what_was_written_is_read_back(journal: Journal) -> None:
    journal.note("started_at_ns", 1_700_000_000_000_000_001)
    journal.note("room_name", "a")
    journal.note("room_name", "b")
    again = Journal.load(journal.folder)
    assert (again.egress_id, again.plan) == ("EG_1", PLAN)
    assert again.facts == {"started_at_ns": 1_700_000_000_000_000_001, "room_name": "b"}


def test_only_the_owner_reads_it(journal: Journal) -> None:
    journal.note("k", 1)
    assert stat.S_IMODE((journal.folder / NAME).stat().st_mode) == 0o600


def test_a_disk_that_took_half_a_line_does_not_spoil_the_next(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def full(fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EgressError, match="must be writable and have space"):
        journal.note("lost", 1)
    assert calls
    monkeypatch.setattr(os, "fsync", real)
    journal.note("kept", 2)
    assert Journal.load(journal.folder).facts == {"kept": 2} == journal.facts


@pytest.mark.parametrize("kept_bytes", [0, 1, 20, -1])
def test_torn_last_line_is_dropped_and_writing_goes_on(journal: Journal, kept_bytes: int) -> None:
    journal.note("before", 1)
    before = (journal.folder / NAME).read_bytes()
    journal.note("stored", "https://b/a.mp4")
    whole = (journal.folder / NAME).read_bytes()
    end = len(before) + kept_bytes if kept_bytes >= 0 else len(whole) - 1
    (journal.folder / NAME).write_bytes(whole[:end])
    assert Journal.load(journal.folder, mends=False).facts == {"before": 1}
    assert (journal.folder / NAME).read_bytes() == whole[:end], "somebody may be about to write the rest"
    again = Journal.load(journal.folder)
    assert again.facts == {"before": 1}
    again.note("after", True)
    assert Journal.load(journal.folder).facts == {"before": 1, "after": True}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated"),
        (b"not json\n", "malformed"),
        (b'{"is":"opened","version":9,"egress_id":"EG_1","plan":""}\n', "of version 9"),
        (b'{"is":"opened","version":1,"egress_id":"EG_1","plan":""}\ntorn\n{"is":"noted"}\n', "line 2"),
    ],
)
def test_unusable_journal_says_why(journal: Journal, content: bytes, words: str) -> None:
    (journal.folder / NAME).write_bytes(content)
    with pytest.raises(EgressError, match=words) as raised:
        Journal.load(journal.folder)
    assert raised.value.code is Code.DATALOSS


def test_missing_journal(tmp_path: Path) -> None:
    with pytest.raises(EgressError, match="No such file"):
        Journal.load(tmp_path / "EG_none")


def test_find_lists_folders_with_a_journal(tmp_path: Path) -> None:
    assert Journal.find(tmp_path / "none") == []
    for egress_id in ("EG_b", "EG_a"):
        Journal.create(tmp_path, egress_id, PLAN)
    (tmp_path / "other").mkdir()
    assert [folder.name for folder in Journal.find(tmp_path)] == ["EG_b", "EG_a"]


def test_finish_removes_all_of_it(journal: Journal) -> None:
    (journal.folder / "a.mp4").write_bytes(b"recorded")
    journal.finish()
    assert not journal.folder.exists()
    journal.finish()


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"a file")
    with pytest.raises(EgressError, match="spool must be writable"):
        Journal.create(tmp_path / "spool", "EG_1", PLAN)


@pytest.mark.parametrize(
    "line", [b'{"is":"\xef\x28"}', b'{"is":"noted","key":"k","value":"\xff"}', b"[" * 10_000, b"\x00"]
)
def test_a_journal_that_the_disk_has_spoilt_is_named(journal: Journal, line: bytes) -> None:
    """Not a journal's trouble alone: whoever looks for what was left goes on with the next."""
    with (journal.folder / NAME).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(EgressError, match="line 2"):
        Journal.load(journal.folder)


def test_a_journal_that_is_too_large_to_be_one_is_not_read(journal: Journal) -> None:
    os.truncate(journal.folder / NAME, MAX_BYTES + 1)
    with pytest.raises(EgressError, match="more than a recording ever notes"):
        Journal.load(journal.folder)
