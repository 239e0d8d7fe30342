"""Runs one handler process from the worker's side: starts it, exchanges messages, and cleans up after it."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import structlog

from openegress.core import ipc, scratch
from openegress.storage.journal import is_held
from openegress.worker.fork_client import Fork, ForkClient, cloud_identity, how_it_ended, lines_of
from openegress.worker.oom import oom_kills

_log = structlog.get_logger(__name__)

_FROM_HANDLER: msgspec.msgpack.Decoder[ipc.ToWorker] = msgspec.msgpack.Decoder(ipc.ToWorker)
_STDERR_LINES = 20
_STACK_LINES = 1000
_LINE_CHARS = 1000
_STACKS_WITHIN_S = 1.0
_STACKS_PAUSE_S = 0.2
"""How long to wait for more after the last line of its stacks."""
_END_S = 10.0
"""Time limit for the exit of a handler that closed its socket: it has nothing left to do."""
_CLEAR_WITHIN_S = 2.0
"""Time limit for removing files: a killed browser's processes may still be writing for a moment."""


class HandlerProcess:
    """A handler that this worker started.

    Its owner iterates messages() to the end, then awaits reap().
    """

    def __init__(
        self,
        fork: Fork,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stderr: asyncio.StreamReader,
        spool: str,
    ) -> None:
        self._fork = fork
        self._reader = reader
        self._writer = writer
        self._framer = ipc.Framer()
        self._received: deque[bytes] = deque()
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._stacks: deque[str] | None = None
        """Collects stderr once stacks have been requested."""
        self._line_came = asyncio.Event()
        self._stderr_reader = asyncio.create_task(self._read_stderr(stderr))
        self.pid = fork.pid
        self._oom_kills = oom_kills()
        self._was_killed = False
        """Whether we killed it."""
        self._spool = spool
        self._folder: Path | None = None
        """None: it waits for its egress."""

    @classmethod
    async def spawn(
        cls, forks: ForkClient, settings: ipc.HandlerSettings, warm: ipc.Warm | None = None
    ) -> "HandlerProcess":
        """Starts a handler, and sends Environment and Warm. It answers Ready when it can take a plan without
        delay.

        Raises OSError when the machine cannot start one more process.
        """
        try:
            fork, ours, read = await _fork(forks)
        except ConnectionError:  # the fork server has just ended; another one is started
            fork, ours, read = await _fork(forks)
        stderr = await _reader(read)
        reader, writer = await asyncio.open_connection(sock=ours)
        handler = cls(fork, reader, writer, stderr, settings.spool)
        handler.send(ipc.Environment(cloud_identity()))
        handler.send(warm or ipc.Warm(settings))
        return handler

    def send(self, message: ipc.ToHandler) -> None:
        """Sends a message and never blocks. A message to a dead process is lost, and messages() reports its
        end."""
        if isinstance(message, ipc.Run | ipc.Recover | ipc.MakeClip):
            self._folder = Path(self._spool) / message.plan.egress_id
            self._oom_kills = oom_kills()  # the handler may have waited for a long time
        if not self._writer.is_closing():
            self._writer.write(ipc.frame(message))

    async def messages(self) -> AsyncIterator[ipc.ToWorker]:
        """Yields the handler's messages and ends with the process. A second iteration continues where the
        first stopped."""
        while True:
            while self._received:
                yield _FROM_HANDLER.decode(self._received.popleft())
            try:
                data = await self._reader.read(65_536)
            except ConnectionError:
                return  # killed with messages of ours unread
            if not data:
                return
            self._received.extend(self._framer.feed(data))

    async def reap(self) -> None:
        """Waits for the exit. The processes that the handler started die with it (source.web.process)."""
        self._writer.close()
        await asyncio.wait([self._fork.exited], timeout=_END_S)
        self.kill()
        await self._fork.exited
        await self._stderr_reader
        await asyncio.to_thread(_clear_after, self.pid, self._spool)
        if self._folder is not None:
            await asyncio.to_thread(_remove_emptied, self._folder)

    @property
    def folder(self) -> Path:
        """The folder in the spool of the egress that it works on."""
        if self._folder is None:
            raise ValueError("it works on no egress yet")
        return self._folder

    @property
    def alive(self) -> bool:
        return not self._fork.exited.done()

    def kill(self) -> None:
        self._was_killed = self._was_killed or self.alive
        self._fork.kill()

    async def dump_stacks(self) -> None:
        """Asks a handler that hangs for the stack of each of its threads, for `last_words`."""
        self._stacks = deque(maxlen=_STACK_LINES)
        self._fork.signal(ipc.STACKS_SIGNAL)
        patience_s = _STACKS_WITHIN_S
        while True:
            self._line_came.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self._line_came.wait()
            except TimeoutError:
                return
            patience_s = _STACKS_PAUSE_S

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines that the handler wrote to standard error."""
        return (*self._stderr, *(self._stacks or ()))

    @property
    def ended(self) -> str:
        """How the process ended and its last line, for an error's text."""
        if self.alive:
            return "still running"
        last = next((line for line in reversed(self._stderr) if line.strip()), "")
        if self.ran_out_of_memory:
            last = "memory ran out"
        return how_it_ended(self._fork.exited.result(), last)

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed it for memory: we did not kill it, and the kernel has killed a process
        since its start."""
        if self.alive or self._was_killed or self._fork.exited.result() != -signal.SIGKILL:
            return False
        return oom_kills() > self._oom_kills

    async def _read_stderr(self, stderr: asyncio.StreamReader) -> None:
        async for line in lines_of(stderr):
            (self._stderr if self._stacks is None else self._stacks).append(line[:_LINE_CHARS])
            self._line_came.set()


async def _fork(forks: ForkClient) -> tuple[Fork, socket.socket, int]:
    """Returns a handler, our end of its channel, and the pipe of its standard error."""
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    try:
        with theirs:
            return await forks.fork(theirs.fileno(), write), ours, read
    except BaseException:
        ours.close()
        os.close(read)
        raise
    finally:
        os.close(write)


async def _reader(pipe: int) -> asyncio.StreamReader:
    """Returns a reader, which closes the pipe at its end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
    )
    return reader


def clear_after_dead(spool: str) -> None:
    """Removes what remains of the browsers of handlers that died together with their worker."""
    for pid in scratch.browser_pids(spool):
        if not _lives(pid):
            _clear_after(pid, spool)


def _lives(pid: int) -> bool:
    """Whether a process lives. A zombie does not: in a container, the first process may never wait for it."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _remove_emptied(folder: Path) -> None:
    """Removes a folder if it is empty. A handler in its cage may remove the files in its folder, but not the
    folder."""
    try:
        folder.rmdir()
    except OSError:
        pass  # it is gone, or something in it waits for its storage


def _is_held(folder: Path) -> bool:
    try:
        return is_held(folder)
    except OSError:
        return True  # the folder is of another user


def _clear_after(pid: int, spool: str) -> None:
    """Removes the files of a killed handler's browser, which the handler could not remove itself."""
    found = Path(tempfile.gettempdir()).glob(f"{scratch.temporary_prefix(pid)}*")
    # A worker in another container that shares the temporary folder has the same process ids.
    temporary = [folder for folder in found if not _is_held(folder)]
    deadline = time.monotonic() + _CLEAR_WITHIN_S
    for folder in (scratch.browser_folder(spool, pid), *temporary):
        shutil.rmtree(folder, ignore_errors=True)
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
            shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            _log.warning("files of a browser could not be removed", folder=str(folder))
