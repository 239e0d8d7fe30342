"""Records and outbox of a cluster of our own, in Redis.

The keys are ours, all in one slot, so that a record and the webhooks it brings about change in one step on a
Redis Cluster too, and a livekit-server on the same Redis neither lists nor purges them. Scripts make each
step atomic; what to store is decided here, and a script that finds another record than the one decided upon
changes nothing, so the decision is made again.
"""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from livekit.protocol.egress import EgressInfo

from openegress.config.settings import Redis as RedisSettings
from openegress.core.errors import Code, EgressError, Fault
from openegress.psrpc.connection import Argument, RedisLink
from openegress.store import Announce, Change, Delivery
from openegress.store.record import is_terminal, judge, stamped

PREFIX = "{openegress}:"
"""In front of all our keys; the braces put them into one slot of a Redis Cluster."""
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
"""Counts changes of records."""

APPLY = """
local stored = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if stored ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
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
return 1
"""

CLAIM = """
local claimed = {}
for _, lane in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])) do
  local id = redis.call('LINDEX', KEYS[3] .. lane, 0)
  redis.call('ZADD', KEYS[1], ARGV[2], lane)
  claimed[#claimed + 1] = {id, redis.call('HGET', KEYS[2], id)}
end
return claimed
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
"""How often a record may change under a decision before something is wrong with the decisions."""


class RedisStore:
    """A Store and an Outbox for any number of processes on one Redis."""

    def __init__(self, settings: RedisSettings) -> None:
        self._redis = RedisLink(settings)

    async def open(self) -> None:
        """Raises EgressError when Redis cannot be reached."""
        await self._redis.run(self._redis.client.ping)

    async def close(self) -> None:
        await self._redis.close()

    async def put(self, info: EgressInfo) -> bool:
        return await self.apply(info) is Change.NEW

    async def apply(self, info: EgressInfo, announce: Announce | None = None) -> Change:
        ended_ns = (info.ended_at or info.updated_at) if is_terminal(info) else ""
        for _ in range(MAX_DECISIONS):
            stored = await self._redis.run(self._redis.client.hget, RECORDS, info.egress_id)
            before = EgressInfo.FromString(stored) if stored is not None else None
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
            if await self._redis.script(APPLY, keys, arguments):
                return change
        raise EgressError(
            Code.ABORTED,
            f"the record of {info.egress_id} changes too often to be updated",
            fault=Fault.SERVICE,
        )

    async def get(self, egress_id: str) -> EgressInfo | None:
        stored = await self._redis.run(self._redis.client.hget, RECORDS, egress_id)
        return EgressInfo.FromString(stored) if stored is not None else None

    async def list(self, room_name: str = "", active: bool = False) -> Sequence[EgressInfo]:
        sets = [ROOM + room_name] if room_name else []
        sets += [ACTIVE] if active else []
        if sets:
            ids = await self._redis.run(self._redis.client.sinter, sets)
            stored = await self._redis.run(self._redis.client.hmget, RECORDS, list(ids)) if ids else []
        else:
            stored = (await self._redis.run(self._redis.client.hgetall, RECORDS)).values()
        infos = [EgressInfo.FromString(data) for data in stored if data is not None]
        return sorted(infos, key=lambda info: (-info.started_at, info.egress_id))

    async def revision(self) -> int:
        return int(await self._redis.run(self._redis.client.get, REVISION) or 0)

    async def purge(self, ended_before_ns: int) -> int:
        ids = await self._redis.script(PURGE, [RECORDS, ENDED], [ended_before_ns])
        for egress_id in ids:
            stored = await self._redis.run(self._redis.client.hget, RECORDS, egress_id)
            if stored is not None and (room := EgressInfo.FromString(stored).room_name):
                await self._redis.run(self._redis.client.srem, ROOM + room, egress_id)
            await self._redis.run(self._redis.client.hdel, RECORDS, egress_id)
        if ids:
            await self._redis.run(self._redis.client.incr, REVISION)
        return len(ids)

    # --- outbox

    async def claim(self, now_ns: int, until_ns: int, limit: int) -> Sequence[Delivery]:
        arguments = [now_ns, until_ns, limit]
        rows = await self._redis.script(CLAIM, [LANES, DELIVERIES, LANE], arguments)
        return [
            replace(msgspec.msgpack.decode(data, type=Delivery), id=int(delivery_id))
            for delivery_id, data in rows
        ]

    async def confirm(self, delivery: Delivery) -> None:
        await self._redis.script(CONFIRM, [LANES, DELIVERIES, LANE], [_lane(delivery), delivery.id])

    async def postpone(self, delivery: Delivery, due_ns: int, attempts: int) -> None:
        data = msgspec.msgpack.encode(replace(delivery, attempts=attempts))
        await self._redis.script(
            POSTPONE, [LANES, DELIVERIES, LANE], [_lane(delivery), delivery.id, due_ns, data]
        )

    async def is_followed(self, delivery: Delivery) -> bool:
        waiting: int = await self._redis.run(self._redis.client.llen, LANE + _lane(delivery))
        return waiting > 1

    async def next_due_ns(self) -> int | None:
        rows = await self._redis.run(self._redis.client.zrange, LANES, 0, 0, withscores=True)
        return int(rows[0][1]) if rows else None


def _lane(delivery: Delivery) -> str:
    return f"{delivery.egress_id} {delivery.url}"
