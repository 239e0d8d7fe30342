"""The pauses of one recording: it obeys orders, reports what came of them, and lists them in the manifest."""

import logging

from openegress.core.errors import Code, EgressError
from openegress.core.events import Paused, Resumed
from openegress.core.plan import Plan, StreamOutput, WebsocketOutput
from openegress.handler.media_input import MediaInput
from openegress.output.manifest import Pause
from openegress.request.pausing import PauseOrder

_log = logging.getLogger(__name__)


class Pauses:
    """On the event loop; one order at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._over: list[Pause] = []
        self._since_ns: int | None = None

    async def obey(self, order: PauseOrder, media_input: MediaInput) -> Paused | Resumed | None:
        """What came of it; None: nothing, and the log says why."""
        try:
            match order:
                case PauseOrder.PAUSE if self._since_ns is None:
                    self._refuse_unsuited()
                    self._since_ns = await media_input.pause()
                    return Paused(self._since_ns)
                case PauseOrder.RESUME if self._since_ns is not None:
                    at_ns = await media_input.resume()
                    self._over.append(Pause(self._since_ns, at_ns))
                    self._since_ns = None
                    return Resumed(at_ns)
        except EgressError as error:
            _log.warning("the recording could not be paused or resumed: %s", error.text)
        return None

    def until(self, ended_at_ns: int) -> tuple[Pause, ...]:
        """All of them. One that has not ended yet ends with the recording."""
        open_now = () if self._since_ns is None else (Pause(self._since_ns, ended_at_ns),)
        return (*self._over, *open_now)

    def _refuse_unsuited(self) -> None:
        if any(isinstance(output, StreamOutput | WebsocketOutput) for output in self._plan.outputs):
            raise EgressError(Code.UNIMPLEMENTED, "pause of an egress with streams is not supported")
