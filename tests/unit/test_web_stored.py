"""What a page has put on the disk, as it is counted."""

from pathlib import Path

from openegress.source.web.stored import ENTRY_BYTES, stored_bytes

MIB = 1 << 20


def test_what_is_in_folders_and_what_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "data").write_bytes(b"x" * MIB)
    assert MIB < stored_bytes(tmp_path, 10 * MIB) < 2 * MIB
    for number in range(1000):
        (tmp_path / f"{number}").touch()
    assert stored_bytes(tmp_path, 10 * MIB) > MIB + 1000 * ENTRY_BYTES


def test_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "data").write_bytes(b"x" * MIB)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "inside" / "round").symlink_to(tmp_path / "inside")
    assert stored_bytes(tmp_path / "inside", 10 * MIB) < MIB


def test_holes_take_nothing(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1000 * MIB)
    assert stored_bytes(tmp_path, 10 * MIB) < MIB


def test_more_than_enough_is_not_counted_on(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}").write_bytes(b"x" * 8192)
    assert 50_000 < stored_bytes(tmp_path, 50_000) < 100_000


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    assert stored_bytes(tmp_path / "gone", MIB) == 0
