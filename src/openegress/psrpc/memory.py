"""Implements the bus inside one process: the same payloads as over Redis, without Redis."""

from collections import defaultdict, deque

from openegress.psrpc import Subscription
from openegress.psrpc.subscription import QueuedSubscription


class MemoryBus:
    """Delivers payloads at once and in order to all subscribers. Payloads without a subscriber are
    dropped."""

    in_process = True

    def __init__(self) -> None:
        self._broadcast: defaultdict[str, list[QueuedSubscription]] = defaultdict(list)
        self._queues: defaultdict[str, deque[QueuedSubscription]] = defaultdict(deque)

    async def publish(self, channel: str, payload: bytes) -> None:
        for subscription in self._broadcast.get(channel, ()):
            subscription.deliver(payload)
        if waiting := self._queues.get(channel):
            waiting[0].deliver(payload)
            waiting.rotate(-1)

    async def subscribe(self, channel: str) -> Subscription:
        async def forget(subscription: QueuedSubscription) -> None:
            self._broadcast[channel].remove(subscription)
            if not self._broadcast[channel]:
                del self._broadcast[channel]

        subscription = QueuedSubscription(forget)
        self._broadcast[channel].append(subscription)
        return subscription

    async def subscribe_queue(self, channel: str) -> Subscription:
        async def forget(subscription: QueuedSubscription) -> None:
            self._queues[channel].remove(subscription)
            if not self._queues[channel]:
                del self._queues[channel]

        subscription = QueuedSubscription(forget)
        self._queues[channel].append(subscription)
        return subscription

    async def close(self) -> None:
        for subscriptions in (*self._broadcast.values(), *self._queues.values()):
            for subscription in subscriptions:
                subscription.end()
        self._broadcast.clear()
        self._queues.clear()
