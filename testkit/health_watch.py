"""A bystander: requests a service's health again and again, from a process of its own, each time over a new
connection, and keeps the time of the slowest answer."""

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

EVERY_S = 0.02
PATIENCE_S = 10.0
WITHIN_MS = 100.0
"""How much later an answer may be than this machine alone makes it."""
IDLE_S = 2.0
TRIES = 3
WATCHED_S = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    answers: int
    failures: int
    worst_ms: float


class HealthWatch:
    """`async with HealthWatch(port) as watch: ...; watch.seen`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen = Seen(0, 0, 0.0)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "testkit.health_watch", str(self._port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        await self._process.stdout.readline()  # it has begun
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        out, _ = await self._process.communicate(b"\n")
        self.seen = Seen(**json.loads(out))


async def idle_ms(port: int) -> float:
    """How late answers are without an attack."""
    async with HealthWatch(port) as watch:
        await asyncio.sleep(IDLE_S)
    return watch.seen.worst_ms


async def keeps_nobody_waiting(port: int, usual_ms: float, attack: Callable[[], Awaitable[None]]) -> None:
    """A machine that stops for a moment spoils one attack of three; a service that stops spoils each. An
    attack that ends too soon to be watched is repeated."""
    worst_ms = []
    for _ in range(TRIES):
        async with HealthWatch(port) as watch:
            until_s = time.monotonic() + WATCHED_S
            await attack()
            while time.monotonic() < until_s:
                await attack()
        assert watch.seen.failures == 0 and watch.seen.answers > 5, watch.seen
        worst_ms.append(watch.seen.worst_ms)
        if worst_ms[-1] < usual_ms + WITHIN_MS:
            return
    raise AssertionError(f"{worst_ms} ms, and {usual_ms} while nobody attacks")


def _is_well(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def main(port: int) -> None:
    told = threading.Event()

    def wait_for_a_line() -> None:
        sys.stdin.readline()
        told.set()

    threading.Thread(target=wait_for_a_line, daemon=True).start()
    answers = failures = 0
    worst_s = 0.0
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    while not told.wait(EVERY_S):
        begun_s = time.monotonic()
        answers += 1
        failures += not _is_well(port)
        worst_s = max(worst_s, time.monotonic() - begun_s)
    sys.stdout.write(json.dumps({"answers": answers, "failures": failures, "worst_ms": worst_s * 1000}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
