"""Stores the chapters of a recorded file, in a separate file beside it."""

from collections.abc import Sequence
from pathlib import Path

from openegress.core.marker import Marker
from openegress.media.chapters import webvtt
from openegress.output.disk_thread import in_time
from openegress.output.manifest import FileRecord
from openegress.output.spool_file import replace
from openegress.request.output_names import chapters_name
from openegress.storage.uploader import Uploader

VTT_TYPE = "text/vtt"


async def store_chapters(
    local: Path, filename: str, markers: Sequence[Marker], end_ns: int, uploader: Uploader
) -> tuple[FileRecord, ...]:
    """Stores the chapters of the file that is named `filename` in the storage and lay at `local`. Does
    nothing without markers. Raises EgressError."""
    if not markers:
        return ()
    beside, path = local.with_suffix(".vtt"), chapters_name(filename)
    await in_time(f"chapters of {filename}", lambda: replace(beside, webvtt(markers, end_ns)))
    stored = await uploader.put(beside, path, VTT_TYPE, delete_local=True)
    return (FileRecord(path, stored.location, stored.presign_error),)
