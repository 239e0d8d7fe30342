"""Serves IOInfo for a server that keeps its own records: takes updates from workers, and answers the API."""

import time
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from google.protobuf.empty_pb2 import Empty
from livekit.protocol.egress import EgressInfo, ListEgressRequest, ListEgressResponse

from openegress.core.errors import Code, EgressError, invalid
from openegress.core.ids import check_egress_id
from openegress.core.info import is_terminal, with_request_of, with_results_of
from openegress.core.part_records import with_part
from openegress.core.recent import Recent
from openegress.core.tasks import non_fatal
from openegress.core.text import shown
from openegress.proto.egress_rpc_pb2 import GetEgressRequest, UpdateMetricsRequest
from openegress.psrpc.server import Registration, RPCServer
from openegress.psrpc.services import IOInfo
from openegress.store import Announce, Change, Store

_log = structlog.get_logger(__name__)

KEPT_LISTS = 4
"""Limit for cached answers. Clients repeat the same list; one of a thousand records takes about 2 MB."""

Listener = Callable[[EgressInfo], None]
"""Called with each changed record after it is stored. Must not block."""


class Notifier(Protocol):
    """Makes webhook deliveries for changes of records, and sends them."""

    @property
    def announce(self) -> Announce:
        """Returns the deliveries for a change."""

    def wake(self) -> None:
        """Notifies the sender that the outbox has new deliveries."""


class IOInfoService:
    """Serves the records, over psrpc after register(). Methods may also be called directly; all raise
    EgressError."""

    def __init__(self, store: Store, notifier: Notifier | None = None) -> None:
        self._store = store
        self._notifier = notifier
        self._listeners: list[Listener] = []
        self._lists: Recent[tuple[str, bool], tuple[int, ListEgressResponse]] = Recent(KEPT_LISTS)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener. Returns a function that removes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def register(self, server: RPCServer) -> list[Registration[Any, Any]]:
        """Serves the methods of IOInfo on a bus, until the registrations are closed."""
        return [
            await server.register(IOInfo.CREATE_EGRESS, self._rpc_update),
            await server.register(IOInfo.UPDATE_EGRESS, self._rpc_update),
            await server.register(IOInfo.REVISE_EGRESS, self._rpc_revise),
            await server.register(IOInfo.ADD_PART, self._rpc_add_part),
            await server.register(IOInfo.COUNT_EGRESS, self._rpc_count),
            await server.register(IOInfo.GET_EGRESS, self._rpc_get),
            await server.register(IOInfo.LIST_EGRESS, self.list),
            await server.register(IOInfo.UPDATE_METRICS, self._rpc_metrics),
        ]

    async def update(self, info: EgressInfo) -> Change:
        """Creates or updates a record. Idempotent: a known state changes nothing and sends no webhook."""
        check_egress_id(info.egress_id)
        change = await self._apply(info, self._notifier.announce if self._notifier else None)
        if self._notifier and change is not Change.STALE:
            self._notifier.wake()
        return change

    async def _apply(self, info: EgressInfo, announce: Announce | None) -> Change:
        change = await self._store.apply(info, announce)
        if change is Change.STALE:
            return change
        for listener in tuple(self._listeners):
            with non_fatal("watching records"):
                listener(info)
        return change

    async def get(self, egress_id: str) -> EgressInfo:
        """Returns the record. Raises EgressError with code NOT_FOUND for an unknown id."""
        info = await self._store.get(egress_id)
        if info is None:
            raise EgressError(Code.NOT_FOUND, "egress does not exist")
        return info

    async def list(self, request: ListEgressRequest) -> ListEgressResponse:
        """Returns the record with the given id (NOT_FOUND if there is none), else records by room and
        activity.

        The answer must not be modified: it is cached until a record changes.
        """
        check_page(request)
        if request.egress_id:
            return ListEgressResponse(items=[await self.get(request.egress_id)])
        key = (request.room_name, request.active)
        revision = await self._store.revision()
        kept = self._lists.get(key)
        if kept is None or kept[0] != revision:
            items = await self._store.list(request.room_name, request.active)
            kept = revision, ListEgressResponse(items=items)
        self._lists[key] = kept
        return kept[1]

    async def _rpc_update(self, info: EgressInfo) -> Empty:
        stored = await self._store.get(check_egress_id(info.egress_id))
        # The worker has the original request; the API may have changed its layout since.
        await self.update(with_request_of(info, stored) if stored is not None else info)
        return Empty()

    async def _rpc_revise(self, info: EgressInfo) -> Empty:
        await self._merge(info.egress_id, lambda stored: with_results_of(stored, info, time.time_ns()))
        return Empty()

    async def _rpc_add_part(self, info: EgressInfo) -> Empty:
        await self._merge(info.egress_id, lambda stored: with_part(stored, info))
        return Empty()

    async def _merge(self, egress_id: str, changed: Callable[[EgressInfo], EgressInfo]) -> None:
        """Changes a record. `changed` turns the stored record into the new one; it is called again if an
        update came in between."""
        while True:
            stored = await self.get(egress_id)
            info = changed(stored)
            if info == stored:
                return
            info.updated_at = max(time.time_ns(), stored.updated_at + 1)
            if await self.update(info) is not Change.STALE:
                return

    async def _rpc_count(self, info: EgressInfo) -> Empty:
        """Updates counts if the stored record has the same status. Sends no webhook."""
        stored = await self.get(info.egress_id)
        if info.status == stored.status and not is_terminal(stored):
            await self._apply(with_request_of(info, stored), None)
        return Empty()

    async def _rpc_get(self, request: GetEgressRequest) -> EgressInfo:
        return await self.get(request.egress_id)

    async def _rpc_metrics(self, request: UpdateMetricsRequest) -> Empty:
        """Logs the CPU usage that upstream's workers report. It is not part of the record."""
        _log.debug(
            "egress load",
            egress_id=request.info.egress_id,
            avg_cpu=round(request.avg_cpu_usage, 3),
            max_cpu=round(request.max_cpu_usage, 3),
        )
        return Empty()


def check_page(request: ListEgressRequest) -> None:
    """Raises EgressError for a page token, as lists of this server have one page."""
    if token := request.page_token.token:
        raise invalid(f'page_token "{shown(token)}": lists of this server have one page; leave it out')
