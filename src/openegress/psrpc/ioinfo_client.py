"""The worker's side of IOInfo: records told once, although calls may have to be made twice.

A livekit-server announces every update it gets to webhooks, a copy too. So after a call whose outcome is not
known, its record is looked up before the update is sent again.
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

_IN_DOUBT = frozenset({Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.INTERNAL, Code.UNKNOWN})
"""Errors after which the update may have been taken all the same: its answer was lost, or came of a later
step."""


class IOInfoClient:
    """One per worker; safe for many egresses at once. Updates of one egress are sent one after another."""

    def __init__(
        self,
        client: RPCClient,
        create_timeout_s: float = 15.0,
        update_timeout_s: float = 5.0,
        selection_timeout_s: float = FIRST.timeout_s,
        in_doubt: Callable[[], bool] = lambda: False,
    ) -> None:
        """`selection_timeout_s`: until somebody offers to take a record. `in_doubt`: whether others may have
        ended any egress by now, as this worker was out of reach."""
        selection = replace(FIRST, timeout_s=selection_timeout_s)
        self._create = replace(IOInfo.CREATE_EGRESS, selection=selection)
        self._update = replace(IOInfo.UPDATE_EGRESS, selection=selection)
        self._client = client
        self._create_timeout_s = create_timeout_s
        self._update_timeout_s = update_timeout_s
        self._all_in_doubt = in_doubt
        self._in_doubt: set[str] = set()

    async def create(self, info: EgressInfo) -> None:
        """Idempotent on every kind of record keeper. Raises EgressError."""
        await self._client.call(self._create, info, timeout_s=self._create_timeout_s)

    def doubt(self, egress_id: str) -> None:
        """Others may have ended this egress: look at its record before it is updated."""
        self._in_doubt.add(egress_id)

    async def update(self, info: EgressInfo) -> None:
        """Raises EgressError; calling again with the same info is the way to try again.

        A record that somebody else has ended stays ended; it only learns what became of the files.
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
            if error.code in _IN_DOUBT:
                self._in_doubt.add(info.egress_id)
            raise
        self._in_doubt.discard(info.egress_id)

    async def count(self, info: EgressInfo) -> None:
        """What has been recorded so far, of a record that is as it was last updated. Raises EgressError
        (UNAVAILABLE where a livekit-server keeps the records)."""
        await self._client.call(IOInfo.COUNT_EGRESS, info, timeout_s=self._update_timeout_s)

    async def report_usage(self, info: EgressInfo, mean_cores: float, most_cores: float) -> None:
        """Of an egress that has ended; livekit-server logs it. Raises EgressError."""
        usage = UpdateMetricsRequest(info=info, avg_cpu_usage=mean_cores, max_cpu_usage=most_cores)
        await self._client.call(IOInfo.UPDATE_METRICS, usage)

    async def add_part(self, info: EgressInfo) -> None:
        """What became of a part that is not the last one of its egress. Raises EgressError."""
        if await self.get(info.egress_id) is not None:
            await self._ours_alone(IOInfo.ADD_PART, info)

    async def get(self, egress_id: str) -> EgressInfo | None:
        """None when there is no such record. Raises EgressError when nobody can say."""
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
            # A livekit-server keeps the record: it has answered, but takes no revisions.
