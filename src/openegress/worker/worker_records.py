"""The records of all egresses of this worker, and ends that are not yet accepted."""

import asyncio
from collections.abc import Callable

from livekit.protocol.egress import EgressInfo

from openegress.core import part_records
from openegress.core.plan import Plan
from openegress.core.tasks import non_fatal
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.request.initial_info import initial
from openegress.worker.records import Record, Send
from openegress.worker.tenures import Tenures
from openegress.worker.unreported import Unreported


class WorkerRecords:
    """Makes records, each owned by its job from then on. Owns the records that only repeat an end."""

    def __init__(
        self,
        keeper: IOInfoClient,
        unreported: Unreported,
        on_info: Callable[[EgressInfo], None] | None = None,
        tenures: Tenures | None = None,
    ) -> None:
        """`on_info` is called at each change of a record. `tenures` is None if no other worker takes over
        recordings."""
        self.keeper = keeper
        self.tenures = tenures
        self._unreported = unreported
        self._on_info = on_info
        self._repeating: list[Record] = []

    def of_start(self, plan: Plan, info: EgressInfo) -> Record:
        """Makes the record of a start. `info` is the last reported record of an egress, with or without the
        part of `plan`."""
        earlier, last = _parts_of(plan, info)
        return Record(last, self._sender(plan), self._unreported, self._on_info, self.keeper.count, earlier)

    def of_recovery(self, plan: Plan, info: EgressInfo, *, is_reported: bool) -> Record:
        """Makes the record of a recovery. `is_reported`: its end is reported to the keeper. Another worker
        may be ending it right now."""
        self.keeper.doubt(info.egress_id)
        send = self._sender(plan) if is_reported else _discard
        earlier, last = _parts_of(plan, info)
        return Record(last, send, self._unreported, self._on_info, earlier=earlier)

    def _sender(self, plan: Plan) -> Send:
        return self.tenures.send if self.tenures is not None and plan.resumes else self.keeper.update

    def show(self, info: EgressInfo) -> None:
        """Shows a new record to everyone who watches."""
        if self._on_info is not None:
            with non_fatal("watching a record"):
                self._on_info(info)

    def is_repeating(self, egress_id: str) -> bool:
        """Whether its end is not yet accepted."""
        return self._unreported.keeps(egress_id)

    def repeat(self, info: EgressInfo) -> None:
        """Reports an end to the record keeper until it is accepted, if necessary also in a later process of
        this worker."""
        self._unreported.keep(info)
        self._repeat(info)

    def repeat_left(self) -> None:
        """Reports the ends that an earlier process of this worker could not report."""
        for info in self._unreported.all():
            self._repeat(info)

    async def close(self) -> None:
        for record in self._repeating:
            record.stop_retrying()
        await asyncio.gather(*(record.close() for record in self._repeating))
        self._repeating.clear()

    def _repeat(self, info: EgressInfo) -> None:
        self.keeper.doubt(info.egress_id)
        send = self.tenures.send if self.tenures is not None else self.keeper.update
        record = Record(info, send, self._unreported, self._on_info)
        record.repeat()
        self._repeating.append(record)


def _parts_of(plan: Plan, info: EgressInfo) -> tuple[EgressInfo | None, EgressInfo]:
    """Returns (the results of earlier parts, the record of this one)."""
    if plan.part is None:
        return None, info
    lost_at_ns = plan.part.lost_at_ns
    if not part_records.has_part(info, lost_at_ns):
        own = initial(StartEgressRequest(egress_id=plan.egress_id), plan, 0)
        info = part_records.extended(info, own, lost_at_ns)
    return part_records.split(info, lost_at_ns)


async def _discard(info: EgressInfo) -> None:
    pass
