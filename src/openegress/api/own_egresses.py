"""Answers the part of the Egress API that a worker has for its own dashboard: lists and stops running
egresses, and passes on orders.

Starts and ended egresses belong to the livekit-server in front of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from livekit.protocol.egress import (
    EgressInfo,
    ListEgressRequest,
    ListEgressResponse,
    StopEgressRequest,
    UpdateLayoutRequest,
)

from openegress.api.twirp import MethodKind, TwirpMethod, for_recorders
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.ids import check_egress_id
from openegress.core.info import is_terminal
from openegress.proto.egress_rpc_pb2 import GetEgressRequest
from openegress.proto.openegress_control_pb2 import ClipInfo, ClipRequest, CutRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.services import EgressHandler, EgressInternal, IOInfo
from openegress.psrpc.wire_errors import NoResponse
from openegress.request import orders
from openegress.request.options import Options
from openegress.request.orders import Order
from openegress.store.ioinfo import check_page


class OwnEgresses:
    """The egresses of one worker. `infos` returns the records of those that run there."""

    def __init__(
        self, client: RPCClient, infos: Callable[[], Sequence[EgressInfo]], cluster_id: str = ""
    ) -> None:
        self._client = client
        self._cluster_id = cluster_id
        self._infos = infos

    def methods(self) -> Mapping[str, TwirpMethod]:
        """Methods for TwirpService. Each needs the grant roomRecord."""
        return {
            "ListEgress": for_recorders(ListEgressRequest, self.list),
            "StopEgress": for_recorders(StopEgressRequest, self.stop, MethodKind.ORDER),
        }

    async def list(self, request: ListEgressRequest) -> ListEgressResponse:
        check_page(request)
        items = [
            info
            for info in self._infos()
            if request.egress_id in ("", info.egress_id)
            and request.room_name in ("", info.room_name)
            and (not is_terminal(info) or not request.active)
        ]
        return ListEgressResponse(items=items)

    async def stop(self, request: StopEgressRequest) -> EgressInfo:
        """Stops an egress over the bus, as a livekit-server does, so it works for egresses of other workers
        too. Raises EgressError."""
        topic = check_egress_id(request.egress_id)
        with _explain_no_worker(topic):
            return await self._client.call(EgressHandler.STOP_EGRESS, request, topic=topic)

    async def order(self, order: Order, egress_id: str) -> EgressInfo:
        """Sends an order over the bus to the worker that runs the egress. Returns once the order is carried
        out. Raises EgressError."""
        topic = check_egress_id(egress_id)
        request = UpdateLayoutRequest(egress_id=topic, layout=str(order))
        with _explain_no_worker(topic):
            return await self._client.call(EgressHandler.ORDER, request, topic=topic)

    async def set_options(self, asked: Options, egress_id: str) -> EgressInfo:
        """Changes options, also over the bus. Returns once the recording uses them. Raises EgressError."""
        return await self.order(orders.set_options(asked), egress_id)

    async def clip(self, asked: ClipRequest) -> ClipInfo:
        """Makes a clip of an egress that runs on any worker, or has ended. The record comes from the
        livekit-server if the egress does not run here. Raises EgressError."""
        egress_id = check_egress_id(asked.egress_id)
        info = next((each for each in self._infos() if each.egress_id == egress_id), None)
        if info is None:
            with _explain_no_worker(egress_id):
                info = await self._client.call(IOInfo.GET_EGRESS, GetEgressRequest(egress_id=egress_id))
        try:
            request = CutRequest(asked=asked, egress=info)
            return await self._client.call(EgressInternal.CLIP, request, topic=self._cluster_id)
        except EgressError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
            why = f"no worker has the recording of {egress_id!r}"
            raise EgressError(Code.UNAVAILABLE, why, fault=Fault.SERVICE) from error


@contextmanager
def _explain_no_worker(egress_id: str) -> Iterator[None]:
    """Replaces the error of a call that no worker answers by one that says so."""
    try:
        yield
    except EgressError as error:
        if error.code is not Code.NOT_FOUND and not isinstance(error, NoResponse):
            raise
        why = f"no worker runs an egress {egress_id!r}: it may have ended"
        raise EgressError(Code.NOT_FOUND, why) from error
