"""Implements the bus over Redis PUBLISH/SUBSCRIBE, as livekit-server uses it."""

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
from openegress.core.tasks import cancellable, cancelled, stopped
from openegress.psrpc import Subscription
from openegress.psrpc.connection import FAILURES, RedisLink, connect_subscriber, disconnect, unreachable
from openegress.psrpc.subscription import QueuedSubscription

_log = structlog.get_logger(__name__)

LOCK_S = 5
"""Lifetime of the lock on a payload of a queue, as in psrpc."""

QUIET_S = 5.0
"""Time without a message after which the connection is pinged. It counts as lost after the same time without
an answer."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
"""Longest pause between attempts to reconnect."""

PUBLISH_PAUSE_S = 0.25
"""The pause between attempts to publish while Redis is unreachable, if the caller wants retries."""


@dataclass(slots=True)
class _Channel:
    """The subscriptions to one channel on this connection."""

    broadcast: list[QueuedSubscription] = field(default_factory=list)
    queue: deque[QueuedSubscription] = field(default_factory=deque)
    live: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while Redis has confirmed the subscription."""

    def deliver(self, payload: bytes) -> None:
        for subscription in self.broadcast:
            subscription.deliver(payload)
        if self.queue:
            self.queue[0].deliver(payload)
            self.queue.rotate(-1)


class _LockedPayloads(QueuedSubscription):
    """Yields the payloads that no other subscriber of the queue has locked."""

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
    """One connection for all subscriptions, and a pool for everything else.

    A lost connection is renewed with all its subscriptions, however long that takes. Payloads that were
    published meanwhile are lost, as Redis does not keep them. subscribe() waits until Redis is reachable.
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
        """Publishes a payload. Raises EgressError (UNAVAILABLE) if Redis cannot be reached within
        `retry_for_s` seconds."""
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
            self._channels[channel].broadcast.remove(subscription)
            await self._leave(channel)

        subscription = QueuedSubscription(forget)
        entry = self._entry(channel)
        entry.broadcast.append(subscription)
        await self._join(channel, entry, subscription)
        return subscription

    async def subscribe_queue(self, channel: str) -> Subscription:
        async def forget(subscription: QueuedSubscription) -> None:
            self._channels[channel].queue.remove(subscription)
            await self._leave(channel)

        subscription = _LockedPayloads(forget, self._take)
        entry = self._entry(channel)
        entry.queue.append(subscription)
        await self._join(channel, entry, subscription)
        return subscription

    async def ping(self) -> None:
        """Raises EgressError (UNAVAILABLE) if Redis does not answer. For health checks."""
        await self._redis.run(self._redis.client.ping)

    async def stopped(self) -> str | None:
        """Returns why the reader has stopped; None while it works. For health checks."""
        return stopped(self._reader)

    async def close(self) -> None:
        for entry in self._channels.values():
            for subscription in (*entry.broadcast, *entry.queue):
                subscription.end()
        self._channels.clear()
        await cancelled(self._reader)
        await self._redis.close()

    # --- queues

    async def _take(self, payload: bytes) -> bool:
        """Locks the payload. Returns False if another subscriber has locked it before."""
        key = base64.b64encode(hashlib.sha256(payload).digest()).decode()
        try:
            return bool(await self._redis.run(self._redis.client.set, key, b"1", nx=True, ex=LOCK_S))
        except EgressError as error:
            # A subscriber that can still reach Redis takes it. If there is none, the caller tries again.
            _log.warning("a request was skipped", error=error.message)
            return False

    # --- subscriptions

    def _entry(self, channel: str) -> _Channel:
        if self._reader is None:
            self._reader = asyncio.create_task(self._run(), name="redis-subscriptions")
        return self._channels.setdefault(channel, _Channel())

    async def _join(self, channel: str, entry: _Channel, subscription: QueuedSubscription) -> None:
        """Returns when Redis has confirmed the subscription, which is undone if the caller is cancelled."""
        try:
            if not entry.live.is_set():
                async with self._writing:
                    if self._pubsub is not None:
                        try:
                            await cancellable(self._pubsub.subscribe(channel))
                        except FAILURES:
                            pass  # the reader notices the loss and subscribes again to everything
            await entry.live.wait()
        except BaseException:
            await subscription.close()
            raise

    async def _leave(self, channel: str) -> None:
        entry = self._channels[channel]
        if entry.broadcast or entry.queue:
            return
        del self._channels[channel]
        async with self._writing:
            # There may be a new subscription to the channel by now.
            if self._pubsub is not None and channel not in self._channels:
                try:
                    await cancellable(self._pubsub.unsubscribe(channel))
                except FAILURES:
                    pass  # a lost connection has no subscriptions

    async def _run(self) -> None:
        """Opens the subscription connection, reads it, and opens it again after a loss."""
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
                    _log.info("redis is reachable again", channels=len(self._channels))
                lost, pause_s = False, FIRST_PAUSE_S
                await self._receive(pubsub)
            except FAILURES as error:
                if not lost:
                    _log.warning("redis is not reachable", error=unreachable(self._settings, error).message)
                lost = True
            except Exception:
                # Without subscriptions the service gets no requests, so any error leads to a new connection.
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
        pinged = False
        while True:
            message = await pubsub.get_message(timeout=QUIET_S)
            if message is None:
                if pinged:
                    raise RedisConnectionError(f"no answer for {QUIET_S:g} s")
                pinged = True
                async with self._writing:
                    await cancellable(pubsub.ping())
                continue
            pinged = False
            entry = self._channels.get(message["channel"].decode()) if message["channel"] else None
            if entry is None:
                continue
            if message["type"] == "message":
                entry.deliver(message["data"])
            elif message["type"] == "subscribe":
                entry.live.set()
