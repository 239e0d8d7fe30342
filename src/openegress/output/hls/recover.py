"""Recovers HLS segments that a dead process has left: completes the unfinished one, stores all, and ends the
playlists."""

import asyncio
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

from openegress.core import plan
from openegress.core.codecs import Container
from openegress.core.errors import EgressError, Phase, internal
from openegress.core.events import SegmentsUpdate
from openegress.core.marker import Marker
from openegress.core.units import S
from openegress.media.duration import span_ns
from openegress.media.mp4 import whole_fragments_bytes
from openegress.output.content_types import PLAYLIST_TYPE
from openegress.output.hls import layout, playlist
from openegress.output.manifest import FileRecord, PlaylistRecord, Records
from openegress.output.spool_file import replace
from openegress.request import naming
from openegress.request.output_names import segment_names
from openegress.storage import backed_up
from openegress.storage.uploader import Stored, Uploader

_log = logging.getLogger(__name__)

LONGEST_S = 86_400.0
"""Limit for a segment: a larger number is damage."""
TS_PACKET_BYTES = 188
"""Size of an MPEG-TS packet (ISO/IEC 13818-1 2.4.3.2)."""


@dataclass(frozen=True, slots=True)
class Left:
    """A segment that was made; its file is gone if it was stored."""

    local: Path
    entry: playlist.Segment


@dataclass(frozen=True, slots=True)
class Kept:
    """The result of recovering segments."""

    update: SegmentsUpdate
    records: Records
    backup_used: bool


async def store_left_segments(
    folder: Path,
    output: plan.SegmentOutput,
    told: SegmentsUpdate,
    values: dict[str, str],
    uploader: Uploader,
    markers: Sequence[Marker] = (),
) -> Kept | None:
    """Completes and stores the segments. `told` names the playlists, `values` are those of the placeholders.
    Returns None if no frame was recorded. Raises EgressError when something could not be stored."""
    prefix = segment_names(output, values).prefix
    made = await asyncio.to_thread(_made, folder)
    segments = await asyncio.to_thread(_find, folder, output, prefix, told.started_at_ns, made)
    if not segments and not await asyncio.to_thread(_bytes_of, folder, output.container):
        return None
    if not segments:
        raise internal(f"nothing playable was recorded of {told.playlist_name}", Phase.RECORDING)
    entries = [left.entry for left in segments]
    size_bytes = await asyncio.to_thread(_size, made, segments)
    promise = promised(made, entries, output.segment_s)
    # The unfinished one now counts as made: a later recovery finds it in the list, stored or not.
    try:
        await asyncio.to_thread(_list, folder, entries, promise, size_bytes)
    except EgressError as error:
        # On a full disk, storing it makes room.
        _log.warning("segments are stored unlisted", extra={"folder": str(folder), "error": error.text})
    storing = _Storing(folder, told, uploader)
    files = await storing.store_segments(segments, prefix, output.container)
    locations = await storing.store_playlists(entries, promise, markers)
    duration_ns = sum(entry.duration_ns for entry in entries)
    update = SegmentsUpdate(
        output=told.output,
        playlist_name=told.playlist_name,
        live_playlist_name=told.live_playlist_name,
        playlist_location=locations[playlist.PlaylistKind.FULL],
        live_playlist_location=locations.get(playlist.PlaylistKind.LIVE, ""),
        segment_count=len(entries),
        started_at_ns=told.started_at_ns,
        ended_at_ns=told.ended_at_ns or told.started_at_ns + duration_ns,
        duration_ns=duration_ns,
        size_bytes=size_bytes,
    )
    record = PlaylistRecord(locations[playlist.PlaylistKind.FULL], files)
    return Kept(update, Records(playlists=(record,)), storing.backup_used)


