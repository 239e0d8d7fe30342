"""The worker's side of openegress.handler.fork_server: requests handlers, and learns how they end."""

import asyncio
import errno
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import msgspec
import structlog

from openegress.core import ipc
from openegress.worker.handler_pace import HandlerPace

_log = structlog.get_logger(__name__)

_DECODER: msgspec.msgpack.Decoder[ipc.FromForks] = msgspec.msgpack.Decoder(ipc.FromForks)
_MESSAGE_BYTES = 4096
_LINE_BYTES = 65_536
_READ_BYTES = 8192
_IDENTITY = ("AWS_", "AZURE_", "GOOGLE_")
"""Prefixes of variables that give cloud SDKs their identity: a role's token, a profile, an ECS or workload
identity. A handler gets the identity for its uploads over its socket."""
_SECRET_ENVIRONMENT = ("LIVEKIT_", "EGRESS_CONFIG", "OPENEGRESS_", *_IDENTITY)
"""Prefixes of variables that no handler gets, because its browser could read the environment. A handler gets
what it needs over its socket."""


class Fork:
    """A handler's process."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        """The exit status, negative for a signal; None if nobody could report it."""

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        if not self.exited.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def end(self, status: int | None) -> None:
        os.close(self._pidfd)
        self.exited.set_result(status)

    def watch(self) -> None:
        """Watches for the end of the process. From here on, nobody else reports it."""
        asyncio.get_running_loop().add_reader(self._pidfd, self._gone)

    def _gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        try:
            # We reap orphans if we are the first process of a container.
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        except ChildProcessError:
            result = None
        if result is None:
            self.end(None)
        else:
            self.end(result.si_status if result.si_code == os.CLD_EXITED else -result.si_status)


class ForkClient:
    """Requests handlers. Starts the fork server when it is needed and does not run."""

    def __init__(self, *, stores_on_s3: bool = False) -> None:
        """`stores_on_s3`: handlers have the libraries for S3, which are loaded once in advance."""
        self._stores_on_s3 = stores_on_s3
        self._line: _ForkConnection | None = None
        self._opening = asyncio.Lock()

    async def fork(self, channel: int, stderr: int) -> Fork:
        """Forks a handler; `channel` and `stderr` are duplicated into it.

        Raises OSError when the machine cannot start one more process, and ConnectionError when the fork
        server has just ended. It may have forked a handler by then, so another try needs a new `channel` and
        `stderr`.
        """
        return await (await self._open()).fork(channel, stderr)

    async def start(self) -> None:
        """Starts the fork server before the first handler is needed. Raises OSError when the machine cannot
        start a process."""
        await self._open()

    async def close(self) -> None:
        """Ends the fork server. Handlers keep running."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def _open(self) -> "_ForkConnection":
        async with self._opening:
            if self._line is not None and self._line.is_lost:
                _log.error("the process that forks handlers has ended", ended=await self._line.close())
                self._line = None
            if self._line is None:
                self._line = await _ForkConnection.open(["s3"] * self._stores_on_s3)
            return self._line


class _ForkConnection:
    """One fork server and the socket to it."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._asked: deque[asyncio.Future[Fork]] = deque()
        self._running: dict[int, Fork] = {}
        self._said = asyncio.create_task(_last_line(process))
        self.is_lost = False
        asyncio.get_running_loop().add_reader(control, self._read)

    @classmethod
    async def open(cls, loaded: Sequence[str]) -> "_ForkConnection":
        """Starts a fork server. `loaded` lists additional modules, see openegress.handler."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "openegress.handler",
                    str(theirs.fileno()),
                    *loaded,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    env=_environment(),
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    async def fork(self, channel: int, stderr: int) -> Fork:
        """Forks a handler. Raises ConnectionError when the fork server has ended, other OSErrors when the
        machine cannot start one more process."""
        forked: asyncio.Future[Fork] = asyncio.get_running_loop().create_future()
        self._asked.append(forked)
        try:
            socket.send_fds(self._control, [b"\0"], [channel, stderr])
        except ConnectionError:
            pass  # It has ended; we learn that after reading what it sent before.
        except OSError:
            self._asked.remove(forked)
            raise
        try:
            return await asyncio.shield(forked)
        except ConnectionError:
            ended = await self.close()
            raise ConnectionError(f"the process that forks handlers ended: {ended}") from None
        except asyncio.CancelledError:
            forked.add_done_callback(_kill)  # the caller no longer wants it
            raise

    async def close(self) -> str:
        """Closes the socket, so that the fork server ends. Returns how it ended."""
        self._lose()
        await self._process.wait()
        return how_it_ended(self._process.returncode, await self._said)

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._control, _MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except ConnectionError:
            # It ended with requests of ours unread. We now read what it sent before, then the end.
            return
        if not data:
            self._lose()
            return
        match _DECODER.decode(data):
            case ipc.Forked(pid) if descriptors:
                fork = self._running[pid] = Fork(pid, descriptors[0])
                self._asked.popleft().set_result(fork)
            case ipc.Forked():
                # It ends by itself when its channel is closed.
                full = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                self._asked.popleft().set_exception(full)
            case ipc.NotForked(number, why):
                self._asked.popleft().set_exception(OSError(number, f"no process for a recording: {why}"))
            case ipc.Exited(pid, status):
                if (ended := self._running.pop(pid, None)) is not None:
                    ended.end(status)

    def _lose(self) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        while self._asked:
            self._asked.popleft().set_exception(ConnectionError())
        while self._running:
            self._running.popitem()[1].watch()


def _kill(forked: "asyncio.Future[Fork]") -> None:
    if not forked.cancelled() and forked.exception() is None:
        forked.result().kill()


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_SECRET_ENVIRONMENT)}
    # Numpy's linear algebra library, which nothing here uses, would start threads, and then no fork is safe.
    return kept | {"OPENBLAS_NUM_THREADS": "1"}


def cloud_identity() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_IDENTITY)}


async def _last_line(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    last = ""
    async for line in lines_of(process.stderr):
        last = line.strip() or last
    return last


async def lines_of(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yields the lines of a stream to its end. Endless lines come in pieces."""
    rest, pace = b"", HandlerPace()
    while chunk := await stream.read(_READ_BYTES):
        began_s = time.thread_time()
        *complete, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES:
            complete, rest = [*complete, rest], b""
        for line in complete:
            yield line.decode(errors="replace").rstrip()
        await pace.spend(time.thread_time() - began_s)
    if rest:
        yield rest.decode(errors="replace").rstrip()


def how_it_ended(status: int | None, last_line: str) -> str:
    """Describes the end of a process for an error's text."""
    if status is None:
        how = "nobody saw how"
    elif status < 0:
        how = f"killed by {signal.Signals(-status).name}"
    else:
        how = f"exit status {status}"
    return f"{how}: {last_line}" if last_line else how
