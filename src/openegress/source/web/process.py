"""Runs a child process: spawned as another user, watched by pidfd, and ended with all its descendants."""

import asyncio
import fcntl
import os
import select
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.source.web.identity import Identity

TAIL_BYTES = 8192
"""Limit for the part of a child's stderr that is kept for the error text."""


KILLED_TIMEOUT_S = 5.0
"""Limit for the wait for a killed process: it ends within milliseconds, unless it is stuck in the kernel."""


class Child:
    """One process in a session of its own. It dies with us, even if we are killed with SIGKILL."""

    def __init__(self, name: str, pid: int, stderr_fd: int) -> None:
        self.name = name
        self.pid = pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The exit status, negative for a signal."""
        self._stderr_fd = stderr_fd
        self._tail = bytearray()
        self._pidfd = os.pidfd_open(pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pidfd, self._reap)
        loop.add_reader(stderr_fd, self._read_stderr)

    @classmethod
    def spawn(
        cls,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        identity: Identity,
        fds: Mapping[int, int] | None = None,
        death_signal: str = "KILL",
    ) -> "Child":
        """Starts argv[0] (an absolute path). `fds` maps descriptors of ours to the child's numbers.

        setpriv (util-linux) changes the user and arms the parent-death signal between fork and exec, which
        nothing in Python does safely in a process with threads.
        """
        wrapper = ["--pdeathsig", death_signal]
        if os.geteuid() == 0:
            ids = ["--reuid", str(identity.uid), "--regid", str(identity.gid), "--clear-groups"]
            wrapper = [*ids, *wrapper]
        command = [find("setpriv", "util-linux"), *wrapper, "--", *argv]
        read, write = os.pipe()
        os.set_blocking(read, False)
        # Descriptors are moved out of the way first: a source must not be the target number of another.
        sources = [
            (fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 64), theirs) for ours, theirs in (fds or {}).items()
        ]
        try:
            pid = os.posix_spawn(
                command[0],
                command,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, write, 2),
                    (os.POSIX_SPAWN_DUP2, write, 1),
                    *((os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in sources),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGPIPE),
            )
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
            for ours, _ in sources:
                os.close(ours)
        return cls(name, pid, read)

    def said(self) -> str:
        """The last lines of its output."""
        return bytes(self._tail).decode(errors="replace").strip()

    async def stop(self, grace_s: float) -> None:
        """Sends SIGTERM, then kills the process and everything it started. Idempotent."""
        family = descendants(self.pid)
        if not self.exited.done():
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM if grace_s else signal.SIGKILL)
            await asyncio.wait([self.exited], timeout=grace_s or None)
        if not self.exited.done():
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            await self.exited
        await asyncio.to_thread(_kill, family | session(self.pid))

    def _reap(self) -> None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if result is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        self._read_stderr()
        loop.remove_reader(self._stderr_fd)
        os.close(self._stderr_fd)
        status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        self.exited.set_result(status)

    def _read_stderr(self) -> None:
        try:
            data = os.read(self._stderr_fd, 65536)
        except BlockingIOError:
            return
        if not data and not self.exited.done():
            asyncio.get_running_loop().remove_reader(self._stderr_fd)
        self._tail = (self._tail + data)[-TAIL_BYTES:]

    def release(self) -> None:
        """Closes the pidfd, once the process has exited."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def _kill(pids: set[int]) -> None:
    """Kills the processes, and waits until they have ended, because they may still be writing files."""
    held: list[int] = []
    try:
        for pid in pids:
            try:
                held.append(os.pidfd_open(pid))
                signal.pidfd_send_signal(held[-1], signal.SIGKILL)
            except ProcessLookupError:
                pass  # it went with its parent
        deadline = time.monotonic() + KILLED_TIMEOUT_S
        for pidfd in held:
            select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
    finally:
        for pidfd in held:
            os.close(pidfd)


def descendants(root: int) -> set[int]:
    """The process ids of all descendants of `root`, as /proc shows them now."""
    children: dict[int, list[int]] = {}
    for pid, parent, _ in _processes():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    queue = [root]
    while queue:
        for pid in children.get(queue.pop(), ()):
            found.add(pid)
            queue.append(pid)
    return found


def session(leader: int) -> set[int]:
    """The process ids in the session of `leader`, including processes that outlived their parent."""
    return {pid for pid, _, sid in _processes() if sid == leader}


def _processes() -> list[tuple[int, int, int]]:
    """(pid, parent's pid, session) of every process; proc(5)."""
    rows = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_bytes()
            except OSError:
                continue  # gone since the listing
            fields = stat.rpartition(b")")[2].split()
            rows.append((int(entry.name), int(fields[1]), int(fields[3])))
    return rows


def find(program: str, package: str) -> str:
    """The absolute path of a program on PATH. Raises an EgressError that names the Debian package."""
    path = shutil.which(program)
    if path is None:
        raise EgressError(
            Code.FAILED_PRECONDITION,
            f"{program} is not installed: install the package {package}",
            fault=Fault.SERVICE,
            phase=Phase.BROWSER_START,
        )
    return path


def died(child: Child) -> EgressError:
    """The error for a child that ended before it was ready."""
    said = child.said().splitlines()[-4:]
    reason = f": {' / '.join(said)}" if said else ""
    status = child.exited.result()
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return EgressError(
        Code.INTERNAL,
        f"{child.name} ended with {how} at start{reason}",
        fault=Fault.SERVICE,
        phase=Phase.BROWSER_START,
    )