class _Storing:
    """Stores what `folder` holds, beside the playlists that `told` names."""

    def __init__(self, folder: Path, told: SegmentsUpdate, uploader: Uploader) -> None:
        self._folder = folder
        self._told = told
        self._directory = told.playlist_name[: told.playlist_name.rfind("/") + 1]
        self._uploader = uploader
        self.backup_used = False

    async def store_segments(
        self, segments: Sequence[Left], prefix: str, container: Container
    ) -> tuple[FileRecord, ...]:
        """Stores initialisation segments and segments; those already stored are only located."""
        on_backup = await asyncio.to_thread(backed_up.names, self._folder)
        kind = "video/iso.segment" if container is Container.FMP4 else "video/mp2t"
        for number, init in enumerate(await asyncio.to_thread(layout.inits, self._folder)):
            await self._put(init, self._directory + naming.init_file(prefix, number), kind, keep_local=True)
        files = []
        for left in segments:
            path = self._directory + left.entry.uri
            if left.local.exists():
                stored = await self._put(left.local, path, kind)
            else:
                stored = self._noted(
                    await self._uploader.locate(path, on_backup=left.local.name in on_backup)
                )
            files.append(FileRecord(path, stored.location, stored.presign_error))
        return tuple(files)

    async def store_playlists(
        self,
        entries: Sequence[playlist.Segment],
        promise: playlist.PlaylistLimits,
        markers: Sequence[Marker],
    ) -> dict[playlist.PlaylistKind, str]:
        """Stores the ended playlists, and returns their locations. The live one only if it was asked for."""
        names = {
            playlist.PlaylistKind.FULL: self._told.playlist_name,
            playlist.PlaylistKind.LIVE: self._told.live_playlist_name,
        }
        locations: dict[playlist.PlaylistKind, str] = {}
        for kind, name in names.items():
            if name:
                text = playlist.render(kind, entries, promise=promise, ended=True, markers=markers)
                local = self._folder / f"recovered-{kind.name.lower()}.m3u8"
                await asyncio.to_thread(local.write_text, text)
                locations[kind] = (await self._put(local, name, PLAYLIST_TYPE)).location
        return locations

    async def _put(self, local: Path, path: str, kind: str, *, keep_local: bool = False) -> Stored:
        return self._noted(await self._uploader.put(local, path, kind, delete_local=not keep_local))

    def _noted(self, stored: Stored) -> Stored:
        self.backup_used = self.backup_used or stored.backup_used
        return stored


def _made(folder: Path) -> str:
    """Reads the playlist of the segments that were made; empty when none was finished."""
    made = folder / layout.MADE
    return made.read_text() if made.exists() else ""


def _bytes_of(folder: Path, container: Container) -> int:
    """Returns the size of the remaining segments. One without a complete packet or fragment is removed."""
    return sum(path.stat().st_size for path in folder.glob(f"*.{container.value}"))


def _size(made: str, segments: Sequence[Left]) -> int:
    """Returns the size of all segments, most of which are already stored and removed: those listed in `made`,
    and the rest of the unfinished one."""
    unfinished = segments[len(parse_entries(made)) :]
    return layout.made_bytes(made) + sum(left.local.stat().st_size for left in unfinished)


def _list(
    folder: Path, entries: Sequence[playlist.Segment], promise: playlist.PlaylistLimits, size_bytes: int
) -> None:
    text = playlist.render(playlist.PlaylistKind.FULL, entries, promise=promise)
    replace(folder / layout.MADE, layout.made(text, size_bytes))


def promised(text: str, entries: Sequence[playlist.Segment], segment_s: int) -> playlist.PlaylistLimits:
    """Returns the claims in the playlists of the dead process. Without a playlist nothing was published, and
    the true claims of the only segment may be made."""
    found = re.search("#EXT-X-TARGETDURATION:([0-9]{1,6})$", text, re.MULTILINE)
    longest_s = max((playlist.rounded_s(entry.duration_ns) for entry in entries), default=0)
    target_s = max(int(found[1]) if found else segment_s, longest_s)
    return playlist.PlaylistLimits(target_s, target_s * S, "#EXT-X-INDEPENDENT-SEGMENTS" in text)


