"""Checks that the room of a recording still exists before another handler continues: joining a room that has
ended would begin another meeting."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from openegress.core.errors import EgressError
from openegress.core.plan import Plan

_log = structlog.get_logger(__name__)

FindRoom = Callable[[str], Awaitable[str | None]]
"""Returns the id of a room by its name; None if the room does not exist. Raises EgressError."""

_ATTEMPTS = 5
_PAUSE_S = 1.0
"""Pause between attempts. A LiveKit server that restarts together with its recorder is up after a few
seconds, and has no rooms yet."""


class RoomCheck:
    def __init__(self, find: FindRoom | None = None) -> None:
        """`find` is None if there is no server to ask, and the recordings are not of rooms."""
        self._find = find

    async def is_on(self, plan: Plan) -> bool:
        """Whether the room still exists; False also if the server does not answer. Never raises."""
        if not plan.room_name:
            return True
        if self._find is None:
            return False
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                found = await self._find(plan.room_name)
            except EgressError as error:
                _log.warning(
                    "cannot check whether a room still exists", room=plan.room_name, error=error.text
                )
                if attempt < _ATTEMPTS:
                    await asyncio.sleep(_PAUSE_S)
                continue
            return found is not None and plan.room_id in ("", found)
        return False
