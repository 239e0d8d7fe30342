"""What is noted of files that went to the backup, over kills and power cuts."""

from pathlib import Path

import pytest

from openegress.storage.backed_up import NAME, names, note


def test_only_files_on_the_backup_are_noted(tmp_path: Path) -> None:
    note(tmp_path / "0.ts", on_backup=False)
    assert list(tmp_path.iterdir()) == []
    assert names(tmp_path) == frozenset()
    note(tmp_path / "1.ts", on_backup=True)
    note(tmp_path / "2.ts", on_backup=False)
    assert names(tmp_path) == {"1.ts"}


def test_the_last_word_on_a_file_counts(tmp_path: Path) -> None:
    # It was not removed before its process died; the next one stored it where it should be.
    note(tmp_path / "1.ts", on_backup=True)
    note(tmp_path / "1.ts", on_backup=False)
    assert names(tmp_path) == frozenset()


@pytest.mark.parametrize("kept", range(1, 40))
def test_a_torn_line_spoils_no_other(tmp_path: Path, kept: int) -> None:
    note(tmp_path / "1.ts", on_backup=True)
    whole = (tmp_path / NAME).read_bytes()
    note(tmp_path / "2.ts", on_backup=True)
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[: len(whole) + kept])
    note(tmp_path / "3.ts", on_backup=True)
    assert names(tmp_path) - {"2.ts"} == {"1.ts", "3.ts"}
