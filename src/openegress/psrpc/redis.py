"""The bus over Redis PUBLISH/SUBSCRIBE, as livekit-server uses it."""

import asyncio
import base64
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from openegress.config.settings import Redis as RedisSettings
from openegress.core.errors import EgressError
from openegress.core.tasks import cancellable, stopped
from openegress.psrpc import Subscription
from openegress.psrpc.connection import FAILURES, RedisLink, connect_subscriber, disconnect, unreachable
from openegress.psrpc.subscription import QueuedSubscription

_log = structlog.get_logger(__name__)

LOCK_S = 5
"""How long a payload of a queue stays taken; psrpc's own number."""

QUIET_S = 5.0
"""After this long without a message the connection is asked whether it lives, and gets as long to answer."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
"""Between attempts to reconnect."""

PUBLISH_PAUSE_S = 0.25
"""Between attempts to publish while Redis is away, where the caller asked for them."""


@dataclass(slots=True)
class _Channel:
    """Who listens to one channel on this connection."""

    everyone: list[QueuedSubscription] = field(default_factory=list)
    one_of: deque[QueuedSubscription] = field(default_factory=deque)
    live: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while Redis has confirmed the subscription."""

    def deliver(self, payload: bytes) -> None:
        for subscription in self.everyone:
            subscription.deliver(payload)
        if self.one_of:
            self.one_of[0].deliver(payload)
            self.one_of.rotate(-1)


class _TakenPayloads(QueuedSubscription):
    """Yields the payloads that no other subscriber of the queue has taken."""

    def __init__(
        self,
        on_close: Callable[[QueuedSubscription], Awaitable[None]],
        take: Callable[[bytes], Awaitable[bool]],
    ) -> None:
        super().__init__(on_close)
        self._take = take

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for payload in super().__aiter__():
            if await self._take(payload):
                yield payload


class RedisBus:
    """One connection for all subscriptions, a pool for everything else.

    A lost connection is made again for ever, with all its subscriptions; what was published meanwhile is
    lost, as Redis keeps nothing. subscribe() waits until Redis is there.
    """

    in_process = False

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._redis = RedisLink(settings)
        self._channels: dict[str, _Channel] = {}
        self._pubsub: PubSub | None = None
        # Commands on the subscription connection must not mix with its (re)connecting.
        self._writing = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None

    async def publish(self, channel: str, payload: bytes, retry_for_s: float = 0.0) -> None:
        """Raises EgressError (unavailable) when Redis cannot be reached, at once or after `retry_for_s`."""
        give_up_s = asyncio.get_running_loop().time() + retry_for_s
        while True:
            try:
                await self._redis.run(self._redis.client.publish, channel, payload)
                return
            except EgressError:
                if asyncio.get_running_loop().time() + PUBLISH_PAUSE_S > give_up_s:
                    raise
            await asyncio.sleep(PUBLISH_PAUSE_S)

    async def subscribe(self, channel: str) -> Subscription:
        async def forget(subscription: QueuedSubscription) -> None:
            self._channels[channel].everyone.remove(subscription)
            await self._leave(channel)

        subscription = QueuedSubscription(forget)
        entry = self._entry(channel)
        entry.everyone.append(subscription)
        await self._join(channel, entry, subscription)
        return subscription

    async def subscribe_queue(self, channel: str) -> Subscription:
        async def forget(subscription: QueuedSubscription) -> None:
            self._channels[channel].one_of.remove(subscription)
            await self._leave(channel)

        subscription = _TakenPayloads(forget, self._take)
        entry = self._entry(channel)
        entry.one_of.append(subscription)
        await self._join(channel, entry, subscription)
        return subscription

    async def ping(self) -> None:
        """For health checks. Raises EgressError (unavailable) when Redis does not answer."""
        await self._redis.run(self._redis.client.ping)

    async def stopped(self) -> str | None:
        """For health checks: why it does its work no more."""
        return stopped(self._reader)

    async def close(self) -> None:
        for entry in self._channels.values():
            for subscription in (*entry.everyone, *entry.one_of):
                subscription.end()
        self._channels.clear()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._redis.close()

    # --- queues

    async def _take(self, payload: bytes) -> bool:
        """Whether this subscriber is the first of all to take the payload."""
        key = base64.b64encode(hashlib.sha256(payload).digest()).decode()
        try:
            return bool(await self._redis.run(self._redis.client.set, key, b"1", nx=True, ex=LOCK_S))
        except EgressError as error:
            # Whoever can still reach Redis takes it; the caller tries again if nobody does.
            _log.warning("a request was passed over", error=error.message)
            return False

    # --- subscriptions

    def _entry(self, channel: str) -> _Channel:
        if self._reader is None:
            self._reader = asyncio.create_task(self._run(), name="redis-subscriptions")
        return self._channels.setdefault(channel, _Channel())

    async def _join(self, channel: str, entry: _Channel, subscription: QueuedSubscription) -> None:
        """Returns when Redis has confirmed; the subscription is undone if the caller stops waiting."""
        try:
            if not entry.live.is_set():
                async with self._writing:
                    if self._pubsub is not None:
                        try:
                            await cancellable(self._pubsub.subscribe(channel))
                        except FAILURES:
                            pass  # the reader sees the same loss and subscribes to everything anew
            await entry.live.wait()
        except BaseException:
            await subscription.close()
            raise

    async def _leave(self, channel: str) -> None:
        entry = self._channels[channel]
        if entry.everyone or entry.one_of:
            return
        del self._channels[channel]
        async with self._writing:
            # Somebody may have joined again while we waited for our turn.
            if self._pubsub is not None and channel not in self._channels:
                try:
                    await cancellable(self._pubsub.unsubscribe(channel))
                except FAILURES:
                    pass  # a connection that is lost has no subscriptions

    async def _run(self) -> None:
        """Owner of the subscription connection: makes it, reads it, makes it again."""
        pause_s = FIRST_PAUSE_S
        lost = False
        while True:
            client = connect_subscriber(self._settings)
            pubsub = client.pubsub()
            try:
                async with self._writing:
                    await cancellable(pubsub.connect())  # type: ignore[no-untyped-call]
                    self._pubsub = pubsub
                    if self._channels:
                        await cancellable(pubsub.subscribe(*self._channels))
                if lost:
                    _log.info("redis is back", channels=len(self._channels))
                lost, pause_s = False, FIRST_PAUSE_S
                await self._receive(pubsub)
            except FAILURES as error:
                if not lost:
                    _log.warning("redis is away", error=unreachable(self._settings, error).message)
                lost = True
            except Exception:
                # Without subscriptions the service is deaf: whatever it was, a new connection is the cure.
                _log.exception("the subscription connection failed")
                lost = True
            finally:
                self._pubsub = None
                for entry in self._channels.values():
                    entry.live.clear()
                await pubsub.aclose()  # type: ignore[no-untyped-call]
                await disconnect(client)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _receive(self, pubsub: PubSub) -> None:
        asked = False
        while True:
            message = await pubsub.get_message(timeout=QUIET_S)
            if message is None:
                if asked:
                    raise RedisConnectionError(f"no answer for {QUIET_S:g} s")
                asked = True
                async with self._writing:
                    await cancellable(pubsub.ping())
                continue
            asked = False
            entry = self._channels.get(message["channel"].decode()) if message["channel"] else None
            if entry is None:
                continue
            if message["type"] == "message":
                entry.deliver(message["data"])
            elif message["type"] == "subscribe":
                entry.live.set()
