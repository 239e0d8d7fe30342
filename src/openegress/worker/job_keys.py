"""The source of the room keys for one egress, if its room is encrypted end to end."""

from dataclasses import dataclass

from openegress.core import ipc
from openegress.core.plan import Plan
from openegress.core.room_keys import RoomKey
from openegress.worker.key_answers import AskKeys


@dataclass(frozen=True, slots=True)
class JobKeys:
    configured: tuple[RoomKey, ...] = ()
    ask: AskKeys | None = None
    """Asks the room's key service; None: the room has none."""

    def order(self, plan: Plan, seal: str = "", *, resumes: bool = False) -> ipc.Run:
        """The order for a handler. `seal`: the seal of the plan. `resumes`: another handler has begun the
        recording."""
        keys_from = ipc.KeysFrom.CONFIGURATION if self.ask is None else ipc.KeysFrom.SERVICE
        return ipc.Run(plan, self.configured, keys_from, resumes, seal)


NO_KEYS = JobKeys()
