"""Stops a media input."""

import asyncio
import logging
from dataclasses import dataclass

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.handler.media_input import MediaInput
from openegress.handler.stacks import stacks

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _StoppedInput:
    error: EgressError | None
    """Set if the last moments are missing."""
    closing: asyncio.Task[None]
    """Runs while the outputs finish."""


class InputStop:
    """Stops one input, once, within its time limit."""

    def __init__(self, media_input: MediaInput, limit_s: float) -> None:
        self._media_input = media_input
        self._limit_s = limit_s
        self._stopping: asyncio.Task[_StoppedInput] | None = None

    async def stop(self) -> EgressError | None:
        """Stops it only once, however often it is called. Never raises, because the recording must be
        finished in any case. Returns the error if the last moments are missing."""
        return (await self._begun()).error

    async def closed(self) -> None:
        """Returns when the input has released its resources, or its time is over."""
        await (await self._begun()).closing

    def _begun(self) -> "asyncio.Task[_StoppedInput]":
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop_in_time(), name="stop")
        return self._stopping

    async def _stop_in_time(self) -> _StoppedInput:
        error = await self._error_of_stop()
        return _StoppedInput(error, asyncio.create_task(self._close(), name="close"))

    async def _error_of_stop(self) -> EgressError | None:
        try:
            async with asyncio.timeout(self._limit_s) as deadline:
                await self._media_input.stop()
        except Exception:
            if deadline.expired():
                _log.error("the pipeline is frozen", extra={"stacks": stacks()})
                why = f"pipeline frozen: it had not ended {self._limit_s:g} s after the stop"
                return EgressError(Code.INTERNAL, why, fault=Fault.SERVICE, phase=Phase.FINISH)
            _log.exception("the source did not stop as it should")
        return None

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                await self._media_input.close()
        except Exception:
            _log.exception("the source could not clean up")
