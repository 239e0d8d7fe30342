"""Locks between processes; here between descriptors, which the kernel does not tell apart from them."""

import os
from pathlib import Path

import pytest

from openegress.core.file_lock import lock


def test_one_at_a_time_until_it_is_closed(tmp_path: Path) -> None:
    held = lock(tmp_path / "a", os.O_CREAT)
    assert held is not None
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert lock(tmp_path / "a") is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "what it could not lock is closed"
    os.close(held)
    again = lock(tmp_path / "a", wait=True)
    assert again is not None
    os.close(again)


def test_only_its_owner_may_open_what_it_makes(tmp_path: Path) -> None:
    held = lock(tmp_path / "a", os.O_CREAT)
    assert held is not None and (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    os.close(held)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lock(tmp_path / "a")
