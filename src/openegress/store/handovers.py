"""Keeps the egresses that another worker continues if theirs is lost: which worker has each, and what a
worker needs to continue it.

They are in Redis, whose clock counts. The worker that has an egress reports so again and again. If it is
silent for TENURE_S, it loses the egress to the first other worker that claims it. Each claim has a number, so
that a worker which was only out of reach learns that it has lost the egress.

To continue, a worker needs the plan, with the secrets of its storage. The plan is encrypted (AES-GCM) with a
key that is derived (HKDF-SHA256) from the API secret, which the workers of a deployment share, and bound to
its egress.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import msgspec
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from openegress.config.settings import Redis as RedisSettings
from openegress.core.ids import is_egress_id
from openegress.core.live_state import LiveState
from openegress.core.live_streams import NO_STREAMS, LiveStreams
from openegress.core.plan import Plan
from openegress.core.restart import Restart
from openegress.core.units import S
from openegress.psrpc.connection import Argument, RedisLink
from openegress.store.redis_keys import HANDOVER, HANDOVERS, Keys
from openegress.store.redis_leases import NOW

_log = structlog.get_logger(__name__)

TENURE_S = 7.0
"""Time without a report of its worker after which an egress is free. A Redis failover usually takes less."""
CLAIM_S = 12.0
"""The time in which other workers can claim a free egress. The lease of its record, which a worker renews
every 6 s, lasts 30 s: the claimer has that lease before anybody ends the record as lost."""
KEPT_S = 7 * 24 * 3600
"""How long Redis remembers which worker had an egress: a worker may return with a part of it."""
_NONCE_BYTES = 12


class Holding(Enum):
    """The relation of a worker to an egress that it has recorded."""

    OURS = auto()
    """This worker has the egress, or nobody has."""
    TAKEN = auto()
    """Another worker records the egress."""
    ENDED = auto()
    """Another worker has recorded the egress since. It has ended, or that worker lost it too."""


class HandoverOffer(msgspec.Struct, frozen=True):
    """Everything that a worker needs to continue an egress."""

    plan: Plan
    """The plan of the whole egress."""
    restarts: tuple[Restart, ...] = ()
    """The restarts by workers that have continued it so far."""
    live: LiveState | None = None
    """None: nothing was recorded yet."""
    streams: LiveStreams = NO_STREAMS


@dataclass(frozen=True, slots=True)
class Claimed:
    """An egress that now belongs to the claimer."""

    offer: HandoverOffer
    number: int
    heard_ns: int
    """The unix time in ns, by Redis' clock, of the last report of the previous worker."""


_OFFER = (
    NOW
    + """
local known = redis.call('HMGET', KEYS[2], 'holder', 'number')
if known[1] then
  local number = tonumber(known[2]) or 0
  if number > tonumber(ARGV[3]) then return 0 end
  if number == tonumber(ARGV[3]) and known[1] ~= ARGV[2] then return 0 end
end
redis.call('HSET', KEYS[2], 'holder', ARGV[2], 'number', ARGV[3], 'offer', ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[6])
redis.call('ZADD', KEYS[1], now + ARGV[5], ARGV[1])
return 1
"""
)
_BEAT = (
    NOW
    + """
local said = {}
for i = 2, #KEYS do
  local id, number = ARGV[2 * i], ARGV[2 * i + 1]
  local known = redis.call('HMGET', KEYS[i], 'holder', 'number')
  if not known[1] or not tonumber(known[2]) then
    said[#said + 1] = 2
  elseif known[1] == ARGV[1] and known[2] == number then
    redis.call('ZADD', KEYS[1], now + ARGV[2], id)
    redis.call('EXPIRE', KEYS[i], ARGV[3])
    said[#said + 1] = 1
  else
    said[#said + 1] = 0
  end
end
return said
"""
)
_LOST = (
    NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[1], now)
"""
)
_CLAIM = (
    NOW
    + """
local ends = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '-1')
if ends < now - ARGV[4] or ends > now then return false end
local offer = redis.call('HGET', KEYS[2], 'offer')
if not offer then return false end
local number = (tonumber(redis.call('HGET', KEYS[2], 'number')) or 0) + 1
redis.call('HSET', KEYS[2], 'holder', ARGV[2], 'number', number)
redis.call('EXPIRE', KEYS[2], ARGV[5])
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
return {number, offer, tostring(ends - ARGV[3])}
"""
)
_RELEASE = """
local known = redis.call('HMGET', KEYS[2], 'holder', 'number')
if known[1] and (known[1] ~= ARGV[2] or known[2] ~= ARGV[3]) then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], 'offer')
return 1
"""
_STANDING = (
    NOW
    + """
