"""A job's streams by number: what its handler is told of them, and its record."""

import asyncio
from typing import cast

from livekit.protocol.egress import EgressInfo, StreamInfo

from openegress.core import ipc
from openegress.core.plan import Plan, StreamOutput, StreamTarget, WebSource
from openegress.worker.job import Job
from openegress.worker.process import HandlerProcess
from openegress.worker.records import Record

SHOWN = "rtmp://h/app/{roo...-hd}"


def target(n: int) -> StreamTarget:
    return StreamTarget(f"rtmp://h/app/room-{n}-hd", SHOWN, f"id-{n}")


class Handler:
    """Answers every update."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.told: list[ipc.UpdateStreams] = []

    def send(self, message: ipc.UpdateStreams) -> None:
        assert self.job is not None
        self.told.append(message)
        self.job._calls[message.call].set_result(ipc.Reply(message.call))


class Unreported:
    """Keeps nothing."""


async def test_urls_that_look_alike_have_numbers_of_their_own() -> None:
    async def send(info: EgressInfo) -> None:
        await asyncio.sleep(0)

    plan = Plan("EG_1", WebSource("http://e"), (StreamOutput("rtmp", (target(1), target(2))),), None, None)
    results = [StreamInfo(url=SHOWN, id="id-1"), StreamInfo(url=SHOWN, id="id-2", status=StreamInfo.FAILED)]
    record = Record(
        EgressInfo(egress_id="EG_1", stream_results=results),
        send,
        Unreported(),  # type: ignore[arg-type]
    )
    job, handler = Job(plan, "web", record, lambda *_: None), Handler()
    handler.job, job._handler = job, cast(HandlerProcess, handler)
    await job.update_streams((target(3), target(2), target(1)), ())
    await job.update_streams((target(3), target(4)), ())
    await record.close()
    assert [[number for number, _ in message.add] for message in handler.told] == [[2, 1, 0], [2, 3]]
    assert [stream.id for stream in record.info.stream_results] == ["id-1", "id-2", "id-3", "id-4"]
    # The one that had failed begins anew.
    assert {stream.status for stream in record.info.stream_results} == {StreamInfo.ACTIVE}
