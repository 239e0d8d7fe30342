"""Serves EgressHandler: the calls to egresses that run here."""

from collections.abc import Callable

import structlog
from google.protobuf.empty_pb2 import Empty
from livekit.protocol.egress import EgressInfo, StopEgressRequest, UpdateLayoutRequest, UpdateStreamRequest

from openegress.core.errors import Code, EgressError
from openegress.core.events import EndReason
from openegress.core.info import is_terminal
from openegress.core.plan import StreamOutput
from openegress.psrpc.server import Registration, RPCServer
from openegress.psrpc.services import EgressHandler
from openegress.request import stream_urls, unknown
from openegress.request.unknown import UnknownFields
from openegress.worker.job import Job
from openegress.worker.supervisor import Supervisor

_log = structlog.get_logger(__name__)


class HandlerCalls:
    """The calls to egresses. Each egress has topics of its own from open() to close()."""

    def __init__(
        self, server: RPCServer, supervisor: Supervisor, unknown_fields: Callable[[], UnknownFields]
    ) -> None:
        """`unknown_fields` says what to do with fields that decide nothing."""
        self._server = server
        self._supervisor = supervisor
        self._unknown_fields = unknown_fields
        self._topics: dict[str, list[Registration]] = {}  # type: ignore[type-arg]

    async def open(self, egress_id: str) -> None:
        """Registers an egress. Raises EgressError; close() then closes what was already registered."""
        topics = self._topics.setdefault(egress_id, [])
        topics.append(await self._server.register(EgressHandler.STOP_EGRESS, self._stop, egress_id))
        topics.append(
            await self._server.register(EgressHandler.UPDATE_STREAM, self._update_stream, egress_id)
        )
        topics.append(await self._server.register(EgressHandler.ORDER, self._apply_order, egress_id))
        topics.append(await self._server.register(EgressHandler.ADD_PART, self._add_part, egress_id))

    async def close(self, egress_id: str) -> None:
        for registration in self._topics.pop(egress_id, ()):
            await registration.close()

    async def _stop(self, request: StopEgressRequest) -> EgressInfo:
        told = unknown.told(request, self._unknown_fields())
        job = self._job(request.egress_id)
        for notice in told:
            _log.warning("unknown fields of StopEgress", egress_id=request.egress_id, notice=notice)
            job.record.notice(notice)
        job.stop(EndReason.API)
        return job.record.info

    async def _apply_order(self, request: UpdateLayoutRequest) -> EgressInfo:
        job = self._job(request.egress_id)
        await job.apply_order(request.layout)
        return job.record.info

    async def _add_part(self, part: EgressInfo) -> Empty:
        job = self._job(part.egress_id)
        if job.plan.part is None:
            raise EgressError(Code.UNAVAILABLE, "it is not the one that took the egress over")
        if is_terminal(job.record.info):
            raise EgressError(Code.FAILED_PRECONDITION, "the egress has ended")
        job.record.add_part(part)
        return Empty()

    async def _update_stream(self, request: UpdateStreamRequest) -> EgressInfo:
        unknown.told(request, self._unknown_fields())  # All are refused: they say where media goes.
        job = self._job(request.egress_id)
        output = next((o for o in job.plan.outputs if isinstance(o, StreamOutput)), None)
        if output is None:
            raise EgressError(Code.INVALID_ARGUMENT, "UpdateStream called on non-streaming egress")
        kind = stream_urls.StreamKind(output.protocol)
        errors: list[EgressError] = []
        add = []
        asked = [(url, "") for url in request.add_output_urls]
        asked += [(destination.url, destination.id) for destination in request.add_destinations]
        for url, stream_id in dict.fromkeys(asked):
            try:
                add.append(stream_urls.target(url, kind, stream_id))
            except EgressError as error:
                errors.append(error)
        try:
            await job.update_streams(tuple(add), tuple(dict.fromkeys(request.remove_output_urls)))
        except EgressError as error:
            errors.append(error)
        if errors:
            raise EgressError(errors[0].code, "\n".join(error.message for error in errors))
        return job.record.info

    def _job(self, egress_id: str) -> Job:
        job = self._supervisor.get(egress_id)
        if job is None:
            raise EgressError(Code.NOT_FOUND, "egress not found")
        return job
