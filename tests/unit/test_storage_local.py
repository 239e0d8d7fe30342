"""Local folder: what a path may be, what appears there, and what never does."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.storages import LocalStorage
from openegress.storage import open_storage
from openegress.storage.local import COPIED_BELOW_BYTES, LocalFolder, failure, parts_below


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "spooled.mp4"
    path.write_bytes(b"recorded")
    return path


@pytest.fixture
def umask_027() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a.mp4", ("a.mp4",)),
        ("d/e/a.mp4", ("d", "e", "a.mp4")),
        ("d//./a.mp4", ("d", "a.mp4")),
        ("/a.mp4", ("a.mp4",)),
        ("/out/d/a.mp4", ("d", "a.mp4")),
        ("/outside/a.mp4", ("outside", "a.mp4")),
        ("réunion {x} #1.mp4", ("réunion {x} #1.mp4",)),
    ],
)
def test_paths_below_the_root(path: str, parts: tuple[str, ...]) -> None:
    assert parts_below(Path("/out"), path) == parts


@pytest.mark.parametrize("path", ["", ".", "/", "/out", "../a", "d/../../a", "/out/../a", "/../a", "a\0b"])
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(EgressError) as raised:
        parts_below(Path("/out"), path)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert repr(path) in raised.value.message


async def test_location_is_the_absolute_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    storage = await open_storage(LocalStorage(root="out"))
    assert storage.location("d/a.mp4") == str(root / "d/a.mp4")
    assert await storage.presign("d/a.mp4", 60) == str(root / "d/a.mp4")


@pytest.mark.parametrize(
    ("size_bytes", "other_disk", "linked"),
    [(8, False, False), (COPIED_BELOW_BYTES, False, True), (COPIED_BELOW_BYTES, True, False)],
)
async def test_put_replaces_whole_and_leaves_the_spool(
    root: Path,
    recording: Path,
    size_bytes: int,
    other_disk: bool,
    linked: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = b"recorded" * (size_bytes // 8)
    recording.write_bytes(content)
    if other_disk:

        def no_link(*args: object, **kwargs: object) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", no_link)
    storage = LocalFolder(LocalStorage(root=str(root)))
    (root / "d").mkdir(parents=True)
    (root / "d/a.mp4").write_bytes(b"what was there before, and longer")
    for _ in range(2):
        await storage.put(recording, "d/a.mp4", "video/mp4")
        assert (root / "d/a.mp4").read_bytes() == content
        assert [entry.name for entry in (root / "d").iterdir()] == ["a.mp4"]
    assert await storage.size("d/a.mp4") == size_bytes
    assert ((root / "d/a.mp4").stat().st_ino == recording.stat().st_ino) is linked
    recording.unlink()
    assert (root / "d/a.mp4").read_bytes() == content


async def test_a_small_file_may_be_written_anew_in_place(root: Path, recording: Path) -> None:
    storage = LocalFolder(LocalStorage(root=str(root)))
    await storage.put(recording, "live.m3u8", "application/x-mpegurl")
    recording.write_bytes(b"half")
    assert (root / "live.m3u8").read_bytes() == b"recorded"


@pytest.mark.usefixtures("umask_027")
async def test_folders_are_made_with_the_umask(root: Path, recording: Path) -> None:
    await LocalFolder(LocalStorage(root=str(root))).put(recording, "d/e/a.mp4", "video/mp4")
    assert [oct((root / name).stat().st_mode & 0o777) for name in ("d", "d/e")] == ["0o750", "0o750"]


@pytest.mark.parametrize("path", ["link/a.mp4", "d/link/a.mp4"])
async def test_links_below_the_root_are_not_followed(root: Path, recording: Path, path: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "d").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "d/link").symlink_to(outside)
    storage = LocalFolder(LocalStorage(root=str(root)))
    with pytest.raises(EgressError, match="symbolic link"):
        await storage.check(path)
    with pytest.raises(EgressError, match="symbolic link"):
        await storage.put(recording, path, "video/mp4")
    assert list(outside.iterdir()) == []


async def test_a_link_in_the_files_place_is_replaced_not_followed(root: Path, recording: Path) -> None:
    target = root.parent / "precious"
    target.write_bytes(b"precious")
    root.mkdir()
    (root / "a.mp4").symlink_to(target)
    await LocalFolder(LocalStorage(root=str(root))).put(recording, "a.mp4", "video/mp4")
    assert target.read_bytes() == b"precious"
    assert not (root / "a.mp4").is_symlink()


async def test_check_leaves_nothing(root: Path) -> None:
    storage = LocalFolder(LocalStorage(root=str(root)))
    await storage.check("d/e/a.mp4")
    assert list(root.iterdir()) == []
    (root / "d").mkdir()
    await storage.check("d/e/a.mp4")
    assert list((root / "d").iterdir()) == []


async def test_check_tells_of_a_file_in_a_folders_place(root: Path) -> None:
    (root / "d").mkdir(parents=True)
    (root / "d/e").write_bytes(b"")
    with pytest.raises(EgressError, match="must be a folder"):
        await LocalFolder(LocalStorage(root=str(root))).check("d/e/f/a.mp4")


async def test_check_refuses_a_folder_in_the_files_place(root: Path) -> None:
    (root / "a.mp4").mkdir(parents=True)
    with pytest.raises(EgressError, match="existing folder") as raised:
        await LocalFolder(LocalStorage(root=str(root))).check("a.mp4")
    assert raised.value.phase is Phase.STORAGE_CHECK


async def test_check_tells_of_a_root_that_is_a_file(root: Path) -> None:
    root.write_bytes(b"")
    with pytest.raises(EgressError, match=r"cannot write .* below"):
        await LocalFolder(LocalStorage(root=str(root))).check("a.mp4")


async def test_failed_copy_leaves_no_part(
    root: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EgressError, match="No space left on device; free some space") as raised:
        await LocalFolder(LocalStorage(root=str(root))).put(recording, "a.mp4", "video/mp4")
    assert raised.value.fault is Fault.DESTINATION
    assert list(root.iterdir()) == []
    assert recording.exists()


@pytest.mark.parametrize(
    ("number", "fault", "code", "words"),
    [
        (errno.EACCES, Fault.CALLER, Code.INVALID_ARGUMENT, "make the folder writable for user"),
        (errno.EROFS, Fault.CALLER, Code.INVALID_ARGUMENT, "make the folder writable for user"),
        (errno.ELOOP, Fault.CALLER, Code.INVALID_ARGUMENT, "symbolic link"),
        (errno.ENAMETOOLONG, Fault.CALLER, Code.INVALID_ARGUMENT, "File name too long"),
        (errno.ENOSPC, Fault.DESTINATION, Code.RESOURCE_EXHAUSTED, "free some space"),
        (errno.EDQUOT, Fault.DESTINATION, Code.RESOURCE_EXHAUSTED, "free some space"),
        (errno.EIO, Fault.DESTINATION, Code.RESOURCE_EXHAUSTED, "Input/output error"),
    ],
)
def test_disk_errors(number: int, fault: Fault, code: Code, words: str) -> None:
    error = failure(OSError(number, os.strerror(number)), "d/a.mp4", Path("/out"), Phase.STORAGE_WRITE)
    assert (error.fault, error.code) == (fault, code)
    assert words in error.message
    assert "'d/a.mp4' below /out" in error.message
