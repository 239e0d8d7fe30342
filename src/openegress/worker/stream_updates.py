"""UpdateStream on its way to a handler, and the answer on its way back."""

import asyncio
import itertools
from collections.abc import Callable, Sequence

from openegress.core import ipc
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.plan import StreamTarget

_TIMEOUT_S = 10.0
_EARLY_TIMEOUT_S = 2.0
"""Before the recording has begun; whoever asks over the bus waits for 3 s."""


class StreamUpdates:
    """Of one egress."""

    def __init__(self) -> None:
        self._calls: dict[int, asyncio.Future[ipc.Reply]] = {}
        self._ids = itertools.count(1)
        self._early: list[ipc.UpdateStreams] = []

    @property
    def early(self) -> Sequence[ipc.UpdateStreams]:
        """Asked for before there was a handler."""
        return self._early

    async def ask(
        self,
        add: tuple[StreamTarget, ...],
        remove: tuple[str, ...],
        *,
        send: Callable[[ipc.UpdateStreams], None] | None,
        has_begun: bool,
    ) -> None:
        """`send` gives it to the handler; None: there is none yet. `has_begun`: the recording has. Raises
        EgressError with everything that did not work."""
        call = next(self._ids)
        reply: asyncio.Future[ipc.Reply] = asyncio.get_running_loop().create_future()
        self._calls[call] = reply
        update = ipc.UpdateStreams(call, add, remove)
        if send is None:
            self._early.append(update)
        else:
            send(update)
        try:
            async with asyncio.timeout(_TIMEOUT_S if has_begun else _EARLY_TIMEOUT_S):
                answer = await reply
        except TimeoutError:
            late = (
                "did not answer in time"
                if has_begun
                else "has not begun yet: its streams change when it does"
            )
            raise EgressError(Code.DEADLINE_EXCEEDED, f"the recording {late}", fault=Fault.SERVICE) from None
        finally:
            del self._calls[call]
        if answer.code:
            raise EgressError(Code(answer.code), answer.error)

    def answer(self, reply: ipc.Reply) -> None:
        if (call := self._calls.get(reply.call)) is not None and not call.done():
            call.set_result(reply)
