"""Whether the room of a recording is still on when another handler is to go on with it: who joins a room that
is over begins another meeting."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from openegress.core.errors import EgressError
from openegress.core.plan import Plan

_log = structlog.get_logger(__name__)

FindRoom = Callable[[str], Awaitable[str | None]]
"""The id of a room by its name; None: there is no such room. Raises EgressError."""

_ATTEMPTS = 5
_PAUSE_S = 1.0
"""A LiveKit server that starts again with its recorder is there after a few seconds, and has no rooms."""


class RoomCheck:
    def __init__(self, find: FindRoom | None = None) -> None:
        """None: nobody can be asked, and what is recorded is in no room."""
        self._find = find

    async def is_on(self, plan: Plan) -> bool:
        """No also where nobody can say. Never raises."""
        if not plan.room_name:
            return True
        if self._find is None:
            return False
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                found = await self._find(plan.room_name)
            except EgressError as error:
                _log.warning("cannot ask whether a room is on", room=plan.room_name, error=error.text)
                if attempt < _ATTEMPTS:
                    await asyncio.sleep(_PAUSE_S)
                continue
            return found is not None and plan.room_id in ("", found)
        return False
