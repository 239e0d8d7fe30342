"""`Hostile` in a process of its own, so that the bystanders' publishers do not wait for what it does.

async with HostileProcess(livekit, ROOM, "mallory", ["vp8", "opus"]) as mallory:
    await mallory.attack(10, ("bombs", 0), ("flood", 1, 1000))
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from testkit.hostile import Hostile
from testkit.livekit_server import LivekitServer
from testkit.participants import Keys
from testkit.raw_connection import RawCodec

JOIN_TIMEOUT_S = 30.0
OVERTIME_S = 15.0
"""How long an attack may take to end after its time."""

Attack = Sequence[str | int]
"""The name of a method of Hostile, and its arguments."""


class HostileProcess:
    """Joins on entry with one track for each of `codecs`, and leaves on exit."""

    def __init__(self, server: LivekitServer, room: str, identity: str, codecs: list[RawCodec]) -> None:
        self._told = {"url": server.ws_url, "key": server.api_key, "secret": server.api_secret}
        self._told |= {"room": room, "identity": identity}
        self._codecs = codecs
        self._process: asyncio.subprocess.Process | None = None
        self.sids: list[str] = []
        self.done: dict[str, int] = {}
        """The number of actions of each attack, by its name."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "testkit.hostile_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.sids = await self._ask(JOIN_TIMEOUT_S, {**self._told, "codecs": self._codecs})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        assert process is not None
        async with asyncio.timeout(JOIN_TIMEOUT_S):
            await process.communicate(b"")
        assert process.returncode == 0

    async def attack(self, seconds: float, *attacks: Attack) -> None:
        """Runs all at once. Fails if an attack itself failed."""
        self.done = await self._ask(seconds + OVERTIME_S, {"seconds": seconds, "attacks": attacks})

    async def _ask(self, timeout_s: float, what: object) -> Any:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(what).encode() + b"\n")
        async with asyncio.timeout(timeout_s):
            line = await process.stdout.readline()
        assert line, "the hostile participant ended"
        return json.loads(line)


async def _serve(lines: asyncio.StreamReader) -> None:
    told = json.loads(await lines.readline())
    keys = Keys(told["url"], told["key"], told["secret"])
    async with Hostile(keys, told["room"], told["identity"], told["codecs"]) as hostile:
        _say(hostile.sids)
        while line := await lines.readline():
            asked = json.loads(line)
            await hostile.attack(
                asked["seconds"], *(getattr(hostile, name)(*rest) for name, *rest in asked["attacks"])
            )
            _say(hostile.done)


def _say(what: object) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


async def main() -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer
    )
    await _serve(lines)


if __name__ == "__main__":
    asyncio.run(main())
