"""Which files of a folder in the spool went to the backup storage, for whoever finds them gone.

A file goes only when a storage has confirmed it, so one that is gone is stored; where, only this tells: a
storage that is away cannot be asked, and a write-only identity gets no answer. Of files that went where they
should nothing is noted.
"""

from pathlib import Path

import msgspec

from openegress.storage.journal import append, sync_folder

NAME = "backed-up.jsonl"


class Note(msgspec.Struct, frozen=True):
    local: str
    """File name in the folder."""
    on_backup: bool


def note(local: Path, *, on_backup: bool) -> None:
    """Keeps where `local` is, which is about to be removed; returns when that is on the disk. Raises
    OSError."""
    notes = local.with_name(NAME)
    is_first = not notes.exists()
    if is_first and not on_backup:
        return
    # A line that a power cut tore must not run on into this one.
    append(notes, b"\n" + msgspec.json.encode(Note(local.name, on_backup)) + b"\n")
    if is_first:
        sync_folder(notes.parent)


def names(folder: Path) -> frozenset[str]:
    """Of the files in `folder` that went to the backup, last time. Raises OSError."""
    on_backup: dict[str, bool] = {}
    try:
        lines = (folder / NAME).read_bytes().split(b"\n")
    except FileNotFoundError:
        return frozenset()
    for line in filter(None, lines):
        try:
            noted = msgspec.json.decode(line, type=Note)
        except ValueError:
            continue  # torn: its file was not removed yet
        on_backup[noted.local] = noted.on_backup
    return frozenset(name for name, there in on_backup.items() if there)
