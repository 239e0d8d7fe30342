"""Request/response over publish/subscribe, wire-compatible with github.com/livekit/psrpc."""

from collections.abc import AsyncIterator
from typing import Protocol


class Subscription(Protocol):
    """Payloads of one channel, in order, until closed."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None: ...


class Bus(Protocol):
    """What psrpc needs of a message bus. Payloads are serialised internal.Msg."""

    in_process: bool
    """Whether all who use it are in this process, and so none but our own clients."""

    async def publish(self, channel: str, payload: bytes) -> None: ...

    async def subscribe(self, channel: str) -> Subscription:
        """Live when this returns: a payload published after that is seen."""

    async def subscribe_queue(self, channel: str) -> Subscription:
        """As subscribe, but of all queue subscribers of a channel one gets each payload."""

    async def close(self) -> None: ...
