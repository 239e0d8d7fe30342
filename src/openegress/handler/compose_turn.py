"""Asks the worker whether this process may compose now: on one machine few do so at a time."""

import asyncio
from collections.abc import Callable

from openegress.core import ipc
from openegress.core.codecs import EncoderSpeed

_SPEEDS = (EncoderSpeed.FAST, EncoderSpeed.VERYFAST, EncoderSpeed.SUPERFAST)
"""By how many recordings wait for this one."""
_QUICKEST = EncoderSpeed.ULTRAFAST
"""Where more do."""


class ComposeTurn:
    """Of one process. The turn is over when the process is. It chooses the speed of an encoder that adapts:
    the more recordings wait, the quicker each is composed."""

    def __init__(self, send: Callable[[ipc.AskTurn], None]) -> None:
        self._send = send
        self._given = asyncio.Event()
        self.speed = _QUICKEST
        """From any thread."""

    def give(self, behind: int = 0) -> None:
        """Also when it was given and that has changed."""
        self.speed = _SPEEDS[behind] if behind < len(_SPEEDS) else _QUICKEST
        self._given.set()

    def seen(self, now_s: float, *, offered: int, pressed: int, took_s: float) -> bool:
        """How the encoder keeps up is no matter: its source waits for it."""
        return False

    async def wait(self) -> None:
        self._send(ipc.AskTurn())
        await self._given.wait()
