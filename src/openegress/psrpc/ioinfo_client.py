"""The worker's client of IOInfo: delivers each update of a record once, even if a call has to be repeated.

A livekit-server reports every update to webhooks, even a repeated one. After a call whose outcome is unknown,
this client therefore looks up the record before it sends the update again.
"""

from collections.abc import Callable
from dataclasses import replace

from google.protobuf.empty_pb2 import Empty
from livekit.protocol.egress import EgressInfo

from openegress.core.errors import Code, EgressError
from openegress.core.info import is_terminal
from openegress.proto.egress_rpc_pb2 import GetEgressRequest, UpdateMetricsRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.services import FIRST, IOInfo, Method

_UNCERTAIN_CODES = frozenset({Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.INTERNAL, Code.UNKNOWN})
"""Errors after which the update may still have been applied: the answer was lost, or a later step failed."""


class IOInfoClient:
    """A worker has one client, which is safe for many egresses at once. Updates of one egress are sent one
    after another."""

    def __init__(
        self,
        client: RPCClient,
        create_timeout_s: float = 15.0,
        update_timeout_s: float = 5.0,
        selection_timeout_s: float = FIRST.timeout_s,
        in_doubt: Callable[[], bool] = lambda: False,
    ) -> None:
        """`selection_timeout_s` is how long to wait for a claim. `in_doubt` says whether this worker was out
        of reach, so that others may have ended its egresses."""
        selection = replace(FIRST, timeout_s=selection_timeout_s)
        self._create = replace(IOInfo.CREATE_EGRESS, selection=selection)
        self._update = replace(IOInfo.UPDATE_EGRESS, selection=selection)
        self._client = client
        self._create_timeout_s = create_timeout_s
        self._update_timeout_s = update_timeout_s
        self._all_in_doubt = in_doubt
        self._in_doubt: set[str] = set()

    async def create(self, info: EgressInfo) -> None:
        """Creates a record. Idempotent, also at a livekit-server. Raises EgressError."""
        await self._client.call(self._create, info, timeout_s=self._create_timeout_s)

    def doubt(self, egress_id: str) -> None:
        """Notes that others may have ended this egress: its record is looked up before the next update."""
        self._in_doubt.add(egress_id)

    async def update(self, info: EgressInfo) -> None:
        """Updates a record. Raises EgressError; call it again with the same info to retry.

        A record that another process has ended stays ended, and only its files are updated.
        """
        if self._all_in_doubt():
            self.doubt(info.egress_id)
        if info.egress_id in self._in_doubt and await self._is_known(info):
            if is_terminal(info):
                self._in_doubt.discard(info.egress_id)
            return
        try:
            await self._client.call(self._update, info, timeout_s=self._update_timeout_s)
        except EgressError as error:
            if error.code in _UNCERTAIN_CODES:
                self._in_doubt.add(info.egress_id)
            raise
        self._in_doubt.discard(info.egress_id)

    async def count(self, info: EgressInfo) -> None:
        """Updates the counts of images and segments in a record whose last update was delivered. Raises
        EgressError (UNAVAILABLE if a livekit-server keeps the records)."""
        await self._client.call(IOInfo.COUNT_EGRESS, info, timeout_s=self._update_timeout_s)

    async def report_usage(self, info: EgressInfo, mean_cores: float, most_cores: float) -> None:
        """Reports how many cores an ended egress used; livekit-server logs it. Raises EgressError."""
        usage = UpdateMetricsRequest(info=info, avg_cpu_usage=mean_cores, max_cpu_usage=most_cores)
        await self._client.call(IOInfo.UPDATE_METRICS, usage)

    async def add_part(self, info: EgressInfo) -> None:
        """Reports the result of a part that is not the last one of an ended egress. Raises EgressError, also
        while the egress continues: then the worker that records the last part reports all parts."""
        stored = await self.get(info.egress_id)
        if stored is None:
            return
        if not is_terminal(stored):
            why = "the egress continues, and its worker cannot be told about an earlier part"
            raise EgressError(Code.FAILED_PRECONDITION, why)
        await self._ours_alone(IOInfo.ADD_PART, info)

    async def get(self, egress_id: str) -> EgressInfo | None:
        """Returns the record, or None if there is none. Raises EgressError if the record keeper does not
        answer."""
        try:
            return await self._client.call(IOInfo.GET_EGRESS, GetEgressRequest(egress_id=egress_id))
        except EgressError as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise

    async def _is_known(self, info: EgressInfo) -> bool:
        stored = await self.get(info.egress_id)
        if stored is None:
            return False
        if is_terminal(stored):
            if is_terminal(info) and info.updated_at > stored.updated_at:
                await self._ours_alone(IOInfo.REVISE_EGRESS, info)
            return True
        return stored.status == info.status and stored.updated_at >= info.updated_at

    async def _ours_alone(self, method: Method[EgressInfo, Empty], info: EgressInfo) -> None:
        try:
            await self._client.call(method, info, timeout_s=self._update_timeout_s)
        except EgressError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
            # A livekit-server keeps the record, and has no such method.
