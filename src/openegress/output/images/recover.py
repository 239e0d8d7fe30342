"""Finds images that a dead process has taken, and stores those that no storage has."""

import asyncio
import contextlib
from pathlib import Path

import msgspec

from openegress.core.events import ImagesUpdate
from openegress.output.content_types import IMAGE_TYPE
from openegress.output.manifest import FileRecord, ImageRecord, Records
from openegress.storage import backed_up
from openegress.storage.uploader import Uploader

_TAKEN = "taken.jsonl"
INDEX = "storyboard.vtt"
"""Local name of the file that lists the thumbnails of a storyboard by time."""
_INDEX_TYPE = "text/vtt"


class Taken(msgspec.Struct, frozen=True):
    """An image that was made; its file is gone if it was stored."""

    local: str
    """File name in the output's folder."""
    path: str
    """Path in the storage."""
    taken_at_ns: int


def note_taken(folder: Path, taken: Taken) -> None:
    """Appends an image to the list. Raises OSError when the disk refuses."""
    with (folder / _TAKEN).open("ab") as file:
        file.write(msgspec.json.encode(taken) + b"\n")


async def store_left_images(
    folder: Path, told: ImagesUpdate, uploader: Uploader
) -> tuple[ImagesUpdate, Records, bool]:
    """Stores the images. Returns (the last update, what is stored, whether in the backup). Raises EgressError
    when something could not be stored."""
    backup_used = False
    records: dict[str, ImageRecord] = {}
    files: tuple[FileRecord, ...] = ()
    images = await asyncio.to_thread(read_taken, folder)
    on_backup = await asyncio.to_thread(backed_up.names, folder)
    for taken in images:
        local = folder / taken.local
        kind = _INDEX_TYPE if taken.local == INDEX else IMAGE_TYPE
        if local.exists():
            stored = await uploader.put(local, taken.path, kind, delete_local=True)
        else:
            stored = await uploader.locate(taken.path, on_backup=taken.local in on_backup)
        backup_used = backup_used or stored.backup_used
        if taken.local == INDEX:
            files = (FileRecord(taken.path, stored.location, stored.presign_error),)
            continue
        # A picture that overwrites another takes its place.
        records[taken.path] = ImageRecord(taken.path, taken.taken_at_ns, stored.location)
    ended_at_ns = told.ended_at_ns or max((t.taken_at_ns for t in images), default=told.started_at_ns)
    count = sum(taken.local != INDEX for taken in images)
    update = msgspec.structs.replace(told, image_count=count, ended_at_ns=ended_at_ns)
    return update, Records(files=files, images=tuple(records.values())), backup_used


def last_taken_ns(folder: Path) -> int:
    """Returns the unix ns of the last picture; 0: there was none. Blocking."""
    return max((taken.taken_at_ns for taken in read_taken(folder)), default=0)


def read_taken(folder: Path) -> list[Taken]:
    """Reads the list in order. Raises OSError, and msgspec.DecodeError for a damaged file. Blocking."""
    if not (folder / _TAKEN).exists():
        return []
    # The text after the last line end was being written when the process died.
    *lines, _ = (folder / _TAKEN).read_bytes().split(b"\n")
    images = []
    for line in lines:
        with contextlib.suppress(ValueError):  # damaged by the disk
            images.append(msgspec.json.decode(line, type=Taken))
    return images
