"""Whether a recording is rewritten beside others that need the disk."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from openegress.output.file import spare_space
from openegress.output.file.spare_space import RESERVED_BYTES, NoSpace, claim, draft_of


class Spool:
    """On a disk of which some is free."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.free_bytes = 0
        total = shutil.disk_usage(folder)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: total._replace(free=self.free_bytes))
        monkeypatch.setattr(spare_space, "_allocate", self.give)

    def give(self, fd: int, size_bytes: int) -> None:
        if size_bytes > self.free_bytes:
            raise OSError(errno.ENOSPC, "no space left")
        self.free_bytes -= size_bytes
        os.ftruncate(fd, size_bytes)

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
    with pytest.raises(NoSpace, match=f"its 600 bytes: {500 + RESERVED_BYTES} are free"):
        claim(second)
    draft_of(first).replace(first)
    spool.free_bytes += 1000  # of the former file
    claim(second)


def test_of_two_that_look_at_the_same_moment_both_leave_what_others_need(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spool.recording("EG_1", 1000)
    spool.free_bytes = 1500 + RESERVED_BYTES

    def at_once(fd: int, size_bytes: int) -> None:
        spool.give(fd, size_bytes)
        spool.free_bytes -= 600

    monkeypatch.setattr(spare_space, "_allocate", at_once)
    with pytest.raises(NoSpace):
        claim(path)


def test_a_disk_that_is_full_after_all(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = spool.recording("EG_1", 1000)
    spool.free_bytes = 1000 + RESERVED_BYTES

    def refuse(fd: int, size_bytes: int) -> None:
        raise OSError(errno.EDQUOT, "quota exceeded")

    monkeypatch.setattr(spare_space, "_allocate", refuse)
    with pytest.raises(NoSpace):
        claim(path)


def test_a_disk_that_gives_no_space_beforehand(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = spool.recording("EG_1", 1000)
    spool.free_bytes = 1000 + RESERVED_BYTES

    def refuse(fd: int, size_bytes: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(spare_space, "_allocate", refuse)
    claim(path)


def test_what_a_dead_process_had_copied_is_no_hindrance(spool: Spool) -> None:
    path = spool.recording("EG_1", 1000)
    draft_of(path).write_bytes(bytes(1900))
    spool.free_bytes = 1000 + RESERVED_BYTES
    claim(path)
    assert draft_of(path).read_bytes() == bytes(1000)


def test_the_disk_gives_the_space_itself(tmp_path: Path) -> None:
    path = tmp_path / "recording.mp4"
    path.write_bytes(bytes(3 * 2**20))
    claim(path)
    assert draft_of(path).stat().st_blocks * 512 >= 3 * 2**20
