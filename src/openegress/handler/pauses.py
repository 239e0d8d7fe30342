"""The pauses of one recording: the result of each order, and their list for the manifest."""

from openegress.core.errors import Code, EgressError
from openegress.core.events import Paused, Resumed
from openegress.core.pause_mode import PauseMode
from openegress.handler.media_input import MediaInput
from openegress.output.manifest import Pause
from openegress.request.orders import PauseOrder

MAX_PAUSES = 1000
"""Limit per recording, because placing each piece of its sound goes through all of them."""


class Pauses:
    """The pauses of one recording. Runs on the event loop, one order at a time."""

    def __init__(self, mode: PauseMode) -> None:
        self._mode = mode
        self._over: list[Pause] = []
        self._since_ns: int | None = None

    @property
    def is_paused(self) -> bool:
        return self._since_ns is not None

    async def apply_order(self, order: PauseOrder, media_input: MediaInput) -> Paused | Resumed | None:
        """Applies an order. Returns the result; None if nothing changes. Raises EgressError if it is
        impossible."""
        match order:
            case PauseOrder.PAUSE if self._since_ns is None:
                if len(self._over) >= MAX_PAUSES:
                    why = f"the recording has {MAX_PAUSES} pauses, the maximum"
                    raise EgressError(Code.RESOURCE_EXHAUSTED, why)
                self._since_ns = await media_input.pause(self._mode)
                return Paused(self._since_ns)
            case PauseOrder.RESUME if self._since_ns is not None:
                at_ns = await media_input.resume()
                self._over.append(Pause(self._since_ns, at_ns))
                self._since_ns = None
                return Resumed(at_ns)
        return None

    def go_on(self, pauses: tuple[Pause, ...]) -> None:
        """Takes over the pauses of a recording that another handler began. One without an end is open."""
        self._over = [each for each in pauses if each.resumed_at_ns]
        self._since_ns = next((each.paused_at_ns for each in pauses if not each.resumed_at_ns), None)

    def until(self, ended_at_ns: int) -> tuple[Pause, ...]:
        """All pauses. An open one ends with the recording."""
        open_now = () if self._since_ns is None else (Pause(self._since_ns, ended_at_ns),)
        return (*self._over, *open_now)
