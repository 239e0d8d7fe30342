"""Everything that a service leaves for others to read: files, and what its processes show of themselves."""

import base64
from collections.abc import Mapping
from pathlib import Path

import psutil

from testkit.sealed_frames import derived


def written(folder: Path) -> dict[str, bytes]:
    """Everything in files, and what the processes below this one show."""
    found = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for process in psutil.Process().children(recursive=True):
        for name in ("cmdline", "environ"):
            path = Path(f"/proc/{process.pid}/{name}")
            try:
                found[str(path)] = path.read_bytes()
            except OSError:
                continue  # ended meanwhile
    return found


def holding(found: Mapping[str, bytes], *secrets: bytes) -> list[str]:
    """The names of those that contain a secret, or a key derived from it, in any form."""
    every = [*secrets, *(derived(each) for each in secrets)]
    every += [form for each in every for form in (base64.b64encode(each), each.hex().encode())]
    return [name for name, text in found.items() for secret in every if secret in text]
