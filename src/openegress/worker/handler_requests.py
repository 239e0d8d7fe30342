"""Sends requests to the handler of a running recording, and matches its answers."""

import asyncio
import itertools
from collections.abc import Callable, Sequence

from openegress.core import ipc
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.plan import StreamTarget
from openegress.psrpc.services import ORDER_TIMEOUT_S

_TIMEOUT_S = 10.0
_EARLY_TIMEOUT_S = 2.0
"""Time-out before the recording has begun; callers on the bus wait for 3 s."""
_ORDER_S = ORDER_TIMEOUT_S - 1.0
"""Time-out for an order; callers on the bus wait longer."""

Asked = ipc.UpdateStreams | ipc.ApplyOrder
Send = Callable[[Asked], None]
"""Sends a request to the handler."""


class HandlerRequests:
    """The requests to one egress."""

    def __init__(self) -> None:
        self._calls: dict[int, asyncio.Future[ipc.Reply]] = {}
        self._ids = itertools.count(1)
        self._early: list[ipc.UpdateStreams] = []

    async def update_streams(
        self, add: tuple[StreamTarget, ...], remove: tuple[str, ...], *, send: Send | None, has_begun: bool
    ) -> None:
        """Adds and removes streams. `send` is None without a handler. `has_begun` says that the recording has
        begun. Raises EgressError with everything that did not work."""
        update = ipc.UpdateStreams(next(self._ids), add, remove)
        if send is None:
            self._early.append(update)
        late = "did not answer in time" if has_begun else "has not begun yet: its streams change when it does"
        await self._ask(update, send, _TIMEOUT_S if has_begun else _EARLY_TIMEOUT_S, late)

    async def apply_order(self, order: str, send: Send) -> None:
        """Applies an order, a text of request.orders, and returns once it is carried out. Raises
        EgressError."""
        request = ipc.ApplyOrder(next(self._ids), order)
        await self._ask(request, send, _ORDER_S, f"has not answered to {order}")

    def take_early(self) -> Sequence[ipc.UpdateStreams]:
        """Takes, once, the requests that came before there was a handler."""
        early, self._early = self._early, []
        return early

    def refuse_all(self, error: EgressError) -> None:
        """Refuses all requests, when nobody will answer any more."""
        for call in self._calls.values():
            if not call.done():
                call.set_exception(error)

    def answer(self, reply: ipc.Reply) -> None:
        if (call := self._calls.get(reply.call)) is not None and not call.done():
            call.set_result(reply)

    async def _ask(self, asked: Asked, send: Send | None, timeout_s: float, late: str) -> None:
        reply: asyncio.Future[ipc.Reply] = asyncio.get_running_loop().create_future()
        self._calls[asked.call] = reply
        if send is not None:
            send(asked)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await reply
        except TimeoutError:
            raise EgressError(Code.DEADLINE_EXCEEDED, f"the recording {late}", fault=Fault.SERVICE) from None
        finally:
            del self._calls[asked.call]
        if answer.code:
            raise EgressError(Code(answer.code), answer.error)
