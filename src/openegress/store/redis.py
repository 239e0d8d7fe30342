"""Stores records and outbox of a cluster without livekit-server's records, in Redis.

All keys have our own names, so that a livekit-server on the same Redis neither lists nor purges them, and lie
in one slot, so that a record and its webhooks can change atomically on a Redis Cluster too. Scripts make each
step atomic. Python decides what to store; if the record has changed since, the script changes nothing and the
decision is repeated.

Values that cannot be decoded are moved aside (store.redis_keys), as other programs write to the same Redis.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import structlog
from livekit.protocol.egress import EgressInfo

from openegress.config.settings import Redis as RedisSettings
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.info import is_terminal
from openegress.psrpc.connection import Argument, RedisLink
from openegress.store import Announce, Change, Delivery
from openegress.store.record import judge, read, stamped
from openegress.store.redis_keys import (
    ACTIVE,
    DAMAGED,
    DELIVERIES,
    ENDED,
    LANE,
    LANES,
    LAST_DELIVERY,
    RECORDS,
    REVISION,
    ROOM,
    Keys,
)

_log = structlog.get_logger(__name__)

# The record comes last: a script that fails at a damaged key has then changed nothing that a second run would
# consider done.
APPLY = """
local stored = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if stored ~= ARGV[2] then return 0 end
redis.call('INCR', KEYS[9])
if ARGV[4] ~= '' then redis.call('SADD', KEYS[4], ARGV[1]) end
if ARGV[5] == '' then
  redis.call('SADD', KEYS[2], ARGV[1])
else
  redis.call('SREM', KEYS[2], ARGV[1])
  redis.call('ZADD', KEYS[3], ARGV[5], ARGV[1])
end
for i = 6, #ARGV, 3 do
  local id = redis.call('INCR', KEYS[5])
  redis.call('HSET', KEYS[6], id, ARGV[i + 2])
  redis.call('RPUSH', KEYS[8] .. ARGV[i], id)
  redis.call('ZADD', KEYS[7], 'NX', ARGV[i + 1], ARGV[i])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""

CLAIM = """
local claimed = {}
for _, lane in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])) do
  local id = redis.pcall('LINDEX', KEYS[3] .. lane, 0)
  if type(id) ~= 'string' then id = '' end
  redis.call('ZADD', KEYS[1], ARGV[2], lane)
  claimed[#claimed + 1] = {lane, id, redis.call('HGET', KEYS[2], id) or ''}
end
return claimed
"""

DROP_DELIVERY = """
local lane = KEYS[3] .. ARGV[1]
if redis.call('TYPE', lane).ok == 'list' and redis.call('LINDEX', lane, 0) == ARGV[2] then
  redis.call('LPOP', lane)
  redis.call('HDEL', KEYS[2], ARGV[2])
else
  redis.call('DEL', lane)
end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[4], 'delivery ' .. ARGV[2], ARGV[3]) end
if redis.call('EXISTS', lane) == 1 then
  redis.call('ZADD', KEYS[1], 0, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
"""

