"""Claims names that only the room determines, by asking the worker before anything is written there."""

import asyncio
from collections.abc import Callable, Sequence

from openegress.core import ipc
from openegress.core.errors import Code, EgressError
from openegress.core.plan import FileOutput, Plan
from openegress.media import StreamFormat
from openegress.output.content_types import container_for
from openegress.request import naming, places


class NameClaim:
    """The claim of one recording. The worker knows what others write to, on this machine and in the whole
    cluster."""

    def __init__(self, plan: Plan, send: Callable[[ipc.ClaimNames], None]) -> None:
        self._wants_container = any(isinstance(o, FileOutput) and o.container is None for o in plan.outputs)
        self._is_needed = places.has_open_names(plan)
        self._send = send
        self._answer: asyncio.Future[ipc.NamesClaimed] = asyncio.get_running_loop().create_future()

    async def settle(self, values: dict[str, str], formats: Sequence[StreamFormat]) -> dict[str, str]:
        """Returns the values that name the outputs. Raises EgressError if another recording writes to such a
        name and the configuration refuses that. Waits for the worker: cancel it when the worker is gone."""
        if not self._is_needed or not values:
            return values
        container = container_for(formats) if self._wants_container else None
        self._send(ipc.ClaimNames(values, container))
        answer = await self._answer
        if answer.code:
            raise EgressError(Code(answer.code), answer.error)
        marks = {naming.MARK: answer.mark, naming.SEAL: answer.seal}
        return {**values, **{key: text for key, text in marks.items() if text}}

    def answer(self, message: ipc.NamesClaimed) -> None:
        if not self._answer.done():
            self._answer.set_result(message)
