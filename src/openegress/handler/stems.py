"""Stems: each participant's voice in its own file, made from the recorded tracks after a recording ends."""

import functools
import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from openegress.core.deferred import FOLDER as DEFERRED
from openegress.core.deferred import TRACKS
from openegress.core.errors import EgressError
from openegress.core.events import FileUpdate, ImagesUpdate, SegmentsUpdate
from openegress.core.main_output import first_stored
from openegress.core.plan import Plan, TracksSource
from openegress.core.render import Render
from openegress.core.stems import CONTENT_TYPE, ending
from openegress.core.storages import StoragePlan
from openegress.core.units import S
from openegress.media import PacketSink
from openegress.media.meeting_file import MeetingFile
from openegress.output import Emit, Opening
from openegress.output.disk_thread import in_time, patience_s
from openegress.output.extra_files import ExtraFileStore
from openegress.output.file import voices
from openegress.output.file.voices import VoicesFile
from openegress.output.manifest import Records
from openegress.output.spool_file import disk_error
from openegress.request.output_names import sidecar_name
from openegress.source.room.stem_files import gains_db, measured_lufs, write_stems
from openegress.source.room.stem_mixer import voices as voices_of
from openegress.storage.uploader import Uploader

_log = logging.getLogger(__name__)

_FOLDER = "stems"
"""The folder of the stems, within the folder of the egress."""
_NICENESS = 19
"""The nice value of the thread that makes stems: recordings come first (sched(7))."""
_SLOWEST = 10
"""The longest that making stems may take on a fully loaded machine, relative to the length of the
recording."""

Told = FileUpdate | SegmentsUpdate | ImagesUpdate


class StemRecorder:
    """Makes the stems of one egress. Does nothing if the plan has none; runs on the event loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._opening: Opening | None = None
        self._voices: VoicesFile | None = None
        self._failure: EgressError | None = None
        self.is_settled = True
        """After finish(): the spool holds nothing that still waits."""

    def open(self, opening: Opening) -> None:
        """Opens the file of the voices, as media time zero is known. If this fails, the recording
        continues."""
        if self._plan.stems is None:
            return
        self._opening = opening
        if self._plan.render is Render.DEFERRED:
            return  # it is composed from tracks, which contain the voices
        try:
            self._voices = VoicesFile(opening)
        except EgressError as failure:
            self._failure = failure

    @property
    def of_packets(self) -> list[PacketSink]:
        """Sinks for the outputs' packets, if those are tracks of a room."""
        is_of_tracks = isinstance(self._plan.source, TracksSource)
        return [self._voices] if self._voices is not None and is_of_tracks else []

    @property
    def of_tracks(self) -> list[PacketSink]:
        """Sinks for a room's tracks, in addition to the picture composed from them."""
        return [self._voices] if self._voices is not None and not self.of_packets else []

    async def finish(
        self, told: Mapping[tuple[int, int], Told], uploader: Callable[[StoragePlan], Uploader], emit: Emit
    ) -> tuple[Records, EgressError | None]:
        """Stores the stems. Returns what was stored, and the error if some was not. `told`: the outputs' last
        updates."""
        if self._opening is None:
            return Records(), None
        self.is_settled = False
        failure = self._failure
        if self._voices is not None:
            try:
                await self._voices.finish()
            except EgressError as error:
                failure = error
        folder = Path(self._opening.spool)
        records, failed = await store_stems(
            folder, self._plan, self._opening.name_values, told, uploader, emit
        )
        self.is_settled = failed is None
        return records, failure or failed


async def store_stems(
    folder: Path,
    plan: Plan,
    values: Mapping[str, str],
    told: Mapping[tuple[int, int], Told],
    uploader: Callable[[StoragePlan], Uploader],
    emit: Emit,
) -> tuple[Records, EgressError | None]:
    """Makes the stems and stores them. Returns what was stored, and the error, if any. `folder` is the
    egress' own in the spool, `values` are those of placeholders."""
    first, source = first_stored(plan), _source(folder, plan)
    if first is None or plan.stems is None or not source.exists() or not source.stat().st_size:
        return Records(), None
    index, output = first
    target = uploader(output.storage)
    store = ExtraFileStore(target)
    try:
        length_ns = _length_ns(index, told)
        patience = patience_s(source.stat().st_size) + _SLOWEST * length_ns / S
        making = functools.partial(_made, source, folder / _FOLDER, plan, length_ns)
        for identity, local in (await in_time("stems", making, patience)).items():
            name = sidecar_name(output, values, ending(identity, plan.stems))
            await store.put(local, name, CONTENT_TYPE[plan.stems])
    except EgressError as error:
        store.errors.append(error)
    finally:
        await target.close()
    store.tell(index, emit)
    return store.records, store.failure


def _made(source: Path, folder: Path, plan: Plan, length_ns: int) -> dict[str, Path]:
    """Makes the stems. Returns files by identity. Blocking. Raises EgressError."""
    assert plan.stems is not None
    os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)  # the priority of this thread only
    file = MeetingFile(source)
    length_ns = length_ns or file.end_ns
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from error
    paths = _paths(voices_of(file), folder, plan.stems.value)
    target = plan.loudness_lufs
    gains = gains_db(measured_lufs(file, length_ns), target) if target else {}
    write_stems(file, paths, plan.stems, length_ns, gains)
    return paths


def _paths(identities: Collection[str], folder: Path, extension: str) -> dict[str, Path]:
    """The files to make, by identity. They have numbers, as names of people are not safe file names."""
    return {identity: folder / f"{number}.{extension}" for number, identity in enumerate(identities, 1)}


def _source(folder: Path, plan: Plan) -> Path:
    if plan.render is Render.DEFERRED:
        return folder / DEFERRED / TRACKS
    return folder / voices.FOLDER / voices.NAME


def _length_ns(index: int, told: Mapping[tuple[int, int], Told]) -> int:
    """Length of the recording, all parts together; 0: nothing of it is stored."""
    updates = [each for (output, _), each in told.items() if output == index]
    return sum(each.duration_ns for each in updates if isinstance(each, FileUpdate | SegmentsUpdate))
