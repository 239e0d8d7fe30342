"""Serves requests for clips: finds the recording, and runs the handler that cuts the clip."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog
from livekit.protocol.egress import EgressInfo, FileInfo

from openegress.core import ipc
from openegress.core.clip_plan import ClipMade, ClipPlan, ClipStored
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.events import ExtraFileStored
from openegress.core.ids import new_id
from openegress.core.info import is_terminal
from openegress.core.restart import Restart
from openegress.core.span import shown_s
from openegress.core.tasks import cancelled, non_fatal
from openegress.proto.openegress_control_pb2 import ClipInfo, CutRequest
from openegress.psrpc.server import Registration, RPCServer
from openegress.psrpc.services import CLIP_TIMEOUT_S, EgressInternal
from openegress.request import clips
from openegress.request.context import Context
from openegress.storage.journal import RESTART, Journal, has_journal
from openegress.worker.handler_messages import HandlerMessageCheck
from openegress.worker.job import Job
from openegress.worker.listening import listen
from openegress.worker.local_puts import LocalPuts
from openegress.worker.paths import Paths
from openegress.worker.process import HandlerProcess
from openegress.worker.put_permits import ClipPermits
from openegress.worker.supervisor import Supervisor, relay_log

_log = structlog.get_logger(__name__)

MAX_CONCURRENT = 2
"""Limit for clips that are cut concurrently on one machine: each takes disk and a processor that nothing else
needs."""
MAX_WAITING = 8
FOLDER_PREFIX = "CL_"
"""Prefix of the folders of clips in the spool, where they lie beside those of egresses."""
_LEAVES_S = 10.0
"""How long to wait for the exit of a handler that has reported the end of its recording."""
_ANSWER_S = CLIP_TIMEOUT_S - 2.0

Spawn = Callable[[], Awaitable[HandlerProcess]]


class ClipService:
    """Serves requests for clips from open() to close()."""

    def __init__(
        self,
        server: RPCServer,
        supervisor: Supervisor,
        spawn: Spawn,
        context: Callable[[], Context],
        cluster_id: str,
        spool: Path,
        paths: Paths,
    ) -> None:
        self._server = server
        self._supervisor = supervisor
        self._spawn = spawn
        self._context = context
        self._cluster_id = cluster_id
        self._spool = spool
        self._paths = paths
        self._registration: Registration[CutRequest, ClipInfo] | None = None
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._tasks: set[asyncio.Task[ClipInfo]] = set()
        self._handlers: set[HandlerProcess] = set()

    async def open(self) -> None:
        self._registration = await self._server.register(
            EgressInternal.CLIP, self._clip, self._cluster_id, affinity=self._affinity
        )

    def clear_after_dead(self) -> None:
        """Removes clips of an earlier process of this worker, unless another process uses the spool.
        Blocking."""
        for folder in self._spool.glob(f"{FOLDER_PREFIX}*"):
            if not has_journal(folder):  # otherwise an egress has this name
                shutil.rmtree(folder, ignore_errors=True)

    async def close(self) -> None:
        """Gives up the clips in progress."""
        if self._registration is not None:
            await cancelled(*self._tasks)
            await self._registration.close()
            self._registration = None

    def _affinity(self, request: CutRequest) -> float | EgressError:
        """The affinity for a clip: only a worker that runs the egress, or can read its stored files, offers
        to cut it."""
        job = self._supervisor.get(request.egress.egress_id)
        if job is not None:
            return 1.0
        if not is_terminal(request.egress):
            return -1.0
        if clips.is_within_reach(request.egress, self._context()):
            return 1.0
        return EgressError(
            Code.NOT_FOUND, "no connected worker has the stored files of the egress on its disk"
        )

    async def _clip(self, request: CutRequest) -> ClipInfo:
        if len(self._tasks) >= MAX_CONCURRENT + MAX_WAITING:
            raise EgressError(
                Code.RESOURCE_EXHAUSTED,
                f"{len(self._tasks)} clips are being made or queued here: try again later",
                fault=Fault.SERVICE,
            )
        job = await self._job(request)
        plan = self._plan(request, job)
        task = asyncio.create_task(self._make(request, plan, job), name=f"clip {plan.clip_id}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        done, _ = await asyncio.wait([task], timeout=_ANSWER_S)
        if not done:
            raise EgressError(
                Code.DEADLINE_EXCEEDED,
                f"the clip is not stored after {_ANSWER_S:g} s; it continues, and the log reports its end",
                fault=Fault.SERVICE,
            )
        if task.cancelled():
            raise EgressError(
                Code.UNAVAILABLE, "the worker is shutting down, and gave up the clip", fault=Fault.SERVICE
            )
        return task.result()

    def _done(self, task: "asyncio.Task[ClipInfo]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # every waiting caller has got the exception

    async def _job(self, request: CutRequest) -> Job | None:
        """The job that records; None if it has ended, and then `request` has its final record."""
        job = self._supervisor.get(request.egress.egress_id)
        if job is None or job.ended is None:
            return job
        if not await self._supervisor.wait(job.plan.egress_id, _LEAVES_S):
            raise EgressError(Code.FAILED_PRECONDITION, "the egress has just ended: try again")
        request.egress.CopyFrom(job.record.info)
        return None

    def _plan(self, request: CutRequest, job: Job | None) -> ClipPlan:
        clip_id = new_id(FOLDER_PREFIX)
        if job is None:
            return clips.of_ended(request.asked, request.egress, self._context(), clip_id)
        return clips.of_running(request.asked, job.record.info, job.plan, self._spool, clip_id)

    async def _make(self, request: CutRequest, plan: ClipPlan, job: Job | None) -> ClipInfo:
        egress_id = request.egress.egress_id
        async with self._slots:
            began_s = time.monotonic()
            try:
                made = await self._made(plan, egress_id)
            finally:
                await self._paths.release(plan.clip_id)
                # The handler was killed, or its cage does not let it remove the folder itself.
                await asyncio.to_thread(shutil.rmtree, self._spool / plan.clip_id, ignore_errors=True)
        if made.code:
            _log.warning("a clip failed", egress_id=egress_id, error=made.error)
            raise EgressError(Code(made.code), made.error)
        _log.info(
            "clip stored",
            egress_id=egress_id,
            filename=made.filename,
            begin_s=made.begin_ns / 1e9,
            end_s=made.end_ns / 1e9,
            copied=made.copied,
            encoded=made.encoded,
            took_s=round(time.monotonic() - began_s, 3),
        )
        if job is not None:
            _tell(job, made)
        if job is None:
            return _answer(request.egress, made)
        return _answer(job.record.info, made, await asyncio.to_thread(self._restarts, egress_id))

    def _restarts(self, egress_id: str) -> tuple[Restart, ...]:
        """The restarts of a running recording."""
        try:
            return Journal.load(self._spool / egress_id, mends=False).noted(RESTART, Restart)
        except (EgressError, ValueError):
            return ()  # it has ended meanwhile

    async def _made(self, plan: ClipPlan, egress_id: str) -> ClipMade:
        """Has a handler make the clip. Raises EgressError."""
        try:
            handler = await self._spawn()
        except OSError as error:
            why = f"no process can be started for the clip: {error.strerror or error}"
            raise EgressError(Code.RESOURCE_EXHAUSTED, why, fault=Fault.SERVICE) from error
        self._handlers.add(handler)
        made: ClipMade | None = None
        permits = ClipPermits(plan)
        puts = LocalPuts(plan.clip_id, permits)
        try:
            handler.send(ipc.MakeClip(plan))
            words = HandlerMessageCheck(outputs=1)
            async for message in listen(handler, egress_id):
                words.check(message)
                match message:
                    case ClipMade():
                        made = message
                    case ipc.ClaimClip(path):
                        answer = await self._claimed(plan, path)
                        if not answer.code:
                            permits.claimed(path)
                        handler.send(answer)
                    case ipc.PutFile():
                        puts.begin(message, handler.folder, handler.send)
                    case ipc.Log():
                        with non_fatal("writing a clip's log"):
                            relay_log(egress_id, message)
                    case _:
                        pass
        except (msgspec.MsgspecError, ValueError) as error:
            handler.kill()
            raise EgressError(
                Code.INTERNAL, f"cannot decode the messages of the clip's process: {error}"
            ) from error
        except BaseException:
            handler.kill()
            raise
        finally:
            self._handlers.discard(handler)
            await puts.end()
            await handler.reap()
        if made is None:
            why = f"the process that made the clip ended ({handler.ended})"
            raise EgressError(Code.INTERNAL, why, fault=Fault.SERVICE)
        return made

    async def _claimed(self, plan: ClipPlan, path: str) -> ipc.NamesClaimed:
        """Claims the path of a clip. The clip's process sees stored paths itself; only the worker knows which
        are being written."""
        try:
            await self._paths.claim_clip(plan.clip_id, plan.target.storage, path)
        except EgressError as error:
            return ipc.NamesClaimed(code=error.code.value, error=error.message)
        return ipc.NamesClaimed()


def _tell(job: Job, made: ClipMade) -> None:
    """Adds the clip to the recording's manifest, and notifies everybody who watches, and the caller by
    details and a webhook."""
    job.handlers.tell(
        ClipStored(made.filename, made.location, made.presign_error, made.begin_ns, made.end_ns)
    )
    job.happened(ExtraFileStored(time.time_ns(), made.filename))
    if job.ended is None:
        job.record.notice(
            f"Clip {made.filename}: {shown_s(made.begin_ns)} to {shown_s(made.end_ns)} of the recording"
        )


def _answer(info: EgressInfo, made: ClipMade, restarts: tuple[Restart, ...] = ()) -> ClipInfo:
    started_at = clips.started_at_ns(info, made.begin_ns, restarts)
    file = FileInfo(
        filename=made.filename,
        started_at=started_at + made.begin_ns if started_at else 0,
        ended_at=started_at + made.end_ns if started_at else 0,
        duration=made.end_ns - made.begin_ns,
        size=made.size_bytes,
        location=made.location,
    )
    answer = ClipInfo(egress=info, clip=file, to=made.end_ns)
    setattr(answer, "from", made.begin_ns)
    return answer
