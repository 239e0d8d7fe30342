"""The source of handlers: one waits for the next request, and some have a browser that is up."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from openegress.core import ipc
from openegress.core.errors import EgressError, internal
from openegress.core.plan import Plan, needs_browser
from openegress.core.tasks import cancelled
from openegress.worker.fork_client import ForkClient
from openegress.worker.process import HandlerProcess
from openegress.worker.spare import Spare

_log = structlog.get_logger(__name__)

_RESPAWN_PAUSE_S = 5.0
"""The pause after a handler that could not get ready: the cause persists for a while."""

_READY_WITHIN_S = 60.0
"""Time limit for getting ready. A browser is up within seconds on an idle machine; one that takes longer than
this never gets ready."""

WARM_FOR_S = 15 * 60.0
"""How long a browser is kept after the last page, unless a number of browsers is configured."""

OnLog = Callable[[ipc.Log], None]


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the picture that a browser is started for."""

    width: int = 1280
    height: int = 720
    framerate: int = 30


class Pool:
    """Hands out handlers. Keeps some with a browser, and replaces each that is taken."""

    def __init__(
        self,
        settings: ipc.HandlerSettings,
        *,
        browsers: int | None,
        shape: Shape,
        on_log: OnLog,
        forks: ForkClient | None = None,
    ) -> None:
        """`browsers` is the number that always waits; None: one, as long as there are pages to record."""
        self._settings = settings
        self._browsers = browsers
        self._size = browsers or 0
        """The number of browsers to keep waiting now."""
        self._shape = shape
        self._on_log = on_log
        self._forks = forks or ForkClient()
        self._spare = Spare(self._fork)
        self._ready: list[HandlerProcess] = []
        self._dead: list[HandlerProcess] = []
        """Handlers that died while they waited; the filler cleans up after them."""
        self._wanted = asyncio.Event()
        self._filler: asyncio.Task[None] | None = None
        self._cooling: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Starts the fork server and the waiting handlers. Raises OSError when the machine cannot start a
        process."""
        await self._forks.start()
        self._spare.start()
        if self._browsers != 0:
            self._wanted.set()
            self._filler = asyncio.create_task(self._fill())

    async def take(self, plan: Plan) -> HandlerProcess:
        """Returns a handler for a plan. Raises OSError when the machine cannot start a process."""
        if not self._fits(plan):
            return await self.spawn()
        if self._browsers is None:
            self._keep_warm()
        return self._in_stock() or await self.spawn()

    async def spawn(self) -> HandlerProcess:
        """Returns a handler for any plan. Raises OSError when the machine cannot start a process."""
        return self._spare.take() or await self._fork()

    async def _fork(self) -> HandlerProcess:
        return await HandlerProcess.spawn(self._forks, self._settings)

    async def close(self) -> None:
        await self._spare.close()
        if self._cooling is not None:
            self._cooling.cancel()
        await cancelled(self._filler)
        for handler in self._ready:
            handler.kill()
        await asyncio.gather(*(handler.reap() for handler in (*self._ready, *self._dead)))
        self._ready.clear()
        self._dead.clear()
        await self._forks.close()

    def _fits(self, plan: Plan) -> bool:
        if not needs_browser(plan):
            return False
        video = plan.video
        return video is None or Shape(video.width, video.height, video.framerate) == self._shape

    def _keep_warm(self) -> None:
        self._size = 1
        if self._cooling is not None:
            self._cooling.cancel()
        self._cooling = asyncio.get_running_loop().call_later(WARM_FOR_S, self._cool)

    def _cool(self) -> None:
        self._size = 0
        self._wanted.set()

    def _in_stock(self) -> HandlerProcess | None:
        self._wanted.set()
        while self._ready:
            handler = self._ready.pop(0)
            if handler.alive:
                return handler
            _log.warning("a waiting handler has died", ended=handler.ended)
            self._dead.append(handler)
        return None

    async def _fill(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._dead:
                await self._dead.pop().reap()
            while len(self._ready) > self._size:
                await _discard(self._ready.pop())
            while len(self._ready) < self._size:
                try:
                    self._ready.append(await self._make())
                except (EgressError, OSError) as error:
                    # The cause (processes, memory, files) may be gone later.
                    _log.error("a handler did not get ready", error=str(error))
                    await asyncio.sleep(_RESPAWN_PAUSE_S)

    async def _make(self) -> HandlerProcess:
        """Starts a handler with a browser. If it raises EgressError or OSError, nothing is left of the
        handler."""
        shape = self._shape
        warm = ipc.Warm(self._settings, shape.width, shape.height, shape.framerate)
        handler = await HandlerProcess.spawn(self._forks, self._settings, warm)
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                ready = await self._until_ready(handler)
            why = handler.ended
        except TimeoutError:
            ready, why = False, f"it was not ready after {_READY_WITHIN_S:g} s"
        except (msgspec.MsgspecError, ValueError) as error:
            ready, why = False, f"its messages could not be read: {error}"
        except BaseException:
            await _discard(handler)
            raise
        if not ready:
            await _discard(handler)
            raise internal(why)
        return handler

    async def _until_ready(self, handler: HandlerProcess) -> bool:
        async for message in handler.messages():
            match message:
                case ipc.Ready():
                    return True
                case ipc.Log():
                    self._on_log(message)
        return False


async def _discard(handler: HandlerProcess) -> None:
    handler.kill()
    await handler.reap()
