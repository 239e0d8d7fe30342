"""Implements openegress.Control: methods that LiveKit's API does not have."""

from collections.abc import Mapping
from typing import Protocol

from livekit.protocol.egress import EgressInfo, StopEgressRequest

from openegress.api.twirp import TwirpMethod, for_recorders
from openegress.core.errors import invalid
from openegress.proto.openegress_control_pb2 import AddMarkerRequest, ClipInfo, ClipRequest, SetOptionsRequest
from openegress.request import clips, options, orders
from openegress.request.options import Options
from openegress.request.orders import Order, PauseOrder

CONTROL = "openegress.Control"


class Controlled(Protocol):
    """Delivers orders to the recorders of egresses."""

    async def order(self, order: Order, egress_id: str) -> EgressInfo:
        """Carries out an order. Returns once the recorder has done so. Raises EgressError."""

    async def set_options(self, asked: Options, egress_id: str) -> EgressInfo:
        """Changes options. Returns once the recording uses them. Raises EgressError that names an option
        which cannot change."""

    async def clip(self, asked: ClipRequest) -> ClipInfo:
        """Makes a clip. Returns once it is stored. Raises EgressError."""


class ControlMethods:
    """The methods of openegress.Control. Requests are those of proto/openegress_control.proto; a method that
    needs only an egress_id takes LiveKit's StopEgressRequest. Answers are EgressInfo, or ClipInfo for
    Clip."""

    def __init__(self, egress: Controlled) -> None:
        self._egress = egress

    def methods(self) -> Mapping[str, TwirpMethod]:
        """Methods for TwirpService. Each needs the grant roomRecord."""
        return {
            "PauseEgress": for_recorders(StopEgressRequest, self._pause),
            "ResumeEgress": for_recorders(StopEgressRequest, self._resume),
            "SetOptions": for_recorders(SetOptionsRequest, self._set_options),
            "AddMarker": for_recorders(AddMarkerRequest, self._add_marker),
            "Clip": for_recorders(ClipRequest, self._clip),
        }

    async def _pause(self, request: StopEgressRequest) -> EgressInfo:
        return await self._egress.order(PauseOrder.PAUSE, request.egress_id)

    async def _resume(self, request: StopEgressRequest) -> EgressInfo:
        return await self._egress.order(PauseOrder.RESUME, request.egress_id)

    async def _set_options(self, request: SetOptionsRequest) -> EgressInfo:
        if not request.options:
            raise invalid('options: none; give {"max_duration": "2h"} or the like')
        asked = options.of_json(dict(request.options), "options")
        return await self._egress.set_options(asked, request.egress_id)

    async def _add_marker(self, request: AddMarkerRequest) -> EgressInfo:
        return await self._egress.order(orders.add_marker(request.name, request.ago), request.egress_id)

    async def _clip(self, request: ClipRequest) -> ClipInfo:
        clips.wish_of(request)  # refuses requests that are invalid for any recording
        return await self._egress.clip(request)
