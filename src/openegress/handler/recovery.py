"""Finishes what a handler that died has left in the spool: completes files, stores them, reports them."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from openegress.core import plan as plans
from openegress.core.errors import EgressError, internal
from openegress.core.events import (
    AnyEvent,
    BackupUsed,
    Ended,
    EndReason,
    FileUpdate,
    ImagesUpdate,
    Progress,
    SegmentsUpdate,
)
from openegress.core.marker import within
from openegress.core.plan import FileOutput, ImageOutput, Plan, SegmentOutput
from openegress.core.tasks import cancelled
from openegress.handler.cage import Confinement
from openegress.handler.composing import Composer, is_left_to_compose
from openegress.handler.recording_journal import RecordingJournal
from openegress.handler.stems import store_stems
from openegress.handler.uploaders import Uploaders
from openegress.media.duration import holds_media
from openegress.output.file.recover import store_left_file
from openegress.output.hls.recover import store_left_segments
from openegress.output.images.recover import store_left_images
from openegress.output.manifest import Records, extra_files_stored
from openegress.output.manifest_store import header_of, store_manifests
from openegress.output.sidecar.store import store_sidecars
from openegress.output.spool_file import HEADER_BYTES
from openegress.storage import open_storage
from openegress.storage.uploader import Connect

_log = logging.getLogger(__name__)

_ALIVE_S = 1.0  # the worker treats a silent handler as hung

Send = Callable[[AnyEvent], None]


class Recovery:
    """Recovers one egress. Run it once; what cannot be stored stays in the spool for a later try."""

    def __init__(
        self,
        plan: Plan,
        spool: Path,
        send: Send,
        confinement: Confinement,
        composer: Composer | None = None,
        connect: Connect = open_storage,
    ) -> None:
        self._plan = plan
        self._confinement = confinement
        self._spool = spool
        self._send = send
        self._uploaders = Uploaders(send, connect)
        self._composer = composer
        self._stopped = asyncio.Event()
        self._orphaned = False

    def stop(self, reason: EndReason, *, orphaned: bool = False) -> None:
        """Leaves what no storage takes now to the next recovery, and if `orphaned`, also the report of what
        was stored. Composing stops only when the service ends."""
        if self._composer is not None and reason is not EndReason.KILLED:
            return
        self._orphaned = self._orphaned or orphaned
        self._uploaders.stop_retrying()
        if self._composer is not None:
            self._composer.stop()
        self._stopped.set()

    async def run(self) -> None:
        """Sends what was saved, output by output, and Ended last. Never raises."""
        heart = asyncio.create_task(self._show_life(), name="recovery alive")
        try:
            ended = await self._run()
        except Exception as failure:
            ended = _failed(failure)
        await cancelled(heart)
        self._send(ended)

    async def _run(self) -> Ended:
        await self._confinement.enter()
        folder = self._spool / self._plan.egress_id
        journal = await RecordingJournal.taken_over(folder, self._stopped)
        try:
            late = self._uploaders.late = await asyncio.to_thread(journal.late_uploads)
            if self._composer is not None and is_left_to_compose(journal):
                ended, is_settled = await self._composer.run_left(journal, late)
            else:
                ended = _failed(await _Salvage(journal, self._uploaders, self._send).save(self._plan))
                is_settled = not ended.code
            if is_settled and not self._orphaned:
                await asyncio.to_thread(journal.settle)
            return ended
        finally:
            journal.release()

    async def _show_life(self) -> None:
        while True:
            self._send(Progress(0, 0, 0, 0, 0))
            await asyncio.sleep(_ALIVE_S)


def _failed(error: Exception | None) -> Ended:
    if not isinstance(error, EgressError | None):
        _log.error("recovery", exc_info=error)
        error = internal(f"recovery failed: {error!r}")
    text, code = (error.text, error.code.value) if error is not None else ("", "")
    return Ended(time.time_ns(), EndReason.FAILURE, text, code)


class _Salvage:
    """The outputs in a spool folder that this process holds."""

    def __init__(self, journal: RecordingJournal, uploaders: Uploaders, send: Send) -> None:
        self._journal = journal
        self._uploaders = uploaders
        self._send = send

    async def save(self, plan: Plan) -> EgressError | None:
        """Recovers all outputs at once, independently of each other, then the manifests. Returns the first
        error."""
        outcomes = await asyncio.gather(*(self._try_output(*each) for each in enumerate(plan.outputs)))
        errors = [each for each in outcomes if isinstance(each, EgressError)]
        saved = [
            (output, each)
            for output, each in zip(plan.outputs, outcomes, strict=True)
            if isinstance(each, Records)
        ]
        sidecars, failed = await self._save_sidecars(plan)
        values = {**plan.name_values, **self._journal.names}
        stems, no_stems = await store_stems(
            self._journal.folder, plan, values, self._journal.told, self._uploaders.make, self._send
        )
        errors += [each for each in (failed, no_stems) if each is not None]
        beside = Records(files=(*sidecars.files, *stems.files))
        try:
            await self._store_manifests(plan, saved, beside)
        except EgressError as failure:
            errors.append(failure)
        return errors[0] if errors else None

    async def _try_output(self, index: int, output: plans.Output) -> Records | EgressError:
        try:
            return await self._save_output(index, output)
        except EgressError as failure:
            return failure
        except Exception as failure:
            _log.exception("recovery of output %s", index)
            return internal(f"output {index} could not be recovered: {failure!r}")

    async def _save_output(self, index: int, output: plans.Output) -> Records:
        match output, self._journal.told.get((index, 0)):
            case FileOutput(), FileUpdate():
                return await self._save_parts(output, index)
            case SegmentOutput(), SegmentsUpdate() as told:
                return await self._save_segments(output, told)
            case ImageOutput(), ImagesUpdate() as told:
                return await self._save_images(output, told)
            case _:
                self._refuse_unnamed(index)
                return Records()  # the output had not begun, or left nothing behind

    def _refuse_unnamed(self, index: int) -> None:
        """Raises EgressError if there is media that the journal does not name because the disk was full.
        Removing the folder must not remove that media."""
        for kind in ("file", "segments", "images"):
            folder = self._journal.folder / f"{kind}-{index}"
            if any(path.stat().st_size > HEADER_BYTES or holds_media(path) for path in folder.glob("*")):
                raise internal(f"{folder}: the journal does not say what its files are; they are kept")

    async def _save_parts(self, output: FileOutput, index: int) -> Records:
        """Saves all parts of a split file, independently of each other. Raises the first EgressError."""
        updates = sorted(key for key in self._journal.told if key[0] == index)
        parts = [told for key in updates if isinstance(told := self._journal.told[key], FileUpdate)]
        saved = await asyncio.gather(
            *(self._save_file(output, told, parts) for told in parts), return_exceptions=True
        )
        for each in saved:
            if isinstance(each, BaseException):
                raise each
        return Records(files=tuple(f for each in saved if isinstance(each, Records) for f in each.files))

    async def _save_file(self, output: FileOutput, told: FileUpdate, parts: list[FileUpdate]) -> Records:
        uploader = self._uploaders.make(output.storage)
        folder = self._journal.folder / f"file-{told.output}"
        later = [each.begin_ns for each in parts if each.part > told.part]
        markers = within(self._journal.markers, told.begin_ns, min(later, default=None))
        try:
            kept = await store_left_file(folder, output, told, markers, self._journal.egress_id, uploader)
        finally:
            await uploader.close()
        if kept is None:
            return Records()
        if kept.backup_used:
            self._send(BackupUsed(told.output))
        self._tell(kept.update)
        for event in extra_files_stored(kept.records.files[1:], time.time_ns()):
            self._send(event)
        return kept.records

    async def _save_segments(self, output: SegmentOutput, told: SegmentsUpdate) -> Records:
        folder = self._journal.folder / f"segments-{told.output}"
        uploader = self._uploaders.make(output.storage)
        try:
            kept = await store_left_segments(
                folder, output, told, self._journal.names, uploader, self._journal.markers
            )
        finally:
            await uploader.close()
        if kept is None:
            _log.warning("no frame had reached the segments of %s", told.playlist_name)
            return Records()
        if kept.backup_used:
            self._send(BackupUsed(told.output))
        self._tell(kept.update)
        return kept.records

    async def _save_images(self, output: ImageOutput, told: ImagesUpdate) -> Records:
        uploader = self._uploaders.make(output.storage)
        try:
            update, records, backup_used = await store_left_images(
                self._journal.folder / f"images-{told.output}", told, uploader
            )
        finally:
            await uploader.close()
        if backup_used:
            self._send(BackupUsed(told.output))
        self._tell(update)
        return records

    async def _save_sidecars(self, plan: Plan) -> tuple[Records, EgressError | None]:
        """Stores the sidecars. Returns what was stored, and the error if some was not."""
        values = {**plan.name_values, **self._journal.names}
        end_ns = max((each.ended_at_ns for each in self._journal.told.values()), default=0)
        return await store_sidecars(
            self._journal.folder, plan, values, end_ns, self._uploaders.make, self._send
        )

    async def _store_manifests(
        self, plan: Plan, saved: list[tuple[plans.Output, Records]], beside: Records
    ) -> None:
        told = self._journal.told.values()
        if not told:
            return
        values = {**plan.name_values, **self._journal.names}
        started_at_ns = min(each.started_at_ns for each in told)
        ended_at_ns = max(each.ended_at_ns for each in told)
        passthrough = self._journal.is_passthrough
        header = header_of(
            plan,
            values,
            started_at_ns,
            ended_at_ns,
            passthrough=passthrough,
            pauses=tuple(each.until(ended_at_ns) for each in self._journal.pauses),
            restarts=self._journal.restarts,
            markers=self._journal.markers,
            clips=self._journal.clips,
        )
        await store_manifests(
            header,
            saved,
            str(self._journal.folder),
            values,
            beside=beside,
            emit=self._send,
            uploader=self._uploaders.make,
        )

    def _tell(self, update: FileUpdate | SegmentsUpdate | ImagesUpdate) -> None:
        self._journal.note(update)
        self._send(update)
