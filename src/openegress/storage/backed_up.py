"""Notes which files of a folder in the spool went to the backup storage, for a later recovery.

A file is removed only after a storage has confirmed it, so a missing file is stored. The notes name the
storage, because it cannot be asked: it may be down, or give a write-only identity no answer. Files that went
to the primary storage need no note.
"""

from pathlib import Path

import msgspec

from openegress.storage.journal import append, sync_folder

NAME = "backed-up.jsonl"


class BackupNote(msgspec.Struct, frozen=True):
    local: str
    """File name in the folder."""
    on_backup: bool


def note(local: Path, *, on_backup: bool) -> None:
    """Notes where `local` was stored, before it is removed. Returns when the note is on the disk. Raises
    OSError."""
    notes = local.with_name(NAME)
    is_first = not notes.exists()
    if is_first and not on_backup:
        return
    # The line break in front separates this line from one that a power cut left incomplete.
    append(notes, b"\n" + msgspec.json.encode(BackupNote(local.name, on_backup)) + b"\n")
    if is_first:
        sync_folder(notes.parent)


def names(folder: Path) -> frozenset[str]:
    """The names of the files in `folder` whose last upload went to the backup. Raises OSError."""
    on_backup: dict[str, bool] = {}
    try:
        lines = (folder / NAME).read_bytes().split(b"\n")
    except FileNotFoundError:
        return frozenset()
    for line in filter(None, lines):
        try:
            noted = msgspec.json.decode(line, type=BackupNote)
        except ValueError:
            continue  # an incomplete line: its file was not removed yet
        on_backup[noted.local] = noted.on_backup
    return frozenset(name for name, there in on_backup.items() if there)
