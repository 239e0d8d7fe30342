"""Asks the worker whether this process may compose now: few may do so at a time on one machine."""

import asyncio
from collections.abc import Callable

from openegress.core import ipc
from openegress.core.codecs import EncoderSpeed

_SPEEDS = (EncoderSpeed.FAST, EncoderSpeed.VERYFAST, EncoderSpeed.SUPERFAST)
"""Encoder speeds, indexed by how many recordings wait for this one."""
_QUICKEST = EncoderSpeed.ULTRAFAST
"""The speed if more recordings wait."""


class ComposeTurn:
    """The turn of one process, which lasts until the process ends. It chooses the speed of an adapting
    encoder: the more recordings wait, the faster each is composed."""

    def __init__(self, send: Callable[[ipc.AskTurn], None]) -> None:
        self._send = send
        self._given = asyncio.Event()
        self.speed = _QUICKEST
        """The speed of the encoder. Any thread may read it."""

    def give(self, behind: int = 0) -> None:
        """Gives the turn, or updates it."""
        self.speed = _SPEEDS[behind] if behind < len(_SPEEDS) else _QUICKEST
        self._given.set()

    def seen(self, now_s: float, *, offered: int, pressed: int, took_s: float) -> bool:
        """Ignores how the encoder keeps up: its source waits for it."""
        return False

    async def wait(self) -> None:
        self._send(ipc.AskTurn())
        await self._given.wait()
