"""The life of a handler process: warm up, take one plan, carry it out, and end."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from openegress.core import ipc
from openegress.core.clip_plan import ClipPlan, ClipStored
from openegress.core.errors import EgressError
from openegress.core.events import EndReason
from openegress.core.plan import Plan, needs_browser
from openegress.core.render import Render
from openegress.core.room_keys import KeySupply
from openegress.handler import log
from openegress.handler.cage import Cage, Confinement, Granted, Unconfined, Work
from openegress.handler.channel import WorkerChannel
from openegress.handler.clipping import Clipping
from openegress.handler.compose_turn import ComposeTurn
from openegress.handler.composing import Composer
from openegress.handler.key_questions import KeyQuestions
from openegress.handler.name_claim import NameClaim
from openegress.handler.past import as_changed
from openegress.handler.put_requests import PutRequests
from openegress.handler.recording import Recording
from openegress.handler.recovery import Recovery
from openegress.handler.warm import BrowserShape, WarmBrowser
from openegress.handler.worker_services import WorkerServices
from openegress.request import orders
from openegress.source import memory

_log = logging.getLogger(__name__)

RECOVERY_BYTES = 2**30
"""Memory limit for reading a recording that is recovered or cut. FFmpeg trusts a damaged file's sample
counts: a kilobyte can claim gigabytes. An MP4 of a whole day takes 300 MiB."""


ORPHANED = 3
"""The exit status of a handler without a worker, treated like a kill: the media is in the spool."""


class HandlerLoop:
    """Reads the worker's messages until the recording has ended or, without one, the worker is gone."""

    def __init__(self, channel: WorkerChannel) -> None:
        self._channel = channel
        self._settings: ipc.HandlerSettings | None = None
        self._browser: WarmBrowser | None = None
        self._recording: Recording | None = None
        self._recovery: Recovery | None = None
        self._clipping: Clipping | None = None
        self._names: NameClaim | None = None
        self._turn = ComposeTurn(channel.send)
        self._keys: KeyQuestions | None = None
        self._puts: PutRequests | None = None
        self._running: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        inbox = asyncio.create_task(self._inbox(), name="inbox")
        try:
            await inbox
            if self._running is not None:
                await self._running
        finally:
            inbox.cancel()
            await asyncio.gather(inbox, *self._requests, return_exceptions=True)
            if self._browser is not None:
                await self._browser.close()

    async def _inbox(self) -> None:
        """Handles messages until the recording is over or the worker is gone."""
        messages = self._channel.messages()
        while True:
            following = asyncio.ensure_future(anext(messages, None))
            waiting: set[asyncio.Future[object]] = {following}  # type: ignore[arg-type]
            if self._running is not None:
                waiting.add(self._running)  # type: ignore[arg-type]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._running is not None and self._running.done():
                following.cancel()
                return
            message = following.result()
            if message is None:
                if self._puts is not None:
                    self._puts.lose_worker()
                if self._recording is not None and self._recording.is_left_to_next:
                    _log.warning("the worker is gone: the next one continues the recording")
                    os._exit(ORPHANED)
                if self._recording is not None:
                    _log.warning("the worker is gone: finishing the recording")
                self._stop(EndReason.KILLED, orphaned=True)
                return
            await self._take(message)

    async def _take(self, message: ipc.ToHandler) -> None:
        match message:
            case ipc.Environment(variables):
                os.environ.update(variables)
            case ipc.Warm():
                await self._warm(message)
            case ipc.Run():
                self._record(message)
            case ipc.Recover(plan):
                self._recover(plan)
            case ipc.MakeClip(plan=clip):
                self._make_clip(clip)
            case ClipStored():
                if self._recording is not None:
                    await self._recording.note_clip(message)
            case ipc.Stop(reason):
                self._stop(EndReason(reason))
            case ipc.NamesClaimed():
                if self._names is not None:
                    self._names.answer(message)
                if self._clipping is not None:
                    self._clipping.answer(message)
            case ipc.FilePut():
                if self._puts is not None:
                    self._puts.answer(message)
            case ipc.Turn(behind):
                self._turn.give(behind)
            case ipc.KeysGiven():
                if self._keys is not None:
                    self._keys.answer(message)
            case ipc.UpdateStreams(call, add, remove):
                self._answer(call, lambda recording: recording.update_streams(add, remove))
            case ipc.ApplyOrder(call, order):
                self._answer(call, lambda recording: recording.apply_order(orders.parse(order)))

    def _record(self, run: ipc.Run) -> None:
        plan = run.plan
        if run.resumes:
            # Not in a thread of the loop's pool: it would stay, outside the cage.
            plan = as_changed(plan, Path(self._told.spool))
        cage = self._cage(plan, Work.PAGE if needs_browser(plan) else Work.ROOM)
        send, puts = self._channel.send, self._put_requests(plan)
        self._names = NameClaim(plan, send)
        self._recording = Recording(
            plan,
            self._told,
            send,
            self._browser,
            cage,
            WorkerServices(self._names, puts.connect),
            self._composer(plan, puts),
        )
        self._browser = None
        if run.keys_from is ipc.KeysFrom.SERVICE:
            self._keys = KeyQuestions(send)
        supply = KeySupply(run.room_keys, self._keys)
        self._running = asyncio.create_task(
            self._recording.run(supply, resumes=run.resumes, seal=run.seal), name="recording"
        )

    def _recover(self, plan: Plan) -> None:
        if plan.render is Render.LIVE:
            memory.limit(RECOVERY_BYTES)  # composing takes as much as a live recording
        cage, puts = self._cage(plan, Work.RECOVERY), self._put_requests(plan)
        self._recovery = Recovery(
            plan, Path(self._told.spool), self._channel.send, cage, self._composer(plan, puts), puts.connect
        )
        self._running = asyncio.create_task(self._recovery.run(), name="recovery")

    def _make_clip(self, plan: ClipPlan) -> None:
        memory.limit(RECOVERY_BYTES)
        cage, puts = self._cage(plan, Work.CLIP), self._put_requests(plan)
        self._clipping = Clipping(plan, Path(self._told.spool), self._channel.send, cage, puts.connect)
        self._running = asyncio.create_task(self._clipping.run(), name="clip")

    def _stop(self, reason: EndReason, *, orphaned: bool = False) -> None:
        """Stops what runs. `orphaned`: the worker is gone."""
        if self._recording is not None:
            self._recording.stop(reason, orphaned=orphaned)
        if self._recovery is not None:
            self._recovery.stop(reason, orphaned=orphaned)
        if self._clipping is not None:
            self._clipping.stop()

    @property
    def _told(self) -> ipc.HandlerSettings:
        if self._settings is None:
            raise RuntimeError("unexpected message from the worker: the first one has to be Warm")
        return self._settings

    def _put_requests(self, plan: Granted) -> PutRequests:
        self._puts = PutRequests(Path(self._told.spool) / plan.egress_id, self._channel.send)
        return self._puts

    def _composer(self, plan: Plan, puts: PutRequests) -> Composer | None:
        """The composer of a plan; None if it is composed while it is recorded, or not at all."""
        if plan.render is not Render.DEFERRED:
            return None
        return Composer(plan, self._channel.send, self._turn, puts.connect)

    def _cage(self, plan: Granted, work: Work) -> Confinement:
        if work is not Work.PAGE:  # a browser limits itself
            memory.avoid_huge_pages()
        return Cage(plan, Path(self._told.spool), work) if self._told.confined else Unconfined()

    async def _warm(self, message: ipc.Warm) -> None:
        self._settings = message.settings
        log.install(self._channel, message.settings.log_level)
        if message.width:
            shape = BrowserShape(message.width, message.height, message.framerate)
            self._browser = WarmBrowser(message.settings, shape)
            await self._browser.ready()
        self._channel.send(ipc.Ready())

    def _answer(self, call: int, ask: Callable[[Recording], Awaitable[None]]) -> None:
        """Answers a request in parallel with other messages, because it may take time."""
        task = asyncio.create_task(self._reply(call, ask))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _reply(self, call: int, ask: Callable[[Recording], Awaitable[None]]) -> None:
        try:
            if self._recording is None:
                raise RuntimeError("a request before Run")
            await ask(self._recording)
        except EgressError as error:
            self._channel.send(ipc.Reply(call, error.code.value, error.message))
        else:
            self._channel.send(ipc.Reply(call))
