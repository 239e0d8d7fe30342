"""Stores the manifest of an egress beside each of its outputs that wants one."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from openegress.core import plan, storages
from openegress.core.errors import EgressError
from openegress.core.events import BackupUsed, ManifestStored
from openegress.core.left_out import LeftOut
from openegress.core.marker import Marker
from openegress.core.restart import Restart
from openegress.core.shown_url import redact_page
from openegress.output import Emit
from openegress.output.content_types import JSON_TYPE
from openegress.output.disk_thread import in_time
from openegress.output.manifest import ClipRecord, Header, Pause, Records, build, name_of
from openegress.output.spool_file import disk_error
from openegress.request import naming
from openegress.request.output_names import manifest_name
from openegress.storage.uploader import Uploader


def header_of(
    plan_: plan.Plan,
    values: dict[str, str],
    started_at_ns: int,
    ended_at_ns: int,
    *,
    passthrough: bool = False,
    left_out: LeftOut | None = None,
    pauses: tuple[Pause, ...] = (),
    restarts: tuple[Restart, ...] = (),
    markers: tuple[Marker, ...] = (),
    clips: tuple[ClipRecord, ...] = (),
) -> Header:
    """Builds the header. `values` are those of the placeholders. `passthrough`: encoded frames were stored as
    they came."""
    source = plan_.source
    if plan_.part is not None:
        restarts = (*plan_.part.restarts_until(started_at_ns), *restarts)
    audio_id, video_id = _composed(source)
    return Header(
        egress_id=plan_.egress_id,
        part=plan_.part.mark if plan_.part is not None else "",
        room_id=plan_.room_id,
        room_name=plan_.room_name,
        url=redact_page(source.url) if isinstance(source, plan.WebSource) else "",
        started_at_ns=started_at_ns,
        ended_at_ns=ended_at_ns,
        publisher_identity=values.get("publisher_identity", ""),
        track_id=values.get("track_id", ""),
        track_kind=values.get("track_type", ""),
        track_source=values.get("track_source", ""),
        audio_track_id=audio_id,
        video_track_id=video_id,
        passthrough=passthrough,
        left_out=left_out or LeftOut(),
        pauses=pauses,
        restarts=restarts,
        markers=markers,
        clips=clips,
    )


def _composed(source: plan.Source) -> tuple[str, str]:
    """Returns the ids of the audio and the video track that a request combines; "" if it names none."""
    if not isinstance(source, plan.MediaSource):
        return "", ""
    audio = [route.value for route in source.audio if route.match == "track" and not route.exclude]
    video = source.video.track_id if isinstance(source.video, plan.TrackVideo) else ""
    return audio[0] if len(audio) == 1 else "", video


async def store_manifests(
    header: Header,
    outputs: Sequence[tuple[plan.Output, Records]],
    spool: str,
    values: dict[str, str],
    *,
    beside: Records | None = None,
    emit: Emit,
    uploader: Callable[[storages.StoragePlan], Uploader] = Uploader,
) -> None:
    """Stores <egress_id>.json beside each finished output whose plan wants one: one text, about all outputs.
    `beside`: other stored files to list. Emits ManifestStored for the first, and BackupUsed for each that
    went to a backup. Writes nothing for an egress that stored nothing. Raises the first EgressError after
    trying all; the manifest then stays in the spool."""
    records = [each for _, each in outputs]
    if not any(r.files or r.playlists or r.images for r in records):
        return
    local = Path(spool) / f"{name_of(header)}{naming.MANIFEST_EXTENSION}"
    await in_time(
        f"manifest {local.name}",
        functools.partial(_write, local, build(header, [*records, beside or Records()])),
    )
    failures: list[EgressError] = []
    places: list[tuple[storages.StoragePlan, str]] = []
    told = False
    for number, (each, _) in enumerate(outputs):
        path = manifest_name(each, name_of(header), values)
        if path is None or not isinstance(each, plan.FileOutput | plan.SegmentOutput | plan.ImageOutput):
            continue
        if (each.storage, path) in places:
            continue
        places.append((each.storage, path))
        target = uploader(each.storage)
        try:
            stored = await target.put(local, path, JSON_TYPE)
        except EgressError as error:
            failures.append(error)
            continue
        finally:
            await target.close()
        if stored.backup_used:
            emit(BackupUsed(number))
        if not told:
            told = True
            emit(ManifestStored(stored.location))
    if failures:
        raise failures[0]
    local.unlink(missing_ok=True)


def _write(local: Path, text: str) -> None:
    try:
        local.write_text(text, encoding="utf-8")
    except OSError as error:
        raise disk_error(error, local) from error
