"""What a disk's refusal is called, and files that take no more after one."""

import errno
from pathlib import Path

import pytest

from openegress.core.errors import Code, EgressError, Fault
from openegress.output.spool_file import SpoolFile, disk_error, folder


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (errno.ENOSPC, Code.RESOURCE_EXHAUSTED, "is full"),
        (errno.EDQUOT, Code.RESOURCE_EXHAUSTED, "is full"),
        (errno.EFBIG, Code.RESOURCE_EXHAUSTED, "largest size"),
        (errno.EACCES, Code.PERMISSION_DENIED, "may not write"),
        (errno.EROFS, Code.PERMISSION_DENIED, "may not write"),
        (errno.EIO, Code.INTERNAL, "cannot write"),
    ],
)
def test_each_refusal_says_what_to_do(number: int, code: Code, says: str) -> None:
    error = disk_error(OSError(number, "as the system says"), Path("/spool/EG_1/file-0/recording.mp4"))
    assert (error.code, error.fault) == (code, Fault.SERVICE)
    assert says in error.message


def test_a_file_takes_nothing_after_a_failed_write(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to("/dev/full")
    file = SpoolFile(tmp_path / "file")
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            file.write(b"data")
    assert file.closed
    assert file.size_bytes == 0
    file.release()


def test_a_size_is_the_farthest_byte_written(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "file")
    file.write(b"123456")
    file.seek(0)
    file.write(b"ab")
    assert (file.size_bytes, file.tell()) == (6, 2)
    file.release()
    assert (tmp_path / "file").read_bytes() == b"ab3456"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").touch()
    with pytest.raises(EgressError, match="in-the-way"):
        folder(str(tmp_path), "in-the-way")