def find_left(folder: Path, output: plan.SegmentOutput, prefix: str, media_zero_ns: int) -> list[Left]:
    """Returns the segments in order, after removing the unplayable end of the last one. Blocking."""
    return _find(folder, output, prefix, media_zero_ns, _made(folder)) if folder.is_dir() else []


def left_bytes(folder: Path, left: Sequence[Left]) -> int:
    """Returns the size of everything that find_left() found, stored or not. Blocking."""
    return _size(_made(folder), left)


def _find(folder: Path, output: plan.SegmentOutput, prefix: str, media_zero_ns: int, text: str) -> list[Left]:
    """Returns the segments in order; `text` is the playlist of the finished ones."""
    extension = f".{output.container.value}"
    found = [
        Left(layout.segment(folder, index, extension), entry)
        for index, entry in enumerate(parse_entries(text))
    ]
    last = found[-1].entry if found else None
    continued_ns = last.started_at_ns + last.duration_ns if last else media_zero_ns
    broken_ns = layout.begun_at_ns(text)
    begun_ns = broken_ns or continued_ns
    local = layout.segment(folder, len(found), extension)
    # The last one reached the disk before any media that needs it.
    inits = layout.inits(folder)
    is_readable = local.exists() and (output.container is not Container.FMP4 or bool(inits))
    duration_ns = _cut(local, inits[-1] if inits else None) if is_readable else 0
    if duration_ns:
        uri = naming.segment_file(prefix, len(found), begun_ns, output.timestamp_suffix, extension)
        init = naming.init_file(prefix, len(inits) - 1) if inits else ""
        has_new_format = last is not None and init != last.init
        breaks = has_new_format or bool(broken_ns)
        found.append(Left(local, playlist.Segment(uri, duration_ns, begun_ns, breaks, init)))
    return found


def _cut(local: Path, init: Path | None) -> int:
    """Removes the unplayable end of a segment that was being written, and returns the length of the rest, in
    ns. `init` is the initialisation segment of fMP4."""
    if init is not None:
        os.truncate(local, whole_fragments_bytes(local))
        whole = local.with_name("unfinished.mp4")
        whole.write_bytes(init.read_bytes() + local.read_bytes())
    else:
        os.truncate(local, local.stat().st_size // TS_PACKET_BYTES * TS_PACKET_BYTES)
        whole = local
    start_ns, end_ns = span_ns(whole)
    return max(0, end_ns - start_ns)


def parse_entries(text: str) -> list[playlist.Segment]:
    """Parses the segments of a playlist that playlist.render made. Damaged lines are ignored."""
    entries: list[playlist.Segment] = []
    duration_ns = started_at_ns = 0
    discontinuity = False
    init = ""
    for line in text.splitlines():
        tag, _, value = line.partition(":")
        match tag:
            case "#EXT-X-PROGRAM-DATE-TIME":
                started_at_ns = _time_ns(value) or started_at_ns
            case "#EXTINF":
                duration_ns = _duration_ns(value.rstrip(","))
            case "#EXT-X-DISCONTINUITY":
                discontinuity = True
            case "#EXT-X-MAP":
                init = unquote(value.removeprefix('URI="').removesuffix('"'))
            case _ if line and not line.startswith("#"):
                entries.append(
                    playlist.Segment(unquote(line), duration_ns, started_at_ns, discontinuity, init)
                )
                discontinuity = False
    return entries


def _time_ns(text: str) -> int:
    """Parses a time; 0 if it is none."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * S)
    except (ValueError, OverflowError):
        return 0


def _duration_ns(text: str) -> int:
    """Parses a duration; 0 if no segment can have it."""
    try:
        seconds = float(text)
    except ValueError:
        return 0
    return round(seconds * S) if 0 < seconds < LONGEST_S else 0
