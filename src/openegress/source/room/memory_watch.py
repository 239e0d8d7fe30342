"""Drops media of a room before the system kills the process for its memory."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from openegress.source.memory import MemoryLimit, Shedding, process_bytes, release_free_memory

MEMORY_EVERY_S = 1.0
"""Time between two checks of the memory: freeing it takes a moment."""


class NoticeCallback(Protocol):
    def __call__(self, text: str, **fields: str | int | float | bool | None) -> None: ...


async def watch_memory(most_bytes: int, shed: Callable[[Shedding], None], notice: NoticeCallback) -> None:
    """Drops media when memory is short, until it is cancelled. `most_bytes`: limit of this process; 0: all
    there is."""
    ceiling = MemoryLimit(most_bytes)
    while True:
        await asyncio.sleep(MEMORY_EVERY_S)
        used = process_bytes("self")
        shedding = ceiling.look(used)
        if shedding is not Shedding.NOTHING:
            notice("memory is short", used_mib=used // 2**20, dropped=shedding.name.lower())
            shed(shedding)
            release_free_memory()
