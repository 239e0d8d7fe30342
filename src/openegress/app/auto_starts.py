"""Starts what the rules of `auto_start` ask for, when LiveKit reports rooms and tracks.

After a restart it checks once for rooms that are still open, and records them again if their recording ended
with the process.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog
from livekit.protocol.egress import EgressInfo, EgressStatus
from livekit.protocol.models import ParticipantInfo, Room
from livekit.protocol.webhook import WebhookEvent

from openegress.app.start_budgets import StartBudgets
from openegress.core.backoff import Backoff
from openegress.core.errors import Code, EgressError
from openegress.core.events import EndReason
from openegress.core.info import end_reason, is_terminal
from openegress.core.tasks import SideTasks
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request import auto_start
from openegress.request.auto_start import AutoStart, AutoStartRule

_log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 6
_TRANSIENT = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED})
MAX_RESTARTS = 20
"""How often one room is recorded again after restarts."""


class RoomLister(Protocol):
    """Knows which rooms are open."""

    async def rooms(self) -> Sequence[Room]:
        """Raises EgressError."""

    async def participants(self, room: str) -> Sequence[ParticipantInfo]:
        """Raises EgressError."""


class EgressLookup(Protocol):
    async def get(self, egress_id: str) -> EgressInfo:
        """Raises EgressError not_found."""


class AutoStarts:
    """Call `on_event` for each webhook, `scan_rooms` once, and `on_record` for each change of a record."""

    def __init__(
        self,
        rules: Sequence[AutoStartRule],
        start: Callable[[StartEgressRequest], Awaitable[EgressInfo]],
        records: EgressLookup,
        backoff: Backoff | None = None,
    ) -> None:
        self._rules = rules
        self._start = start
        self._records = records
        self._backoff = backoff or Backoff(ceiling_s=15.0)
        self._side_tasks = SideTasks("an automatic start failed")
        self._budgets = StartBudgets()
        self._left_over: dict[str, AutoStart] = {}
        """Egresses by id that, according to the records, were running when this process started. Their
        handlers may be gone."""

    def on_event(self, event: WebhookEvent) -> None:
        """Returns at once; refusals are logged."""
        match event.event:
            case "room_started":
                starts = auto_start.of_room(self._rules, event.room)
            case "track_published" if auto_start.follows_people(self._rules, event.room):
                if not self._may_start(event):
                    return
                starts = auto_start.of_track(self._rules, event.room, event.participant, event.track)
            case _:
                return
        for each in starts:
            self._side_tasks.begin(self._once(each))

    def _may_start(self, event: WebhookEvent) -> bool:
        identity = event.participant.identity
        if self._budgets.spend(event.room.name, identity, time.monotonic_ns()):
            return True
        _log.warning(
            "too many tracks of one participant: auto_start leaves one out",
            room=event.room.name,
            identity=identity,
            track=event.track.sid,
        )
        return False

    def scan_rooms(self, lister: RoomLister) -> None:
        """Returns at once; retries until the LiveKit server answers."""
        self._side_tasks.begin(self._scan_rooms(lister))

    async def _scan_rooms(self, lister: RoomLister) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._start_in_open_rooms(lister)
            except EgressError as error:
                _log.warning("auto_start cannot list the rooms yet", error=error.text)
                await asyncio.sleep(self._backoff.delay_s(attempt))

    async def _start_in_open_rooms(self, lister: RoomLister) -> None:
        rooms = await lister.rooms()
        for room in rooms:
            for each in auto_start.of_room(self._rules, room):
                await self._restart_if_needed(each)
            if not auto_start.follows_people(self._rules, room):
                continue
            for participant in await lister.participants(room.name):
                wanted = [
                    each
                    for track in participant.tracks
                    for each in auto_start.of_track(self._rules, room, participant, track)
                ]
                for each in {each.request().egress_id: each for each in wanted}.values():
                    await self._restart_if_needed(each)
        _log.info("auto_start has listed the rooms", open_rooms=len(rooms))

    def on_record(self, info: EgressInfo) -> None:
        """Handles the end of an egress that an earlier process left."""
        if is_terminal(info) and (left := self._left_over.pop(info.egress_id, None)) is not None:
            self._side_tasks.begin(self._restart_if_needed(left))

    async def close(self) -> None:
        await self._side_tasks.cancel()

    async def _once(self, wanted: AutoStart) -> None:
        request = wanted.request()
        if await self._record(request.egress_id) is None:
            await self._persist(request)

    async def _restart_if_needed(self, wanted: AutoStart) -> None:
        """Starts it unless it runs, or somebody ended it on purpose."""
        for number in range(MAX_RESTARTS):
            request = wanted.request(number)
            info = await self._record(request.egress_id)
            if info is None:
                await self._persist(request)
                return
            if not is_terminal(info):
                self._left_over[info.egress_id] = wanted
                return
            if not _is_broken_off(info):
                return

    async def _record(self, egress_id: str) -> EgressInfo | None:
        try:
            return await self._records.get(egress_id)
        except EgressError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            return None

    async def _persist(self, request: StartEgressRequest) -> None:
        """Starts it, with retries while no worker has room for it."""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                await self._start(request)
            except EgressError as error:
                if error.code is Code.ALREADY_EXISTS:
                    return
                if error.code not in _TRANSIENT or attempt == MAX_ATTEMPTS:
                    _log.error(
                        "an automatic start was refused", egress_id=request.egress_id, error=error.text
                    )
                    return
                await asyncio.sleep(self._backoff.delay_s(attempt))
            else:
                _log.info("started by a rule of auto_start", egress_id=request.egress_id)
                return


def _is_broken_off(info: EgressInfo) -> bool:
    """Whether it ended without anybody asking for that."""
    return end_reason(info) is EndReason.KILLED or info.status in (
        EgressStatus.EGRESS_FAILED,
        EgressStatus.EGRESS_ABORTED,
    )
