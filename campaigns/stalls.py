"""Measures whether the machine gave this process its time: delays here are not the recorder's fault."""

import asyncio
import time
from types import TracebackType
from typing import Self

TICK_S = 0.01


class StallWatch:
    """Use as an async context manager. `worst_s`: the longest time for which the event loop was held up.

    Publishers run in threads of the same process: they are held up together.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            begun_s = time.monotonic()
            await asyncio.sleep(TICK_S)
            self.worst_s = max(self.worst_s, time.monotonic() - begun_s - TICK_S)
