"""One handler process, from the worker's side: spawn, talk, watch, clean up after."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import structlog

from openegress.core import ipc, scratch

_log = structlog.get_logger(__name__)

_FROM_HANDLER: msgspec.msgpack.Decoder[ipc.ToWorker] = msgspec.msgpack.Decoder(ipc.ToWorker)
_IDENTITY = ("AWS_", "AZURE_", "GOOGLE_")
"""Variables by which cloud SDKs find who they are: a role's token, a profile, an ECS or workload identity. A
handler has them from its socket, for its uploads."""
_SECRET_ENVIRONMENT = ("LIVEKIT_", "EGRESS_CONFIG", "OPENEGRESS_", *_IDENTITY)
"""A handler is told what it needs over its socket; what lies in its environment, its browser could read."""
_STDERR_LINES = 20
_CLEAR_WITHIN_S = 2.0
"""A killed browser's processes may still be writing for a moment."""


class HandlerProcess:
    """A `python -m openegress.handler` of our own.

    Whoever holds it iterates messages() to their end, then awaits reap().
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        spool: str,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._framer = ipc.Framer()
        self._received: deque[bytes] = deque()
        self._stderr: list[str] = []
        self._stderr_reader = asyncio.create_task(self._read_stderr())
        self.pid = process.pid
        self._spool = spool

    @classmethod
    async def spawn(cls, settings: ipc.HandlerSettings, warm: ipc.Warm | None = None) -> "HandlerProcess":
        """Starts it, sends Environment and Warm; it answers Ready when it can take a plan without delay.

        Raises OSError when the machine has no room for one more process."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await _execute(theirs.fileno())
            try:
                reader, writer = await asyncio.open_connection(sock=ours)
            except BaseException:
                process.kill()
                await process.wait()
                raise
        except BaseException:
            ours.close()
            raise
        handler = cls(process, reader, writer, settings.spool)
        handler.send(ipc.Environment(_starting_with(_IDENTITY)))
        handler.send(warm or ipc.Warm(settings))
        return handler

    def send(self, message: ipc.ToHandler) -> None:
        """Never blocks; a message to a process that is gone is lost, and messages() tells of its end."""
        if not self._writer.is_closing():
            self._writer.write(ipc.frame(message))

    async def messages(self) -> AsyncIterator[ipc.ToWorker]:
        """Ends with the process. Iterating again goes on where an earlier loop was left."""
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

    async def reap(self) -> int:
        """Awaits the exit; returns its status. What it started dies with it (source.web.process)."""
        self._writer.close()
        try:
            async with asyncio.timeout(10):  # a handler that closed its socket has nothing left to do
                status = await self._process.wait()
        except TimeoutError:
            self.kill()
            status = await self._process.wait()
        await self._stderr_reader
        await asyncio.to_thread(_clear_after, self.pid, self._spool)
        return status

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    def kill(self) -> None:
        if self.alive:
            self._process.kill()

    @property
    def ended(self) -> str:
        """How the process ended and what it said last, for an error's text."""
        status = self._process.returncode
        if status is None:
            how = "still running"
        elif status < 0:
            how = f"killed by {signal.Signals(-status).name}"
        else:
            how = f"exit status {status}"
        last = next((line for line in reversed(self._stderr) if line.strip()), "")
        return f"{how}: {last}" if last else how

    @property
    def stderr(self) -> str:
        return "\n".join(self._stderr)

    async def _read_stderr(self) -> None:
        stream = self._process.stderr
        if stream is None:
            return
        async for line in stream:
            self._stderr.append(line.decode(errors="replace").rstrip())
            del self._stderr[:-_STDERR_LINES]


def _starting_with(prefixes: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


async def _execute(fd: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "openegress.handler",
        str(fd),
        pass_fds=(fd,),
        # A Ctrl-C meant for the service does not reach a session of its own.
        start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if not k.startswith(_SECRET_ENVIRONMENT)},
    )


def clear_after_dead(spool: str) -> None:
    """Removes what browsers left of handlers that died together with their worker."""
    for pid in scratch.browser_pids(spool):
        if not psutil.pid_exists(pid):
            _clear_after(pid, spool)


def _clear_after(pid: int, spool: str) -> None:
    """Removes what a handler that was killed could not: the files of its browser."""
    temporary = Path(tempfile.gettempdir()).glob(f"{scratch.temporary_prefix(pid)}*")
    deadline = time.monotonic() + _CLEAR_WITHIN_S
    for folder in (scratch.browser_folder(spool, pid), *temporary):
        shutil.rmtree(folder, ignore_errors=True)
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
            shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            _log.warning("files of a browser could not be removed", folder=str(folder))
