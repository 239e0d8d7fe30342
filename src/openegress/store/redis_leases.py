"""Leases of many workers on one Redis, by Redis' own clock, so that those of the machines do not matter."""

from collections.abc import Collection, Sequence

from openegress.config.settings import Redis as RedisSettings
from openegress.psrpc.connection import RedisLink
from openegress.store.leases import LEASE_S, Lost
from openegress.store.redis import PREFIX

LEASES = PREFIX + "leases"
"""Sorted set: egress ids by the time their lease runs out, in unix seconds."""
HOLDERS = PREFIX + "holders"
"""Hash: egress id -> worker id."""

NOW = "local t = redis.call('TIME') local now = t[1] + t[2] / 1000000 "

HOLD = (
    NOW
    + """
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i])
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[2])
end
"""
)

TAKE = (
    NOW
    + """
local ends = redis.call('ZSCORE', KEYS[1], ARGV[3])
if ends and tonumber(ends) > now then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[2])
return 1
"""
)

LOST = (
    NOW
    + """
local lost = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  local ends = redis.call('ZSCORE', KEYS[1], id)
  lost[#lost + 1] = {id, redis.call('HGET', KEYS[2], id) or '', tostring(now - ends)}
end
return lost
"""
)


class RedisLeases:
    """Leases in Redis. Those of livekit-server's deployments lie beside its own keys."""

    def __init__(self, settings: RedisSettings) -> None:
        self._redis = RedisLink(settings)

    async def hold(self, worker_id: str, egress_ids: Collection[str]) -> None:
        if egress_ids:
            await self._redis.script(HOLD, [LEASES, HOLDERS], [LEASE_S, worker_id, *egress_ids])

    async def release(self, egress_ids: Collection[str]) -> None:
        if egress_ids:
            await self._redis.run(self._redis.client.zrem, LEASES, *egress_ids)
            await self._redis.run(self._redis.client.hdel, HOLDERS, *egress_ids)

    async def take(self, worker_id: str, egress_id: str) -> bool:
        return bool(await self._redis.script(TAKE, [LEASES, HOLDERS], [LEASE_S, worker_id, egress_id]))

    async def lost(self) -> Sequence[Lost]:
        rows = await self._redis.script(LOST, [LEASES, HOLDERS])
        return [Lost(row[0].decode(), row[1].decode(), float(row[2]) + LEASE_S) for row in rows]

    async def held(self) -> Collection[str]:
        return {one.decode() for one in await self._redis.run(self._redis.client.zrange, LEASES, 0, -1)}

    async def close(self) -> None:
        await self._redis.close()
