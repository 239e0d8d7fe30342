"""Finds the recordings that an earlier process of this worker left in its spool, with their records."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core import info as transitions
from openegress.core import plan as plans
from openegress.core.errors import EgressError
from openegress.core.passthrough import Passthrough
from openegress.core.plan import LayoutSource, MediaSource, Plan, TemplateSource, TracksSource
from openegress.core.text import shown
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.initial_info import initial
from openegress.request.request_kind import RequestKind
from openegress.storage.journal import Journal, unusable
from openegress.storage.seal import Seal

_log = structlog.get_logger(__name__)

Lookup = Callable[[str], Awaitable[EgressInfo | None]]
"""Returns the record by egress id; None if there is none. Raises EgressError if the record keeper does not
answer."""

_UNSEALED = "its plan was not sealed by a service of this spool, so an attacker may have written it"

ASK_AGAIN_S = 2.0
"""Pause between two questions: the record keeper may start later than its workers."""


@dataclass(frozen=True, slots=True)
class LeftRecording:
    """A recording in the spool, as its journal describes it."""

    plan: Plan
    names: dict[str, str]
    """The values of placeholders that only the room knew."""


@dataclass(frozen=True, slots=True)
class Leftover:
    plan: Plan
    kind: RequestKind
    info: EgressInfo
    on_record: bool
    had_ended: bool = False
    """Whether a worker has ended it already, or continues it: only what is stored of it is new."""

    has_begun: bool = True
    """Whether the spool has something to continue; otherwise this is a part that another worker began."""

    @property
    def may_go_on(self) -> bool:
        """Whether the recording may continue as the same egress. It still does not if its room is over, or
        the journal says that it was ending."""
        is_running = transitions.is_running(self.info)
        return self.plan.resumes and self.on_record and not self.had_ended and is_running


async def find_leftovers(spool: Path) -> list[LeftRecording]:
    """The recordings to finish, oldest first. A journal that cannot be read, or whose plan this service did
    not seal, is logged and left alone."""
    found, seal = [], Seal(spool)
    for folder in await asyncio.to_thread(Journal.find, spool):
        try:
            # The recording may be running: an incomplete last line is then still being written.
            journal = await asyncio.to_thread(Journal.load, folder, mends=False)
            if not await asyncio.to_thread(seal.fits, journal.plan, journal.seal):
                raise unusable(folder, _UNSEALED)
            plan, names = plans.decode(journal.plan), journal.names
            if plan.egress_id != journal.egress_id:
                raise unusable(folder, f'its plan is of the egress "{shown(plan.egress_id)}"')
        except (EgressError, ValueError) as error:
            _log.error("a recording in the spool cannot be recovered", folder=str(folder), error=str(error))
            continue
        found.append(LeftRecording(plan, names))
    return found


async def leftover(plan: Plan, lookup: Lookup) -> Leftover:
    """Adds the last reported record, or one made from the plan. Raises EgressError if the record keeper does
    not answer."""
    stored = await lookup(plan.egress_id)
    return Leftover(plan, kind_of(plan), _unfinished(plan, stored), on_record=stored is not None)


def taken_over(plan: Plan) -> Leftover:
    """A leftover part whose egress another worker has continued."""
    info = initial(StartEgressRequest(egress_id=plan.egress_id), plan, time.time_ns())
    info.status = EgressStatus.EGRESS_ACTIVE
    return Leftover(plan, kind_of(plan), info, on_record=True, had_ended=True)


def _unfinished(plan: Plan, stored: EgressInfo | None) -> EgressInfo:
    """The record as it was before its end, which others may have reported while this worker was away."""
    if stored is None:
        stored = initial(StartEgressRequest(egress_id=plan.egress_id), plan, time.time_ns())
        stored.status = EgressStatus.EGRESS_ACTIVE
    elif transitions.is_terminal(stored):
        stored.status = EgressStatus.EGRESS_ENDING
        stored.error, stored.error_code, stored.ended_at = "", 0, 0
    return stored


def kind_of(plan: Plan) -> RequestKind:
    """The kind of request that a plan was made for, as far as it matters to a recovery."""
    match plan.source:
        case TemplateSource():
            return RequestKind.ROOM_COMPOSITE_PAGE
        case LayoutSource():
            return RequestKind.ROOM_COMPOSITE
        case TracksSource():
            return RequestKind.ROOM_TRACKS
        case MediaSource():
            return (
                RequestKind.TRACK if plan.passthrough is Passthrough.ALWAYS else RequestKind.TRACK_COMPOSITE
            )
        case _:
            return RequestKind.WEB
