"""Keeps the record of a meeting beside its recording: passes the room's events to the sidecars' log, and
makes files of it."""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from openegress.core.errors import EgressError
from openegress.core.events import Paused, Resumed
from openegress.core.fair_share import FairShare
from openegress.core.main_output import with_sidecars
from openegress.core.marker import Marker
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import LayoutSource, Plan
from openegress.core.render import Render
from openegress.core.sidecars import Sidecar
from openegress.core.storages import StoragePlan
from openegress.core.units import MS
from openegress.output import Emit, Opening
from openegress.output.disk_thread import ANSWER_TIMEOUT_S
from openegress.output.manifest import ClipRecord, Records
from openegress.output.sidecar import entries
from openegress.output.sidecar.conversation import Conversation
from openegress.output.sidecar.entries import LogEntry, entry_of
from openegress.output.sidecar.log import SidecarLog
from openegress.output.sidecar.store import store_sidecars
from openegress.request import layouts, orders
from openegress.room.events import DataArrived, OwnMetadataChanged
from openegress.source import Observed
from openegress.storage.uploader import Uploader

_log = logging.getLogger(__name__)

_MAX_EARLY = 10_000
"""Limit for entries before the first frame, which wait in memory. All participants share it."""


class SidecarRecorder:
    """Logs the events of one egress for its sidecars. Does nothing if the plan has none; runs on the event
    loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._conversation = Conversation(plan.data_topics, plan.data_routes)
        self._early: list[LogEntry] = []
        self._early_shares = FairShare(_MAX_EARLY)
        self._lost_early = 0
        self._failed = 0
        """Events that could not be logged."""
        self._log: SidecarLog | None = None
        self._opening: Opening | None = None
        self._layout = plan.source.layout if isinstance(plan.source, LayoutSource) else ""
        self.is_settled = True
        """After finish(): the spool holds nothing that still waits."""

    def observe(self, observed: Observed) -> None:
        """Logs an event of the room. Never raises: participants decide what comes, and the recording must go
        on."""
        if not self._plan.sidecars and self._plan.render is Render.LIVE:
            return
        try:
            self._keep(observed)
        except Exception:
            if not self._failed:
                _log.exception("an event is left out of the sidecars")
            self._failed += 1

    def _keep(self, observed: Observed) -> None:
        event, at_ns = observed.event, observed.at_ns
        if isinstance(event, OwnMetadataChanged):
            asked = orders.layout_in(event.metadata)
            if asked is not None and self._plan.render is Render.DEFERRED:
                self._append(LogEntry(at_ns, entries.ASKED, {"layout": asked}))
            self._change_layout(asked, at_ns)
        elif isinstance(event, DataArrived):
            self._say(self._conversation.entries(event))
        elif (entry := entry_of(event, at_ns)) is not None:
            self._append(entry)

    def _say(self, said: Iterable[LogEntry]) -> None:
        for each in said:
            if Sidecar(each.event) in self._plan.sidecars:
                self._append(each)

    def note(self, change: Paused | Resumed) -> None:
        event = entries.PAUSED if isinstance(change, Paused) else entries.RESUMED
        is_cut = self._plan.on_pause is PauseMode.CUT
        self._append(LogEntry(change.at_ns, event, {entries.IS_CUT: is_cut}))

    def note_looks(self, text: str) -> None:
        """A change of the looks of what is composed later, as the query of a layout."""
        self._append(LogEntry(time.time_ns(), entries.ASKED, {"layout": text}))

    def note_gap(self, lost_at_ns: int, resumed_at_ns: int | None) -> None:
        """Logs a gap in which nothing was recorded, because there was no handler. `resumed_at_ns` is None if
        a pause is open, which counts from the end of the recorded media."""
        fields = {entries.IS_CUT: True, entries.IS_RESTART: True}
        self._append(LogEntry(lost_at_ns, entries.PAUSED, fields))
        if resumed_at_ns is not None:
            self._append(LogEntry(resumed_at_ns, entries.RESUMED, fields))

    def mark(self, marker: Marker) -> None:
        self._append(LogEntry(marker.unix_ns, entries.MARKED, {"name": marker.name}))

    def note_clip(self, clip: ClipRecord) -> None:
        """Logs where the clip begins and ends, in the time of events."""
        told = {"filename": clip.filename, "from_ms": clip.begin_ns // MS, "to_ms": clip.end_ns // MS}
        self._append(LogEntry(time.time_ns(), entries.CLIPPED, told))

    def open(self, opening: Opening) -> None:
        """Begins the log, as media time zero is known."""
        if with_sidecars(self._plan) is None and self._plan.render is Render.LIVE:
            return
        self._opening = opening
        self._log = SidecarLog(Path(opening.spool))
        if not opening.goes_on_at_ns:
            self._begin(opening)
        early, self._early = self._early, []
        for entry in early:
            self._append(entry)

    def _begin(self, opening: Opening) -> None:
        started = {"egress_id": self._plan.egress_id, "room": self._plan.room_name[: entries.MAX_CHARS]}
        self._append(LogEntry(opening.started_at_ns, entries.STARTED, started))
        if isinstance(self._plan.source, LayoutSource):
            self._append_layout(self._plan.source, self._plan.source.layout, opening.started_at_ns)

    async def finish(
        self, ended_at_ns: int, uploader: Callable[[StoragePlan], Uploader], emit: Emit
    ) -> tuple[Records, EgressError | None]:
        """Stores the sidecars. Returns what was stored, and the error if some was not."""
        if self._log is None or self._opening is None:
            return Records(), None
        self.is_settled = False
        self._say(self._conversation.rest())
        if left_out := self._log.left_out + self._lost_early + self._failed:
            _log.warning("sidecars: entries were left out", extra={"count": left_out})
            self._append(LogEntry(ended_at_ns, entries.LEFT_OUT, {"count": left_out}))
        self._append(LogEntry(ended_at_ns, entries.ENDED))
        try:
            await self._log.finish(ANSWER_TIMEOUT_S)
        except EgressError as error:
            return Records(), error
        if self._plan.render is Render.DEFERRED:
            self.is_settled = True
            return Records(), None  # they are made from the log after composing
        stored = StoredSidecars(self._plan)
        stored.open(self._opening)
        records, failed = await stored.finish(ended_at_ns, uploader, emit)
        self.is_settled = stored.is_settled
        return records, failed

    def _change_layout(self, text: str | None, at_ns: int) -> None:
        name = orders.in_metadata(text or "")[0].layout
        if not name or name == self._layout:
            return
        if isinstance(self._plan.source, LayoutSource):
            self._layout = name
            self._append_layout(self._plan.source, name, at_ns)

    def _append_layout(self, source: LayoutSource, name: str, at_ns: int) -> None:
        self._append(LogEntry(at_ns, entries.LAYOUT, {"layout": layouts.named(name, source.specs)}))

    def _append(self, entry: LogEntry) -> None:
        if self._log is not None:
            self._log.append(entry)
        elif self._early_shares.take(entries.source_of(entry), 1):
            self._early.append(entry)
        else:
            self._lost_early += 1


class StoredSidecars:
    """Makes the files of a complete log and stores them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._opening: Opening | None = None
        self.is_settled = True
        """Like SidecarRecorder.is_settled."""

    def open(self, opening: Opening) -> None:
        self._opening = opening

    async def finish(
        self, ended_at_ns: int, uploader: Callable[[StoragePlan], Uploader], emit: Emit
    ) -> tuple[Records, EgressError | None]:
        """Stores the sidecars. Returns what was stored, and the error if some was not."""
        assert self._opening is not None
        self.is_settled = False
        records, failed = await store_sidecars(
            Path(self._opening.spool), self._plan, self._opening.name_values, ended_at_ns, uploader, emit
        )
        self.is_settled = failed is None
        return records, failed
