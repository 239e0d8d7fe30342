"""Leases of many workers in one Redis. Times come from Redis, as the clocks of machines differ."""

from collections.abc import Collection, Sequence

from openegress.config.settings import Redis as RedisSettings
from openegress.core.ids import is_egress_id
from openegress.psrpc.connection import RedisLink
from openegress.store.leases import LEASE_S, Lost, divided
from openegress.store.redis_keys import HOLDERS, LEASES, Keys

NOW = "local t = redis.call('TIME') local now = t[1] + t[2] / 1000000 "

HOLD = (
    NOW
    + """
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i])
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[2])
end
for i = 3, #KEYS do
  redis.call('ZADD', KEYS[i], now + ARGV[1], ARGV[2])
  redis.call('EXPIRE', KEYS[i], math.ceil(ARGV[1]))
end
"""
)

TAKE = (
    NOW
    + """
local ends = redis.call('ZSCORE', KEYS[1], ARGV[3])
if ends and tonumber(ends) > now then return 0 end
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. now, '+inf')) do
  if holder ~= ARGV[2] then return 0 end
end
redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[2])
return 1
"""
)

SHARE = (
    NOW
    + """
local ends = redis.call('ZSCORE', KEYS[1], ARGV[3])
if ends and tonumber(ends) > now and redis.call('HGET', KEYS[2], ARGV[3]) ~= ARGV[2] then return 0 end
redis.call('ZADD', KEYS[3], now + ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[3], math.ceil(ARGV[1]))
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
    """Leases in Redis, under keys of our own.

    `of` is a name for leases of things other than egresses.
    """

    def __init__(self, settings: RedisSettings, of: str = "") -> None:
        self._redis = RedisLink(settings)
        self._keys = Keys(self._redis)
        self._is_of_egresses = not of
        self._leases, self._holders = (LEASES, HOLDERS) if not of else (f"{LEASES}:{of}", f"{HOLDERS}:{of}")

    async def hold(self, worker_id: str, egress_ids: Collection[str]) -> None:
        alone, shares = self._sorted(egress_ids)
        if egress_ids:
            keys = [self._leases, self._holders, *shares]
            await self._keys.script(HOLD, keys, [LEASE_S, worker_id, *alone])

    async def release(self, egress_ids: Collection[str]) -> None:
        alone, shares = self._sorted(egress_ids)
        if alone:
            await self._keys.run([self._leases], self._redis.client.zrem, *alone)
            await self._keys.run([self._holders], self._redis.client.hdel, *alone)
        for key, worker_id in shares.items():
            await self._keys.run([key], self._redis.client.zrem, worker_id)

    async def take(self, worker_id: str, egress_id: str) -> bool:
        whole, sharer = divided(egress_id)
        keys = [self._leases, self._holders, self._shares(whole)]
        return bool(await self._keys.script(SHARE if sharer else TAKE, keys, [LEASE_S, worker_id, whole]))

    def _sorted(self, leases: Collection[str]) -> tuple[list[str], dict[str, str]]:
        """Returns the leases that are not shares, and the worker of each share, by the share's key."""
        parts = [divided(lease) for lease in leases]
        alone = [whole for whole, sharer in parts if not sharer]
        return alone, {self._shares(whole): sharer for whole, sharer in parts if sharer}

    def _shares(self, whole: str) -> str:
        """The key of a sorted set with workers by the time at which their share expires."""
        return f"{self._leases}:shares:{whole}"

    async def lost(self) -> Sequence[Lost]:
        rows = await self._keys.script(LOST, [self._leases, self._holders])
        named = [(_text(egress_id), _text(worker_id), silent_s) for egress_id, worker_id, silent_s in rows]
        return [
            Lost(egress_id, worker_id, float(silent_s) + LEASE_S)
            for egress_id, worker_id, silent_s in named
            # None of our processes writes values that are not ids.
            if is_egress_id(egress_id) or not self._is_of_egresses
        ]

    async def held(self) -> Collection[str]:
        return {_text(one) for one in await self._keys.run([self._leases], self._redis.client.zrange, 0, -1)}

    async def close(self) -> None:
        await self._redis.close()


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