local known = redis.call('HMGET', KEYS[2], 'holder', 'number')
local ends = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '-1')
return {known[1] or '', tonumber(known[2]) or 0, ends > now and 1 or 0}
"""
)


class Handovers:
    """The handovers of one deployment's workers. Methods raise EgressError (unavailable) if Redis cannot be
    reached."""

    def __init__(self, settings: RedisSettings, cluster_id: str, secret: str) -> None:
        self._redis = RedisLink(settings)
        self._keys = Keys(self._redis)
        self._cluster_id = cluster_id
        self._index = f"{HANDOVERS}{cluster_id}"
        self._holder = ""
        derived = HKDF(SHA256(), 32, None, b"openegress handovers").derive(secret.encode())
        self._cipher = AESGCM(derived)

    def open(self, holder: str) -> None:
        """Sets the name of this worker, which its next process with the same spool keeps. Call it before any
        other method."""
        self._holder = holder

    async def offer(self, offer: HandoverOffer, number: int) -> bool:
        """Offers the egress, of which this worker records part `number`. Returns False if another worker has
        taken it over."""
        egress_id = offer.plan.egress_id
        sealed = self._seal(egress_id, msgspec.msgpack.encode(offer))
        arguments: list[Argument] = [egress_id, self._holder, number, sealed, TENURE_S, KEPT_S]
        return bool(await self._keys.script(_OFFER, [self._index, self._key(egress_id)], arguments))

    async def beat(self, numbers: Mapping[str, int]) -> Mapping[str, bool | None]:
        """Reports that this worker still records these parts, by egress id. Returns for each of them True,
        False if another worker has taken it over, or None if Redis has lost or damaged it, so that it must be
        offered again."""
        if not numbers:
            return {}
        keys = [self._index, *map(self._key, numbers)]
        arguments: list[Argument] = [self._holder, TENURE_S, KEPT_S]
        for pair in numbers.items():
            arguments += pair
        said = await self._keys.script(_BEAT, keys, arguments)
        meanings = {0: False, 1: True, 2: None}
        return {one: meanings[int(each)] for one, each in zip(numbers, said, strict=True)}

    async def release(self, egress_id: str, number: int) -> bool:
        """Withdraws an egress, so that no other worker may take it over. Returns False if one already has."""
        arguments: list[Argument] = [egress_id, self._holder, number]
        return bool(await self._keys.script(_RELEASE, [self._index, self._key(egress_id)], arguments))

    async def standing(self, egress_id: str, number: int | None = None) -> Holding:
        """The relation of this worker to an egress. `number` is that of the part which this worker recorded;
        None: unknown."""
        keys = [self._index, self._key(egress_id)]
        holder, known, lives = await self._keys.script(_STANDING, keys, [egress_id])
        if not holder:
            return Holding.OURS
        is_same = number is None or int(known) <= number
        if holder.decode(errors="replace") == self._holder and is_same:
            return Holding.OURS
        return Holding.TAKEN if lives else Holding.ENDED

    async def lost(self) -> Sequence[str]:
        """Ids of the egresses that any worker may claim."""
        rows = await self._keys.script(_LOST, [self._index], [CLAIM_S, KEPT_S])
        return [one for row in rows if is_egress_id(one := row.decode(errors="replace"))]

    async def look(self, egress_id: str) -> HandoverOffer | None:
        """The offer of an egress; None: there is none that can be read."""
        sealed = await self._keys.run([self._key(egress_id)], self._redis.client.hget, "offer")
        return None if sealed is None else self._open(egress_id, sealed)

    async def claim(self, egress_id: str) -> Claimed | None:
        """Makes this worker the one that continues a lost egress. Returns None if another worker was
        first."""
        arguments: list[Argument] = [egress_id, self._holder, TENURE_S, CLAIM_S, KEPT_S]
        row: Any = await self._keys.script(_CLAIM, [self._index, self._key(egress_id)], arguments)
        if not row:
            return None
        offer = self._open(egress_id, row[1])
        return Claimed(offer, int(row[0]), int(float(row[2]) * S)) if offer is not None else None

    async def close(self) -> None:
        await self._redis.close()

    def _key(self, egress_id: str) -> str:
        return f"{HANDOVER}{self._cluster_id}:{egress_id}"

    def _seal(self, egress_id: str, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, egress_id.encode())

    def _open(self, egress_id: str, sealed: bytes) -> HandoverOffer | None:
        try:
            nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            offer = msgspec.msgpack.decode(
                self._cipher.decrypt(nonce, text, egress_id.encode()), type=HandoverOffer
            )
        except (InvalidTag, ValueError) as error:
            _log.warning("cannot read another worker's offer", egress_id=egress_id, error=repr(error))
            return None
        return offer if offer.plan.egress_id == egress_id else None
