"""Numbers of displays, claimed so that no two recordings have one, whatever containers they run in.

X servers find a free number by sockets of their network namespace and by process ids in lock files. Workers
in containers of their own that share a temporary folder see neither of each other: they would take each
other's display away. A lock on a file (flock) holds across namespaces, and ends with its process.
"""

import os
import random
from pathlib import Path

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.file_lock import lock

SOCKETS = Path("/tmp/.X11-unix")
"""Where X servers and their clients look, whatever TMPDIR says; so are the lock files of servers."""
CLAIMS = "openegress-display-"
NUMBERS = range(1_000, 50_000)
"""Above those that people and display managers use; below where a number means no TCP port any more."""
ATTEMPTS = 100


class DisplayNumber:
    """A number that is ours from claim() to release()."""

    def __init__(self, value: int, claim: Path, fd: int) -> None:
        self.value = value
        self._claim = claim
        self._fd = fd

    @classmethod
    def claim(cls, folder: Path = SOCKETS.parent) -> "DisplayNumber":
        """Raises EgressError when the folder takes no file."""
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
        """Idempotent. The file is removed first, so that whoever has it open sees that it is not claimed."""
        if self._fd >= 0:
            self._claim.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def _locked(path: Path, flags: int) -> int | None:
    """A descriptor of the file, locked; None when somebody else has the lock, or removed the file meanwhile.
    Raises OSError."""
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
    """Used by an X server that is not ours."""
    return (SOCKETS / f"X{value}").exists() or (SOCKETS.parent / f".X{value}-lock").exists()


def _sweep(folder: Path) -> None:
    """Removes what killed processes have left: claims, and sockets and locks of their servers."""
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
