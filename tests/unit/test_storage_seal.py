"""Seals by which a worker knows the plans again that it gave away."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openegress.config.destination import SEAL
from openegress.core.errors import EgressError
from openegress.storage.seal import Seal


def test_a_later_life_knows_what_was_sealed_and_nothing_else(tmp_path: Path) -> None:
    seal = Seal(tmp_path / "spool").of(b"plan")
    later = Seal(tmp_path / "spool")
    assert later.fits(b"plan", seal)
    for plan, other in ((b"another", seal), (b"plan", ""), (b"plan", "0" * 64), (b"plan", "\ud800\u00e9")):
        assert not later.fits(plan, other)


def test_each_spool_has_a_key_of_its_own_that_the_user_alone_reads(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        Seal(folder / "spool").of(b"plan")
    assert (one / SEAL).read_bytes() != (other / SEAL).read_bytes()
    assert stat.S_IMODE((one / SEAL).stat().st_mode) == 0o600
    assert [path.name for path in one.iterdir()] == [SEAL]


def test_services_that_begin_together_have_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        seals = set(pool.map(lambda _: Seal(tmp_path / "spool").of(b"plan"), range(8)))
    assert len(seals) == 1


def test_a_spool_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(EgressError, match="the spool must be writable"):
        Seal(tmp_path / "missing" / "spool").of(b"plan")


def test_a_disk_without_hard_links_has_a_key_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refused)
    seal = Seal(tmp_path / "spool").of(b"plan")
    assert Seal(tmp_path / "spool").fits(b"plan", seal)
    assert [path.name for path in tmp_path.iterdir()] == [SEAL]


def test_a_disk_that_refuses_the_key_keeps_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(EgressError, match="full"):
        Seal(tmp_path / "spool").of(b"plan")
    assert not list(tmp_path.iterdir())
