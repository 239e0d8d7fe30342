"""Measures a page's files on disk: databases, caches, and memory that the browser has moved there."""

import os
from pathlib import Path

ENTRY_BYTES = 4096
"""Bytes counted for each file and folder besides its content: a million empty ones fill a disk too."""
_BLOCK_BYTES = 512
"""The unit of st_blocks (stat(2))."""


def stored_bytes(folder: Path, enough_bytes: int) -> int:
    """Bytes of everything below `folder`, without following links. Stops counting beyond `enough_bytes`."""
    found, folders = 0, [str(folder)]
    while folders and found <= enough_bytes:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    found += ENTRY_BYTES + _taken_bytes(entry)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    if found > enough_bytes:
                        break
        except OSError:
            continue  # it is gone
    return found


def _taken_bytes(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
    except OSError:
        return 0  # it is gone
