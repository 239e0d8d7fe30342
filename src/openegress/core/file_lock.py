"""Locks that the kernel releases when their process ends, however it ends."""

import fcntl
import os
from pathlib import Path


def lock(path: Path, flags: int = 0, *, wait: bool = False) -> int | None:
    """A descriptor of the file, which holds its lock until it is closed; None when another process holds the
    lock and `wait` is not set. `flags` are passed to open(), such as os.O_CREAT. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd
