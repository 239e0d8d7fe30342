"""openegress.Control: what LiveKit's API has no methods for."""

from collections.abc import Mapping

from livekit.protocol.egress import EgressInfo, StopEgressRequest

from openegress.api.egress import EgressService
from openegress.api.twirp import TwirpMethod, for_recorders
from openegress.request.pausing import PauseOrder

CONTROL = "openegress.Control"


class ControlMethods:
    """A request is `string egress_id = 1`, as LiveKit's StopEgressRequest is; the answer an EgressInfo."""

    def __init__(self, egress: EgressService) -> None:
        self._egress = egress

    def methods(self) -> Mapping[str, TwirpMethod]:
        """For TwirpService. Every method needs the grant roomRecord."""
        return {
            "PauseEgress": for_recorders(StopEgressRequest, self._pause),
            "ResumeEgress": for_recorders(StopEgressRequest, self._resume),
        }

    async def _pause(self, request: StopEgressRequest) -> EgressInfo:
        return await self._egress.order(PauseOrder.PAUSE, request.egress_id)

    async def _resume(self, request: StopEgressRequest) -> EgressInfo:
        return await self._egress.order(PauseOrder.RESUME, request.egress_id)
