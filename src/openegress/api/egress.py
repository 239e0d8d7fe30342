"""The ten methods of the Egress API: turns requests into calls to workers, records and rooms."""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

import structlog
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    ListEgressRequest,
    ListEgressResponse,
    ParticipantEgressRequest,
    RoomCompositeEgressRequest,
    StartEgressRequest,
    StopEgressRequest,
    TrackCompositeEgressRequest,
    TrackEgressRequest,
    UpdateLayoutRequest,
    UpdateStreamRequest,
    WebEgressRequest,
)

from openegress.api import layouts
from openegress.api.late_stops import LateStops
from openegress.api.rooms import Rooms
from openegress.api.start_queue import StartQueue
from openegress.api.twirp import MethodKind, TwirpMethod, for_recorders
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.ids import new_id
from openegress.core.info import is_running, is_terminal
from openegress.core.looks import PictureFiles
from openegress.proto import egress_rpc_pb2 as rpc
from openegress.proto.openegress_control_pb2 import ClipInfo, ClipRequest, CutRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.services import ONCE, CallRetry, EgressHandler, EgressInternal
from openegress.psrpc.wire_errors import NoResponse
from openegress.request import look_options, orders
from openegress.request.options import Options
from openegress.request.orders import LayoutOrder, Order, PauseOrder
from openegress.request.request_kind import request_kind, room_of
from openegress.store import Change
from openegress.store.ioinfo import IOInfoService
from openegress.store.webhooks import check_webhooks

_log = structlog.get_logger(__name__)

SERVICE = "livekit.Egress"

_NO_ANSWER = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})

Start = (
    StartEgressRequest
    | RoomCompositeEgressRequest
    | WebEgressRequest
    | ParticipantEgressRequest
    | TrackCompositeEgressRequest
    | TrackEgressRequest
)


@dataclass(frozen=True, slots=True)
class ApiPolicy:
    """The operator's settings for the API."""

    signing_keys: Collection[str]
    """API keys that may sign webhooks."""
    default_signing_key: str = ""
    """The key that signs webhooks that name no key; empty: they must name one."""
    cluster_id: str = ""
    start_retry: CallRetry = ONCE
    """How often a start that found no worker is retried."""
    queue_size: int = 0
    """How many starts may wait for a free worker."""
    queue_max_wait_s: float = 60.0
    no_room: Code = Code.UNAVAILABLE
    template_base: str = ""
    """The template page for rooms whose request names none; empty: the built-in layouts."""
    pictures: PictureFiles = field(default_factory=PictureFiles)
    """The pictures that options may name."""
    layouts: Collection[str] = ()
    """Names of the operator's own layouts."""


