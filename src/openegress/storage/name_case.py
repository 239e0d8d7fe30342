"""Finds whether a folder treats names that differ only in case as the same, like disks of Windows and
macOS."""

import os
import string
import tempfile
from pathlib import Path

_OTHER_CASE = str.maketrans(string.ascii_letters, string.ascii_uppercase + string.ascii_lowercase)


def is_folding(folder: str) -> bool:
    """Whether `folder` does so. A folder that does not exist yet will behave like the nearest one above it.
    False if it cannot be known. Blocking."""
    path = Path(folder)
    here = next((each for each in (path, *path.parents) if each.is_dir()), path)
    try:
        with os.scandir(here) as entries:
            for entry in entries:
                if (other := entry.name.translate(_OTHER_CASE)) != entry.name:
                    return _is_same(here / entry.name, here / other)
        with tempfile.NamedTemporaryFile(prefix=".openegress-", dir=here) as probe:
            name = Path(probe.name)
            return _is_same(name, name.with_name(name.name.translate(_OTHER_CASE)))
    except OSError:
        return False


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(one.lstat(), other.lstat())
    except FileNotFoundError:
        return False
