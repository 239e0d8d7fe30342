"""Whether a recording is rewritten beside others that need the disk."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from openegress.output.file.spare_space import RESERVED_BYTES, NoSpace, claim, draft_of


class Spool:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.free_bytes = 0
        total = shutil.disk_usage(folder)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: total._replace(free=self.free_bytes))

    def recording(self, egress_id: str, size_bytes: int) -> Path:
        path = self.folder / egress_id / "file-0" / "recording.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size_bytes))
        return path


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    return Spool(tmp_path, monkeypatch)


@pytest.mark.parametrize("missing_bytes", [0, 1])
def test_a_copy_leaves_what_others_need(spool: Spool, missing_bytes: int) -> None:
    path = spool.recording("EG_1", 1000)
    spool.free_bytes = 1000 + RESERVED_BYTES - missing_bytes
    if missing_bytes:
        with pytest.raises(NoSpace, match=f"no space to rewrite its 1000 bytes: {spool.free_bytes} are free"):
            claim(path)
    else:
        claim(path)


def test_recordings_that_end_together_do_not_count_on_the_same_space(spool: Spool) -> None:
    first, second = spool.recording("EG_1", 1000), spool.recording("EG_2", 600)
    spool.free_bytes = 1500 + RESERVED_BYTES
    claim(first)
    with pytest.raises(NoSpace, match="of which 1000 are for others"):
        claim(second)
    draft_of(first).write_bytes(bytes(700))
    spool.free_bytes -= 700
    with pytest.raises(NoSpace, match="of which 300 are for others"):
        claim(second)
    draft_of(first).replace(first)
    claim(second)


def test_what_a_dead_process_had_copied_is_no_hindrance(spool: Spool) -> None:
    path = spool.recording("EG_1", 1000)
    draft_of(path).write_bytes(bytes(900))
    spool.free_bytes = 1000 + RESERVED_BYTES
    claim(path)
    assert draft_of(path).stat().st_size == 0


def test_another_egress_is_cleared_away_meanwhile(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a room, which end together."""
    path, other = spool.recording("EG_1", 1000), spool.recording("EG_2", 600)
    spool.free_bytes = 1000 + RESERVED_BYTES
    scandir = os.scandir

    def after_the_other_went(folder: Any) -> Any:
        if str(folder).endswith("EG_2"):
            shutil.rmtree(other.parent.parent)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", after_the_other_went)
    claim(path)
    monkeypatch.undo()
    assert draft_of(path).exists() and not other.parent.parent.exists()
