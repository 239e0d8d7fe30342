"""Claims numbers of displays, so that no two recordings have the same one, whatever containers they run in.

X servers find a free number by the sockets of their network namespace and by process ids in lock files.
Workers in separate containers that share a temporary folder see neither of each other, and would take each
other's display away. A lock on a file (flock) holds across namespaces, and ends with its process.
"""

import os
import random
from pathlib import Path

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.file_lock import lock

SOCKETS = Path("/tmp/.X11-unix")
"""The folder where X servers and their clients look, whatever TMPDIR is; the parent folder has the lock files
of servers."""
CLAIMS = "openegress-display-"
NUMBERS = range(1_000, 50_000)
"""Numbers above those that people and display managers use, and small enough to have a TCP port."""
ATTEMPTS = 100


class DisplayNumber:
    """A number that is ours from claim() to release()."""

    def __init__(self, value: int, claim: Path, fd: int) -> None:
        self.value = value
        self._claim = claim
        self._fd = fd

    @classmethod
    def claim(cls, folder: Path = SOCKETS.parent) -> "DisplayNumber":
        """Claims a free number. Raises EgressError if no file can be created in the folder."""
        _sweep(folder)
        for value in random.sample(NUMBERS, ATTEMPTS):
            path = folder / f".{CLAIMS}{value}"
            try:
                fd = _locked(path, os.O_CREAT)
            except PermissionError:
                continue  # another user's
            except OSError as error:
                raise EgressError(
                    Code.UNAVAILABLE,
                    f"no display: {path} cannot be made: {error.strerror}; {folder} has to be writable",
                    fault=Fault.SERVICE,
                    phase=Phase.BROWSER_START,
                ) from error
            if fd is None:
                continue
            if _is_used(value):
                os.close(fd)
                path.unlink(missing_ok=True)
                continue
            return cls(value, path, fd)
        raise EgressError(
            Code.UNAVAILABLE,
            f"no display is free: {ATTEMPTS} numbers were tried",
            fault=Fault.SERVICE,
            phase=Phase.BROWSER_START,
        )

    def release(self) -> None:
        """Releases the number. Removes the file first, so that a process that has it open sees that it is not
        claimed. Idempotent."""
        if self._fd >= 0:
            self._claim.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def _locked(path: Path, flags: int) -> int | None:
    """Opens and locks the file. Returns its descriptor; None if another process has the lock, or removed the
    file meanwhile. Raises OSError."""
    fd = lock(path, os.O_NOFOLLOW | flags)
    if fd is None:
        return None
    try:
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _is_used(value: int) -> bool:
    """Whether an X server that is not ours uses the number."""
    return (SOCKETS / f"X{value}").exists() or (SOCKETS.parent / f".X{value}-lock").exists()


def _sweep(folder: Path) -> None:
    """Removes the claims that killed processes have left, and the sockets and locks of their servers."""
    for path in folder.glob(f".{CLAIMS}*"):
        try:
            fd = _locked(path, 0)
        except OSError:
            continue  # another user's, or just removed
        if fd is None:
            continue
        value = path.name.removeprefix(f".{CLAIMS}")
        for left in (SOCKETS / f"X{value}", SOCKETS.parent / f".X{value}-lock", path):
            try:
                left.unlink(missing_ok=True)
            except OSError:
                pass  # the browser's user may own it; the number is skipped
        os.close(fd)
