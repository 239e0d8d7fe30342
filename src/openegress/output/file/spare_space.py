"""Claims space for a second copy of a recording on the disk of the recordings. Running recordings come first:
a full disk would end all of them."""

import ctypes
import errno
import os
import shutil
from pathlib import Path

RESERVED_BYTES = 256 * 1024 * 1024
"""Space that a copy leaves to running recordings: a few of them can write for minutes, in which others are
stored."""

DRAFT = ".final"
"""Suffix of a copy's name while it is written."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""Errors of disks that cannot reserve space. Two recordings that end together may count on the same space
there."""

_libc = ctypes.CDLL(None, use_errno=True)


class NoSpace(Exception):
    """The copy does not fit; the text says why."""


def draft_of(path: Path) -> Path:
    return path.with_name(path.name + DRAFT)


def claim(path: Path) -> None:
    """Creates the draft of `path`, for which the disk reserves its space: the recordings of a room end at the
    same moment, and do not see each other from within their cages. Raises NoSpace, or OSError; the draft must
    then be removed."""
    needed_bytes, free_bytes = path.stat().st_size, shutil.disk_usage(path.parent).free
    with draft_of(path).open("wb") as draft:
        fits = needed_bytes + RESERVED_BYTES <= free_bytes and _is_given(draft.fileno(), needed_bytes)
    # Other recordings may have taken their space meanwhile.
    if not fits or shutil.disk_usage(path.parent).free < RESERVED_BYTES:
        raise NoSpace(
            f"no space to rewrite its {needed_bytes} bytes: {free_bytes} are free on the disk of the "
            f"recordings, of which {RESERVED_BYTES} are for what is being recorded"
        )


def _is_given(draft: int, size_bytes: int) -> bool:
    """Reserves space for the draft. Returns False if the disk is full after all. Raises OSError."""
    try:
        _allocate(draft, max(1, size_bytes))
    except OSError as error:
        if error.errno in _FULL:
            return False
        if error.errno not in _CANNOT:
            raise
    return True


def _allocate(fd: int, size_bytes: int) -> None:
    """Calls fallocate(2). If a disk has no such call, os.posix_fallocate writes into every block instead,
    which takes as long as a copy. Raises OSError."""
    if _libc.fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size_bytes)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
