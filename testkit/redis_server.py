"""A real redis-server on a free loopback port, for the duration of a test: killed, restarted and cut at
will."""

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from testkit.livekit_server import free_port

START_TIMEOUT_S = 20.0
"""Redis starts in milliseconds; a busy machine takes longer."""


class RedisServer:
    """One redis-server. Its data lives in a folder of its own and survives restart(), not kill().

    `config` is more lines for redis.conf; with `sentinel` it is a sentinel, not a server. A `cluster` of one
    node owns all slots.
    """

    def __init__(self, *config: str, sentinel: bool = False, cluster: bool = False) -> None:
        self.port = free_port()
        self._config = config
        self._sentinel = sentinel
        self.is_cluster = cluster
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="openegress-redis-")
        lines = ["bind 127.0.0.1", f"dir {self._folder.name}", "loglevel notice"]
        if not any(line.startswith("port ") for line in self._config):
            lines.append(f"port {self.port}")
        if not self._sentinel:
            lines += ["save ''", "appendonly yes", "appendfsync always"]
        if self.is_cluster:
            # By default the port plus 10,000, which another process may have.
            lines += ["cluster-enabled yes", f"cluster-port {free_port()}"]
        path = Path(self._folder.name) / "redis.conf"
        path.write_text("\n".join([*lines, *self._config]) + "\n")
        try:
            await self.start()
            if self.is_cluster:
                await self.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
                # The node takes a moment to see that it has all slots, and does not report it.
                while "cluster_state:ok" not in await self.command("CLUSTER", "INFO"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
        if self._folder is not None:
            self._folder.cleanup()

    async def start(self) -> None:
        assert self._folder is not None
        binary = shutil.which("redis-server")
        if binary is None:
            raise FileNotFoundError("redis-server is not on PATH: run `make setup`")
        self._process = await asyncio.create_subprocess_exec(
            binary,
            str(Path(self._folder.name) / "redis.conf"),
            *(["--sentinel"] if self._sentinel else []),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = []
        async with asyncio.timeout(START_TIMEOUT_S):
            assert self._process.stdout is not None
            ready = b"Sentinel ID is" if self._sentinel else b"Ready to accept connections"
            async for line in self._process.stdout:
                said.append(line)
                if ready in line:
                    break
            else:
                raise RuntimeError("redis-server ended:\n" + b"".join(said).decode(errors="replace"))
        self._log = asyncio.create_task(self._drain(self._process.stdout))

    async def kill(self) -> None:
        """SIGKILL: connections are cut; acknowledged writes are on disk."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        if self._log is not None:
            await self._log
            self._log = None

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    def pause(self) -> None:
        """Connections stay, but nothing answers until resume()."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def command(self, *words: str) -> str:
        """Sends one command in inline form, for a server without password or TLS; returns the raw answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(" ".join(words).encode() + b"\r\n")
        answer = await reader.read(65536)
        writer.close()
        await writer.wait_closed()
        return answer.decode(errors="replace")

    async def _drain(self, output: asyncio.StreamReader) -> None:
        async for _ in output:
            pass
