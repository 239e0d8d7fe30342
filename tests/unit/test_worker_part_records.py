"""The record of a part whose worker was started again, by what was told of it before."""

from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core import part_records
from openegress.core.codecs import Container
from openegress.core.events import FileUpdate
from openegress.core.part import Part
from openegress.core.plan import FileOutput, Plan, WebSource
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.core.units import S
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.request.initial_info import initial
from openegress.worker.unreported import Unreported
from openegress.worker.worker_records import WorkerRecords

LOST_NS = 8 * S
WHOLE = Plan(
    "EG_1",
    WebSource("https://example.com"),
    (FileOutput("a.mp4", Container.MP4, StoragePlan(LocalStorage("/out"))),),
    None,
    None,
)
PART = msgspec.structs.replace(
    WHOLE,
    outputs=(FileOutput("a-00002.mp4", Container.MP4, StoragePlan(LocalStorage("/out"))),),
    part=Part(1, LOST_NS),
)


def told_of(plan: Plan) -> EgressInfo:
    info = initial(StartEgressRequest(egress_id="EG_1"), plan, 1)
    info.status = EgressStatus.EGRESS_ACTIVE
    return info


class Keeper:
    def doubt(self, egress_id: str) -> None:
        pass

    async def update(self, info: EgressInfo) -> None:
        pass

    async def count(self, info: EgressInfo) -> None:
        pass


@pytest.mark.parametrize("was_told", [False, True])
@pytest.mark.parametrize("recovers", [False, True])
async def test_what_a_part_becomes_is_never_that_of_the_one_before(
    tmp_path: Path, was_told: bool, recovers: bool
) -> None:
    records = WorkerRecords(cast("IOInfoClient", Keeper()), Unreported(tmp_path))
    info = told_of(WHOLE)
    info.file_results[0].started_at = 1 * S
    if was_told:
        info = part_records.extended(info, told_of(PART), LOST_NS)
    make = partial(records.of_recovery, is_reported=True) if recovers else records.of_start
    record = make(PART, info)
    record.apply(FileUpdate(0, filename="a-00002.mp4", location="/out/a-00002.mp4", started_at_ns=15 * S))
    first, second = record.info.file_results
    assert (first.filename, first.location, first.ended_at) == ("a.mp4", "", LOST_NS)
    assert (second.filename, second.location) == ("a-00002.mp4", "/out/a-00002.mp4")
    await record.close()
