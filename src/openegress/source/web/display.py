"""Runs the display of one recording: an Xvfb of its own, whose framebuffer is a file to be mapped."""

import asyncio
import os
import secrets
from pathlib import Path

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.source.web.display_number import SOCKETS, DisplayNumber
from openegress.source.web.identity import Identity
from openegress.source.web.process import Child, died, find

READY_TIMEOUT_S = 15.0
"""Time-out for Xvfb's start, which takes 20 ms unless the machine is overloaded."""
COOKIE_NAME = b"MIT-MAGIC-COOKIE-1"
FAMILY_WILD = 0xFFFF


def authority(cookie: bytes) -> bytes:
    """An Xauthority file with one entry for any host and display (Xau(3): big-endian counted strings)."""
    fields = (b"", b"", COOKIE_NAME, cookie)
    return FAMILY_WILD.to_bytes(2, "big") + b"".join(len(f).to_bytes(2, "big") + f for f in fields)


class Display:
    """A running Xvfb. Only those who hold the cookie may connect."""

    def __init__(self, child: Child, number: DisplayNumber, cookie: bytes, folder: Path) -> None:
        self.child = child
        self._claimed = number
        self.cookie = cookie
        self.authority_file = folder / "authority"
        self.framebuffer_file = folder / "Xvfb_screen0"

    @property
    def number(self) -> int:
        return self._claimed.value

    @property
    def name(self) -> str:
        return f":{self.number}"

    @classmethod
    async def start(cls, width: int, height: int, folder: Path, identity: Identity) -> "Display":
        """Starts Xvfb. `folder` exists and belongs to `identity`. Raises EgressError if Xvfb does not come
        up."""
        _make_sockets_folder()
        number = DisplayNumber.claim()
        try:
            return await cls._start(number, width, height, folder, identity)
        except BaseException:
            number.release()
            raise

    @classmethod
    async def _start(
        cls, number: DisplayNumber, width: int, height: int, folder: Path, identity: Identity
    ) -> "Display":
        cookie = secrets.token_bytes(16)
        file = folder / "authority"
        file.write_bytes(authority(cookie))
        file.chmod(0o600)
        os.chown(file, identity.uid, identity.gid)
        read, write = os.pipe()
        # GLX costs 54 MiB, and nothing here uses it.
        argv = [
            *(find("Xvfb", "xvfb"), f":{number.value}"),
            *("-displayfd", "3", "-screen", "0", f"{width}x{height}x24"),
            *("-nolisten", "tcp", "-noreset", "-nocursor", "-extension", "GLX"),
            *("-fbdir", str(folder), "-auth", str(file)),
        ]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder)}
        try:
            child = Child.spawn("Xvfb", argv, environment, identity, {write: 3}, death_signal="TERM")
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                told = await _read_number(read)
        except TimeoutError:
            await child.stop(0)
            child.release()
            raise EgressError(
                Code.UNAVAILABLE,
                f"Xvfb was not ready after {READY_TIMEOUT_S:.0f} s: the machine is overloaded",
                fault=Fault.SERVICE,
                phase=Phase.BROWSER_START,
            ) from None
        if told is None:
            await child.exited
            child.release()
            raise died(child)
        return cls(child, number, cookie, folder)

    async def close(self) -> None:
        await self.child.stop(grace_s=2.0)
        self.child.release()
        self._clear()
        self._claimed.release()

    def _clear(self) -> None:
        # Xvfb removes these itself unless it was killed.
        for path in (SOCKETS / f"X{self.number}", Path(f"/tmp/.X{self.number}-lock")):
            if self.child.exited.result() != 0 and _is_ours(path, self.child.pid):
                path.unlink(missing_ok=True)


def _make_sockets_folder() -> None:
    """Creates the folder of X sockets as root: other servers do not accept one that an unprivileged Xvfb
    owns."""
    if os.geteuid() == 0 and not SOCKETS.exists():
        SOCKETS.mkdir(exist_ok=True)
        SOCKETS.chmod(0o1777)


def _is_ours(path: Path, pid: int) -> bool:
    """Whether a lock or socket still belongs to the server with `pid`: the number may have a new owner."""
    number = "".join(c for c in path.name if c.isdigit())
    lock = Path(f"/tmp/.X{number}-lock")
    try:
        return int(lock.read_text()) == pid
    except FileNotFoundError:
        return path.exists()
    except ValueError:
        return False


async def _read_number(fd: int) -> int | None:
    """The display's number, or None at the end of the pipe. It is read up to its newline, because an Xvfb
    whose pipe closes too early sometimes exits."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe = os.fdopen(fd, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        line = await reader.readline()
    finally:
        transport.close()
    return int(line) if line.endswith(b"\n") else None