DROP_RECORD = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('INCR', KEYS[4])
redis.call('HSET', KEYS[5], 'record ' .. ARGV[1], ARGV[2])
return 1
"""

CONFIRM = """
if redis.call('LINDEX', KEYS[3] .. ARGV[1], 0) ~= ARGV[2] then return 0 end
redis.call('LPOP', KEYS[3] .. ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[2])
if redis.call('EXISTS', KEYS[3] .. ARGV[1]) == 1 then
  redis.call('ZADD', KEYS[1], 0, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return 1
"""

POSTPONE = """
if redis.call('LINDEX', KEYS[3] .. ARGV[1], 0) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
"""

PURGE = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1])
for _, id in ipairs(ids) do redis.call('ZREM', KEYS[2], id) end
return ids
"""

MAX_DECISIONS = 50
"""Limit for repeating a decision because the record has changed; more would be a bug."""


class RedisStore:
    """A Store and an Outbox for any number of processes on one Redis."""

    def __init__(self, settings: RedisSettings) -> None:
        self._redis = RedisLink(settings)
        self._keys = Keys(self._redis)

    async def open(self) -> None:
        """Connects. Raises EgressError if Redis cannot be reached."""
        await self._redis.run(self._redis.client.ping)

    async def close(self) -> None:
        await self._redis.close()

    async def put(self, info: EgressInfo) -> bool:
        return await self.apply(info) is Change.NEW

    async def apply(self, info: EgressInfo, announce: Announce | None = None) -> Change:
        ended_ns = (info.ended_at or info.updated_at) if is_terminal(info) else ""
        for _ in range(MAX_DECISIONS):
            stored, before = await self._stored(info.egress_id)
            change = judge(before, info)
            if change is Change.STALE:
                return change
            after = stamped(before, info)
            arguments: list[Argument] = [
                info.egress_id,
                stored or b"",
                after.SerializeToString(),
                info.room_name,
                ended_ns,
            ]
            for delivery in announce(change, after) if announce else ():
                arguments += [_lane(delivery), delivery.created_at_ns, msgspec.msgpack.encode(delivery)]
            keys = [RECORDS, ACTIVE, ENDED, ROOM + info.room_name]
            keys += [LAST_DELIVERY, DELIVERIES, LANES, LANE, REVISION]
            if await self._keys.script(APPLY, keys, arguments):
                return change
        raise EgressError(
            Code.ABORTED,
            f"the record of {info.egress_id} changes too often to be updated",
            fault=Fault.SERVICE,
        )

    async def get(self, egress_id: str) -> EgressInfo | None:
        return (await self._stored(egress_id))[1]

    async def list(self, room_name: str = "", active: bool = False) -> Sequence[EgressInfo]:
        client = self._redis.client
        sets = [ROOM + room_name] if room_name else []
        sets += [ACTIVE] if active else []
        if sets:
            ids = list(await self._keys.run(sets, client.sinter))
            stored = await self._keys.run([RECORDS], client.hmget, ids) if ids else []
            rows = zip(ids, stored, strict=True)
        else:
            rows = (await self._keys.run([RECORDS], client.hgetall)).items()
        infos = await self._read((egress_id, data) for egress_id, data in rows if data is not None)
        return sorted(infos, key=lambda info: (-info.started_at, info.egress_id))

    async def revision(self) -> int:
        stored = await self._keys.run([REVISION], self._redis.client.get)
        try:
            return int(stored or 0)
        except ValueError:
            # The counter starts again from zero; lists remember a higher number.
            return int(await self._keys.run([REVISION], self._redis.client.incr))

    async def purge(self, ended_before_ns: int) -> int:
        client = self._redis.client
        ids = await self._keys.script(PURGE, [RECORDS, ENDED], [ended_before_ns])
        for egress_id in ids:
            stored = await self._keys.run([RECORDS], client.hget, egress_id)
            info = read(egress_id, stored) if stored is not None else None
            if info is not None and info.room_name:
                await self._keys.run([ROOM + info.room_name], client.srem, egress_id)
            await self._keys.run([RECORDS], client.hdel, egress_id)
        if ids:
            await self._keys.run([REVISION], client.incr)
        return len(ids)

    async def _stored(self, egress_id: str) -> tuple[bytes | None, EgressInfo | None]:
        """The bytes of a record and the decoded record; (None, None) if it cannot be decoded."""
        stored = await self._keys.run([RECORDS], self._redis.client.hget, egress_id)
        if stored is None:
            return None, None
        found = await self._read([(egress_id.encode(), stored)])
        return (stored, found[0]) if found else (None, None)

    async def _read(self, rows: Iterable[tuple[bytes, bytes]]) -> Sequence[EgressInfo]:
        """Decodes records. Those that cannot be decoded are moved aside."""
        infos = []
        for egress_id, data in rows:
            if (info := read(egress_id, data)) is not None:
                infos.append(info)
            elif await self._keys.script(
                DROP_RECORD, [RECORDS, ACTIVE, ENDED, REVISION, DAMAGED], [egress_id, data]
            ):
                _log.error(
                    "a record cannot be decoded and is put aside", record=repr(egress_id), aside=DAMAGED
                )
        return infos

    # --- outbox

    async def claim(self, now_ns: int, until_ns: int, limit: int) -> Sequence[Delivery]:
        arguments = [now_ns, until_ns, limit]
        rows = await self._keys.script(CLAIM, [LANES, DELIVERIES, LANE], arguments)
        found = []
        for lane, delivery_id, data in rows:
            try:
                found.append(replace(msgspec.msgpack.decode(data, type=Delivery), id=int(delivery_id)))
            except (msgspec.MsgspecError, ValueError):
                _log.error("a webhook cannot be decoded and is put aside", lane=repr(lane), aside=DAMAGED)
                keys = [LANES, DELIVERIES, LANE, DAMAGED]
                await self._keys.script(DROP_DELIVERY, keys, [lane, delivery_id, data])
        return found

    async def confirm(self, delivery: Delivery) -> None:
        await self._keys.script(CONFIRM, [LANES, DELIVERIES, LANE], [_lane(delivery), delivery.id])

    async def postpone(self, delivery: Delivery, due_ns: int, attempts: int) -> None:
        data = msgspec.msgpack.encode(replace(delivery, attempts=attempts))
        await self._keys.script(
            POSTPONE, [LANES, DELIVERIES, LANE], [_lane(delivery), delivery.id, due_ns, data]
        )

    async def is_followed(self, delivery: Delivery) -> bool:
        waiting: int = await self._keys.run([LANE + _lane(delivery)], self._redis.client.llen)
        return waiting > 1

    async def next_due_ns(self) -> int | None:
        rows = await self._keys.run([LANES], self._redis.client.zrange, 0, 0, False, True)
        return int(rows[0][1]) if rows else None


def _lane(delivery: Delivery) -> str:
    return f"{delivery.egress_id} {delivery.url}"
