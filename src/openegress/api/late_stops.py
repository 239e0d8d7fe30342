"""Keeps stops that no worker took because the egress had just lost its worker. The worker that continues the
egress gets them."""

import asyncio

import structlog
from livekit.protocol.egress import StopEgressRequest

from openegress.core.errors import EgressError
from openegress.core.info import is_running
from openegress.core.tasks import SideTasks
from openegress.psrpc.client import RPCClient
from openegress.psrpc.services import EgressHandler
from openegress.store.ioinfo import IOInfoService

_log = structlog.get_logger(__name__)

_RETRY_S = 0.5
_ATTEMPTS = 40
"""Limit for attempts. Each takes a second or more: by then another worker has the egress, or its record says
that it was lost."""


class LateStops:
    """Delivers stops, with retries until close()."""

    def __init__(self, client: RPCClient, records: IOInfoService) -> None:
        self._client = client
        self._records = records
        self._side_tasks = SideTasks("a stop could not be passed on")
        self._waiting: set[str] = set()

    def keep(self, request: StopEgressRequest) -> None:
        """Keeps a stop that no worker has taken yet."""
        if request.egress_id not in self._waiting:
            self._waiting.add(request.egress_id)
            self._side_tasks.begin(self._deliver(request))

    async def close(self) -> None:
        await self._side_tasks.cancel()

    async def _deliver(self, request: StopEgressRequest) -> None:
        try:
            for _ in range(_ATTEMPTS):
                if await self._is_done(request):
                    return
                await asyncio.sleep(_RETRY_S)
        finally:
            self._waiting.discard(request.egress_id)

    async def _is_done(self, request: StopEgressRequest) -> bool:
        """Whether a worker has taken the stop, or there is nothing left to stop."""
        try:
            if not is_running(await self._records.get(request.egress_id)):
                return True
            await self._client.call(EgressHandler.STOP_EGRESS, request, topic=request.egress_id)
        except EgressError as error:
            _log.debug("a stop waits for a worker", egress_id=request.egress_id, error=error.text)
            return False
        return True
