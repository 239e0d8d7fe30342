"""Runs a handler that makes a clip: at the lowest priority on the machine, and alone in its process, so that
no recording waits for it."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from openegress.core import ipc
from openegress.core.clip_plan import ClipMade, ClipPlan
from openegress.core.errors import Code, EgressError, internal
from openegress.core.events import AnyEvent, Progress
from openegress.core.tasks import cancelled
from openegress.handler.cage import Confinement
from openegress.handler.uploaders import Uploaders
from openegress.output.clip.maker import ClipMaker
from openegress.storage import open_storage
from openegress.storage.uploader import Connect

_log = logging.getLogger(__name__)

NICENESS = 19
"""The nice value of the process: everything else that wants the processor comes first (sched(7))."""
RETRY_FOR_S = 600.0
"""Time limit for retries of the clip's upload. The recording remains, so the clip can be requested again."""
_ALIVE_S = 1.0

Send = Callable[[AnyEvent | ClipMade | ipc.ClaimClip], None]


class Clipping:
    """Makes one clip. Run it once."""

    def __init__(
        self,
        plan: ClipPlan,
        spool: Path,
        send: Send,
        confinement: Confinement,
        connect: Connect = open_storage,
    ) -> None:
        self._plan = plan
        self._spool = spool
        self._send = send
        self._confinement = confinement
        self._uploaders = Uploaders(send, connect)
        storage = plan.target.storage
        patience_s = min(storage.retry_for_s, RETRY_FOR_S)
        uploader = self._uploaders.make(msgspec.structs.replace(storage, retry_for_s=patience_s))
        self._claimed: asyncio.Future[ipc.NamesClaimed] = asyncio.get_running_loop().create_future()
        self._maker = ClipMaker(plan, spool, uploader, self._claim)

    def stop(self) -> None:
        """Stops the work, because the caller no longer waits for it."""
        self._maker.stop()
        self._uploaders.stop_retrying()

    def answer(self, message: ipc.NamesClaimed) -> None:
        if not self._claimed.done():
            self._claimed.set_result(message)

    async def _claim(self, path: str) -> None:
        """Claims the path. Raises EgressError if something else is being written there."""
        self._send(ipc.ClaimClip(path))
        answer = await self._claimed
        if answer.code:
            raise EgressError(Code(answer.code), answer.error)

    async def run(self) -> None:
        """Makes the clip and sends the outcome. Never raises."""
        heart = asyncio.create_task(self._show_life(), name="clip alive")
        try:
            os.nice(NICENESS)
            await self._confinement.enter()
            made = await self._maker.make()
        except EgressError as error:
            made = ClipMade(error.code.value, error.text)
        except MemoryError:
            made = ClipMade(internal("").code.value, "cutting this recording takes too much memory")
        except Exception as error:
            _log.exception("a clip failed")
            made = ClipMade(internal("").code.value, f"the clip failed: {error!r}")
        finally:
            await cancelled(heart)
        self._send(made)

    async def _show_life(self) -> None:
        while True:
            self._send(Progress(0, 0, 0, 0, 0))
            await asyncio.sleep(_ALIVE_S)
