"""RPC over publish/subscribe, wire-compatible with github.com/livekit/psrpc."""

from collections.abc import AsyncIterator
from typing import Protocol


class Subscription(Protocol):
    """Iterates over the payloads of one channel, in order, until close()."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None:
        """Ends the iteration. Idempotent."""


class Bus(Protocol):
    """A message bus for psrpc. Payloads are serialised internal.Msg (psrpc.envelope)."""

    in_process: bool
    """Whether the bus connects only clients and servers of this process."""

    async def publish(self, channel: str, payload: bytes) -> None:
        """Publishes a payload. Raises EgressError (UNAVAILABLE) if the bus cannot be reached."""

    async def subscribe(self, channel: str) -> Subscription:
        """Subscribes to a channel. Payloads published after this returns are received. Raises EgressError."""

    async def subscribe_queue(self, channel: str) -> Subscription:
        """Subscribes like subscribe(), but each payload goes to only one of a channel's queue subscribers."""

    async def close(self) -> None:
        """Ends all subscriptions."""
