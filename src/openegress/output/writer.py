"""Puts one thread and one bounded queue between the media threads and an output that may be slow or stuck."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from openegress.core.errors import Code, EgressError, Fault, Phase, internal
from openegress.core.units import S
from openegress.media import Packet


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits of a queue, beyond which its output is given up."""

    max_bytes: int = 64 * 1024 * 1024
    max_s: float = 30.0
    """Limit for the media time between the oldest and the newest packet: a disk that stalls for longer is
    broken."""
    linger_s: float = 0.2
    """How long a packet may wait for others, so that the thread wakes a few times a second and not for each.
    It is less than what a muxer holds back anyway."""
    rest_s: float = 0.3
    """Time without a packet after which the job's rest() is called: a kill must not cost more of a slow
    stream than of a fast one."""


class Writing(Protocol):
    """The job of a writer; every method runs in the writer's thread, one at a time."""

    def open(self) -> None:
        """Prepares for packets. Called before the first one. Raises EgressError."""

    def write(self, packet: Packet) -> None:
        """Writes a packet. Raises EgressError: the job is then aborted and gets no more packets."""

    def rest(self) -> None:
        """Writes what waits in memory. Called after a while without packets. Raises EgressError."""

    def close(self) -> None:
        """Completes the output. Called after the last packet. Raises EgressError."""

    def abort(self, error: EgressError) -> None:
        """Keeps what can be kept and releases the rest. Called instead of close(), after a failure. Whatever
        it raises is ignored: `error` is reported."""


class _State(Enum):
    RUNNING = auto()
    ENDING = auto()
    FAILED = auto()


class QueuedWriter:
    """Feeds a job from a bounded queue in a thread of its own. Started once, finished once."""

    def __init__(
        self,
        name: str,
        job: Writing,
        on_failure: Callable[[EgressError], None],
        limits: QueueLimits | None = None,
        phase: Phase = Phase.RECORDING,
    ) -> None:
        """`on_failure` is called at most once, from the writer's thread, as soon as the job has failed."""
        self._name = name
        self._job = job
        self._on_failure = on_failure
        self._limits = limits or QueueLimits()
        self._phase = phase
        self._queue: deque[Packet | Future[None]] = deque()
        """Packets, and futures of callers who wait until everything before them is written."""
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._state = _State.RUNNING
        self._is_rested = True
        """Whether nothing was written since the job's rest() was called."""
        self._failure: EgressError | None = None
        self._opened: Future[None] = Future()
        self._ended: Future[None] = Future()
        # A daemon thread: a write that hangs in a dead network file system must not keep the process from
        # ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def failure(self) -> EgressError | None:
        return self._failure

    @property
    def is_over(self) -> bool:
        """Whether the job has closed or aborted, and writes nothing more."""
        return self._ended.done()

    @property
    def depth(self) -> int:
        """Number of packets that wait."""
        return len(self._queue)

    def start(self, open_timeout_s: float | None = None) -> None:
        """Starts the thread. With a time-out, waits for the job's open() and raises what that raised."""
        self._thread.start()
        if open_timeout_s is None:
            return
        try:
            self._opened.result(open_timeout_s)
        except TimeoutError:
            error = EgressError(
                Code.DEADLINE_EXCEEDED,
                f"{self._name} did not open within {open_timeout_s:g} s",
                fault=Fault.SERVICE,
                phase=self._phase,
            )
            self._fail(error)
            raise error from None

    def put(self, packet: Packet) -> None:
        """Queues a packet. Never blocks, never raises. On overflow the output fails and accepts no more."""
        with self._changed:
            if self._state is not _State.RUNNING:
                return
            self._queue.append(packet)
            self._queued_bytes += len(packet.data)
            if len(self._queue) == 1:
                self._changed.notify()
            oldest = next(item for item in self._queue if isinstance(item, Packet))
            waiting_s = (packet.pts_ns - oldest.pts_ns) / S
            if self._queued_bytes <= self._limits.max_bytes and waiting_s <= self._limits.max_s:
                return
            self._state = _State.FAILED
            self._failure = EgressError(
                Code.RESOURCE_EXHAUSTED,
                f"{self._name} cannot keep up: {waiting_s:.1f} s of media ({self._queued_bytes} bytes) "
                "waited to be written; use a faster destination or a lower bit rate",
                fault=Fault.DESTINATION,
                phase=self._phase,
            )
            self._drop_queue()
            self._changed.notify()

    async def written(self) -> None:
        """Returns when everything queued so far was written, or the output has failed."""
        mark: Future[None] = Future()
        mark.set_running_or_notify_cancel()  # a cancelled waiter must not cancel it
        with self._changed:
            if self._state is not _State.RUNNING:
                return
            self._queue.append(mark)
            self._changed.notify()
        await asyncio.wrap_future(mark)

    async def finish(self, timeout_s: float) -> None:
        """Lets the job write what is queued and close. Raises its EgressError, or DEADLINE_EXCEEDED when it
        has not ended in time; its thread is then abandoned."""
        with self._changed:
            if self._state is _State.RUNNING:
                self._state = _State.ENDING
            self._changed.notify()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(asyncio.wrap_future(self._ended))
        except TimeoutError:
            raise EgressError(
                Code.DEADLINE_EXCEEDED,
                f"{self._name} was not finished within {timeout_s:g} s",
                fault=Fault.DESTINATION,
                phase=Phase.FINISH,
            ) from None
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._work()
        except EgressError as error:
            self._fail(error)
        except Exception as error:
            self._fail(internal(f"{self._name}: {type(error).__name__}: {error}", self._phase))
        failure = self._failure
        if failure is not None:
            try:
                self._job.abort(failure)
            except Exception as error:
                failure.add_note(f"and while giving up: {type(error).__name__}: {error}")
            self._on_failure(failure)
        if not self._opened.done():
            # The current failure, for callers who wait in start().
            if failure is not None:
                self._opened.set_exception(failure)
            else:
                self._opened.set_result(None)
        self._ended.set_result(None)

    def _work(self) -> None:
        self._job.open()
        self._opened.set_result(None)
        while (batch := self._next()) is not None:
            if not batch:
                self._job.rest()
            try:
                for item in batch:
                    if isinstance(item, Packet):
                        self._job.write(item)
                    else:
                        item.set_result(None)
            finally:
                _release(batch)  # after a failure, nobody may wait for the rest
        if self._failure is None:
            self._job.close()

    def _next(self) -> "deque[Packet | Future[None]] | None":
        """Returns the next packets, soon after the first of them arrived; empty: time to rest; None: the
        end."""
        with self._changed:
            while not self._queue and self._state is _State.RUNNING:
                came = self._changed.wait(None if self._is_rested else self._limits.rest_s)
                if not came and not self._queue:
                    self._is_rested = True
                    return deque()
            self._is_rested = False
            if self._state is _State.RUNNING and all(isinstance(item, Packet) for item in self._queue):
                # Packets do not notify a queue that is not empty; marks and the end do.
                self._changed.wait(self._limits.linger_s)
            if self._state is _State.FAILED or not self._queue:
                return None
            batch, self._queue = self._queue, deque()
            self._queued_bytes = 0
            return batch

    def _fail(self, error: EgressError) -> None:
        with self._changed:
            self._state = _State.FAILED
            if self._failure is None:
                self._failure = error
            self._drop_queue()
            self._changed.notify()

    def _drop_queue(self) -> None:
        _release(self._queue)
        self._queue.clear()


def _release(items: "deque[Packet | Future[None]]") -> None:
    for item in items:
        if not isinstance(item, Packet) and not item.done():
            item.set_result(None)
