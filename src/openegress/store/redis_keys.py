"""The keys of a cluster's store in Redis: their names and types, and the handling of damaged ones.

Other programs may use the same Redis. A key or a record of a wrong type is moved to `DAMAGED` and logged, and
the service goes on.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any

import structlog
from redis.exceptions import ResponseError

from openegress.core.errors import EgressError
from openegress.core.text import shown
from openegress.psrpc.connection import Argument, RedisLink

_log = structlog.get_logger(__name__)

PREFIX = "{openegress}:"
"""Prefix of all our keys. The braces put them into one slot of a Redis Cluster."""
RECORDS = PREFIX + "records"
"""Hash: egress id -> EgressInfo."""
ACTIVE = PREFIX + "active"
"""Set of the ids of records that have not ended."""
ENDED = PREFIX + "ended"
"""Sorted set: ids of ended records by the time of their end, in ns."""
ROOM = PREFIX + "room:"
"""Sets: ids of a room's records."""
DELIVERIES = PREFIX + "deliveries"
"""Hash: delivery id -> delivery."""
LANE = PREFIX + "lane:"
"""Lists: ids of the deliveries of one egress to one URL, in order."""
LANES = PREFIX + "lanes"
"""Sorted set: lanes by the time their head is due, in ns."""
LAST_DELIVERY = PREFIX + "last_delivery"
REVISION = PREFIX + "revision"
"""Number of changes of records."""
LEASES = PREFIX + "leases"
"""Sorted set: egress ids by the time at which their lease expires, in unix seconds."""
HOLDERS = PREFIX + "holders"
"""Hash: egress id -> worker id."""
HANDOVERS = PREFIX + "handovers:"
"""Sorted sets, by cluster: egress ids by the time until which their worker counts as alive, in unix
seconds."""
HANDOVER = PREFIX + "handover:"
"""Hashes, by cluster and egress id: the worker that records it, and what another one needs to continue it."""
DAMAGED = PREFIX + "damaged"
"""Hash: values that could not be decoded, by the place where they were found. Keys of a wrong type are
renamed to "<DAMAGED>:<their name>:<unix ns>"."""


class Holds(Enum):
    """The type of a key, by Redis' name. A number is a string."""

    HASH = "hash"
    SET = "set"
    SORTED_SET = "zset"
    LIST = "list"
    NUMBER = "string"


_HOLDS = {
    RECORDS: Holds.HASH,
    ACTIVE: Holds.SET,
    ENDED: Holds.SORTED_SET,
    DELIVERIES: Holds.HASH,
    LANES: Holds.SORTED_SET,
    LAST_DELIVERY: Holds.NUMBER,
    REVISION: Holds.NUMBER,
    LEASES: Holds.SORTED_SET,
    HOLDERS: Holds.HASH,
    DAMAGED: Holds.HASH,
}

PUT_ASIDE = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return 0 end
local whole = kind ~= 'string' or string.match(redis.call('GET', KEYS[1]), '^%d+$')
if kind == ARGV[1] and whole then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
return 1
"""


def holds(key: str) -> Holds | None:
    """The type of one of our keys; None for a prefix."""
    if key in (ROOM, LANE):
        return None
    if key.startswith(ROOM):
        return Holds.SET
    if key.startswith(LANE):
        return Holds.LIST
    if key.startswith(HANDOVERS):
        return Holds.SORTED_SET
    if key.startswith(HANDOVER):
        return Holds.HASH
    if key.startswith((LEASES, HOLDERS)):  # other leases have keys with a suffix
        return Holds.SORTED_SET if key.startswith(LEASES) else Holds.HASH
    return _HOLDS[key]


class Keys:
    """Runs commands on our keys. If Redis refuses one because of a key's type, damaged keys are moved aside
    and the command is tried once more."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def run(self, keys: Sequence[str], command: Callable[..., Awaitable[Any]], *values: Any) -> Any:
        """Runs `command` with `keys`, then `values`, as arguments. Raises EgressError (UNAVAILABLE)."""
        return await self._mended(keys, lambda: self._link.run(command, *keys, *values))

    async def script(self, script: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:
        """Runs a Lua script. Raises EgressError (UNAVAILABLE)."""
        return await self._mended(keys, lambda: self._link.script(script, keys, arguments))

    async def _mended(self, keys: Sequence[str], call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call()
        except EgressError as error:
            if not isinstance(error.__cause__, ResponseError) or not await self._put_aside(keys):
                raise
        return await call()

    async def _put_aside(self, keys: Sequence[str]) -> bool:
        """Moves damaged keys aside. Returns True if there was one."""
        found = False
        for key in keys:
            kind = holds(key)
            if kind is None:
                continue
            aside = f"{DAMAGED}:{key.removeprefix(PREFIX)}:{time.time_ns()}"
            if await self._link.script(PUT_ASIDE, [key, aside], [kind.value]):
                _log.error("a key in Redis is damaged and put aside", key=shown(key), aside=shown(aside))
                found = True
        return found
