"""The event loop of a service and of its handlers: asyncio's, but it resolves names in threads of their own.

asyncio itself uses the pool that disks and large bodies share. getaddrinfo(3) waits for half a minute where
the name servers stay silent, and callers choose the names: a handful of such names would hold up everybody
else.
"""

import asyncio
import functools
import socket
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from openegress.core import daemon_thread

T = TypeVar("T")

MAX_LOOKUPS = 512
"""Lookups at a time, each in a thread: 64 webhooks that are given up after ten seconds leave 200."""


class LookupLoop(asyncio.SelectorEventLoop):
    """aiohttp, asyncio's streams and everything else in the loop resolve names by getaddrinfo()."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups: set[Future[Any]] = set()

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Raises socket.gaierror, also where too many lookups are under way. A lookup that nobody waits for
        any more continues in its thread."""
        self._lookups = {each for each in self._lookups if not each.done()}
        if len(self._lookups) >= MAX_LOOKUPS:
            raise socket.gaierror(socket.EAI_AGAIN, f"{MAX_LOOKUPS} names are being looked up already")
        call = functools.partial(socket.getaddrinfo, host, port, family, type, proto, flags)
        lookup = daemon_thread.submit("lookup", call)
        self._lookups.add(lookup)
        return await asyncio.wrap_future(lookup, loop=self)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Like asyncio.run(), in a LookupLoop."""
    with asyncio.Runner(loop_factory=LookupLoop) as runner:
        return runner.run(main)