class EgressService:
    """The API over all egresses on record. `rooms` is None if no LiveKit server is configured."""

    def __init__(
        self, client: RPCClient, records: IOInfoService, rooms: Rooms | None, policy: ApiPolicy
    ) -> None:
        self._client = client
        self._records = records
        self._rooms = rooms
        self._policy = policy
        self._queue = StartQueue(policy.queue_size, policy.queue_max_wait_s, policy.no_room)
        self._late_stops = LateStops(client, records)
        records.listen(self._on_record)

    async def close(self) -> None:
        await self._late_stops.close()

    def methods(self) -> Mapping[str, TwirpMethod]:
        """Methods for TwirpService. Each needs the grant roomRecord."""
        starts = {
            "StartEgress": (StartEgressRequest, "egress"),
            "StartRoomCompositeEgress": (RoomCompositeEgressRequest, "room_composite"),
            "StartWebEgress": (WebEgressRequest, "web"),
            "StartParticipantEgress": (ParticipantEgressRequest, "participant"),
            "StartTrackCompositeEgress": (TrackCompositeEgressRequest, "track_composite"),
            "StartTrackEgress": (TrackEgressRequest, "track"),
        }
        return {
            name: for_recorders(request, self._start_as(body), MethodKind.START)
            for name, (request, body) in starts.items()
        } | {
            "UpdateLayout": for_recorders(UpdateLayoutRequest, self.update_layout),
            "UpdateStream": for_recorders(UpdateStreamRequest, self.update_stream, MethodKind.ORDER),
            "ListEgress": for_recorders(ListEgressRequest, self.list),
            "StopEgress": for_recorders(StopEgressRequest, self.stop, MethodKind.ORDER),
        }

    # --- starting

    def _start_as(self, body: str) -> Callable[[Start], Awaitable[EgressInfo]]:
        async def start(request: Start) -> EgressInfo:
            whole = rpc.StartEgressRequest(egress_id=new_id("EG_"))
            getattr(whole, body).CopyFrom(request)
            return await self.start(whole)

        return start

    async def start(self, request: rpc.StartEgressRequest) -> EgressInfo:
        """Starts one egress; `request` has an id and a body. Returns its record in EGRESS_STARTING.

        Raises EgressError that says what is wrong with the request, or why no worker takes it.
        """
        body = getattr(request, request.WhichOneof("request"))
        request_kind(request)  # refuses kinds that no worker supports
        check_webhooks(body.webhooks, self._policy.signing_keys, self._policy.default_signing_key)
        room_name = room_of(request)
        if room_name:
            request.room_name = room_name
            request.room_id = await self._room_id(room_name)
        try:
            return await self._queue.place(lambda: self._ask_workers(request))
        except EgressError as error:
            _log.info("a start was refused", egress_id=request.egress_id, error=error.text)
            if isinstance(error, NoResponse):
                raise self._without_workers(error) from None
            raise

    async def _ask_workers(self, request: rpc.StartEgressRequest) -> EgressInfo:
        return await self._client.call(
            EgressInternal.START_EGRESS,
            request,
            topic=self._policy.cluster_id,
            retry=self._policy.start_retry,
        )

    def _on_record(self, info: EgressInfo) -> None:
        if is_terminal(info):
            self._queue.freed()

    def _without_workers(self, error: EgressError) -> EgressError:
        cluster = f" of cluster {self._policy.cluster_id!r}" if self._policy.cluster_id else ""
        return EgressError(
            error.code,
            f"{error.message}: no egress worker{cluster} is connected, or all of them are shutting down; "
            "start one with `openegress worker` and the same Redis and cluster_id",
            fault=Fault.SERVICE,
        )

    async def _room_id(self, room_name: str) -> str:
        room_id = await self._livekit().find(room_name)
        if room_id is None:
            raise EgressError(Code.NOT_FOUND, "requested room does not exist")
        return room_id

    def _livekit(self) -> Rooms:
        if self._rooms is None:
            raise EgressError(
                Code.FAILED_PRECONDITION,
                "no LiveKit server is configured, so only web pages can be recorded: set LIVEKIT_URL, "
                "LIVEKIT_API_KEY and LIVEKIT_API_SECRET",
                fault=Fault.SERVICE,
            )
        return self._rooms

    # --- running

    async def list(self, request: ListEgressRequest) -> ListEgressResponse:
        """Returns one egress by its id, whatever else the request says; else those of a room, active ones, or
        all. Raises EgressError, with code NOT_FOUND for an unknown id."""
        return await self._records.list(request)

    async def stop(self, request: StopEgressRequest) -> EgressInfo:
        """Stops an egress. If no worker answers, the stop is kept for the worker that continues the egress.
        Raises EgressError."""
        info = await self._records.get(request.egress_id)
        _refuse_ended(info, "stopped")
        try:
            return await self._client.call(EgressHandler.STOP_EGRESS, request, topic=request.egress_id)
        except EgressError as error:
            explained = await self._explained(request.egress_id, error, "stopped", remap=True)
            if explained.code in _NO_ANSWER:
                self._late_stops.keep(request)
            raise explained from error

    async def update_stream(self, request: UpdateStreamRequest) -> EgressInfo:
        info = await self._records.get(request.egress_id)
        _refuse_ended(info, "updated")
        try:
            return await self._client.call(EgressHandler.UPDATE_STREAM, request, topic=request.egress_id)
        except EgressError as error:
            raise await self._explained(request.egress_id, error, "updated", remap=False) from error

    async def update_layout(self, request: UpdateLayoutRequest) -> EgressInfo:
        """Sets the recorder's layout, by its participant's metadata. Raises EgressError."""
        info = await self._records.get(request.egress_id)
        own_template = bool(self._policy.template_base)
        of_page = layouts.is_of_page(info, own_template=own_template)
        return await self._change(info, orders.in_layout(request.layout, of_page=of_page))

    async def set_options(self, asked: Options, egress_id: str) -> EgressInfo:
        """Changes options, like an UpdateLayout with these options and no layout. Raises EgressError."""
        return await self._change(await self._records.get(egress_id), orders.in_options(asked))

    async def _change(self, info: EgressInfo, asked: LayoutOrder) -> EgressInfo:
        _refuse_ended(info, "updated")
        policy, egress_id = self._policy, info.egress_id
        own_template = bool(policy.template_base)
        look_options.refuse_unknown_pictures(asked.looks, policy.pictures)
        if not layouts.is_laid_out(info, own_template=own_template):
            asked = asked.with_looks_ordered()
        if asked.order is not None:
            info = await self._order(asked.order, info)
        if not asked.changes_picture:
            return info
        ask = layouts.layout_change(info, asked, policy.layouts, own_template=own_template)
        if ask.layout is None:
            return layouts.noted(info, ask.notice)
        if asked.order is None:
            await self._check_recorded(info)
        try:
            metadata = json.dumps({"layout": ask.layout})
            await self._livekit().set_metadata(info.room_name, info.egress_id, metadata)
        except EgressError as error:
            # The new options may have ended the egress at once, so that its recorder is leaving the room.
            latest = await self._records.get(egress_id)
            is_over = error.code is Code.NOT_FOUND or not is_running(latest)
            if asked.order is None or not is_over:
                raise
            return latest
        while True:
            changed = layouts.with_layout(await self._records.get(egress_id), asked)
            if await self._records.update(changed) is not Change.STALE:
                return layouts.noted(changed, ask.notice)
            # The worker updated the record in between: try again, to keep its update and the layout.

    async def order(self, order: Order, egress_id: str) -> EgressInfo:
        """Returns once the order is carried out: after a pause nothing is recorded any more, after a resume
        media is recorded again. Raises EgressError."""
        return await self._order(order, await self._records.get(egress_id))

    async def _order(self, order: Order, info: EgressInfo) -> EgressInfo:
        """Sends the order to the worker that runs the egress, on whichever machine."""
        _refuse_ended(info, "updated")
        if isinstance(order, PauseOrder):
            _refuse_not_recording(info)
        return await self._ask_recorder(str(order), info)

    async def _check_recorded(self, info: EgressInfo) -> None:
        """Raises EgressError, UNAVAILABLE, if the recorder has just died: layouts set in the room would reach
        nobody."""
        if info.status == EgressStatus.EGRESS_ACTIVE:
            await self._ask_recorder("", info)

    async def _ask_recorder(self, order: str, info: EgressInfo) -> EgressInfo:
        request = UpdateLayoutRequest(egress_id=info.egress_id, layout=order)
        try:
            return await self._client.call(EgressHandler.ORDER, request, topic=info.egress_id)
        except EgressError as error:
            why = _without_worker() if isinstance(error, NoResponse) else error
            raise await self._explained(info.egress_id, why, "updated", remap=False) from error

    async def clip(self, asked: ClipRequest) -> ClipInfo:
        """Makes a clip at the worker that records, or at one that can read what was stored. Returns once the
        clip is stored. Raises EgressError."""
        info = await self._records.get(asked.egress_id)
        request = CutRequest(asked=asked, egress=info)
        try:
            return await self._client.call(EgressInternal.CLIP, request, topic=self._policy.cluster_id)
        except EgressError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
            what = "its stored files" if is_terminal(info) else "the recording"
            why = f"no connected worker has {what}"
            raise EgressError(Code.UNAVAILABLE, why, fault=Fault.SERVICE) from error

    async def _explained(self, egress_id: str, error: EgressError, verb: str, *, remap: bool) -> EgressError:
        """The error for the caller when an egress did not answer: it may have ended meanwhile."""
        info = await self._records.get(egress_id)
        gone = error.code in _NO_ANSWER or error.code is Code.NOT_FOUND
        if gone and not is_running(info):
            return _wrong_status(info, verb)
        if remap and error.code in _NO_ANSWER:
            return EgressError(Code.DEADLINE_EXCEEDED, "request timed out", fault=Fault.SERVICE)
        return error


def _refuse_ended(info: EgressInfo, verb: str) -> None:
    if info.status >= EgressStatus.EGRESS_COMPLETE:
        raise _wrong_status(info, verb)


def _without_worker() -> EgressError:
    why = "no worker has this egress now: if another one continues it, try again in a moment"
    return EgressError(Code.UNAVAILABLE, why, fault=Fault.SERVICE)


def _refuse_not_recording(info: EgressInfo) -> None:
    if info.status != EgressStatus.EGRESS_ACTIVE:
        raise _wrong_status(info, "paused or resumed")


def _wrong_status(info: EgressInfo, verb: str) -> EgressError:
    status = EgressStatus.Name(info.status)
    return EgressError(Code.FAILED_PRECONDITION, f"egress with status {status} cannot be {verb}")
