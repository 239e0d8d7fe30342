"""Runs the sound server of one recording: a PulseAudio daemon with one null sink, on a private socket."""

import asyncio
import os
import socket
from pathlib import Path

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.source.web.identity import Identity
from openegress.source.web.process import Child, died, find

READY_TIMEOUT_S = 15.0
"""Time-out for the daemon's start, which takes 25 ms unless the machine is overloaded."""
ANSWER_TIMEOUT_S = 5.0
"""Time-out for commands, which answer in a millisecond."""
SINK = "page"
MONITOR = f"{SINK}.monitor"


class Pulse:
    """A running daemon. Sound that plays on its sink is read from its monitor."""

    def __init__(self, child: Child, folder: Path, sample_rate: int) -> None:
        self.child = child
        self._folder = folder
        self.sample_rate = sample_rate
        self.server = f"unix:{folder / 'native'}"
        self.environment = {
            "PULSE_SERVER": self.server,
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_STATE_PATH": str(folder),
        }
        """The environment of a client."""

    @classmethod
    async def start(cls, folder: Path, identity: Identity, sample_rate: int) -> "Pulse":
        """Starts the daemon. `folder` exists, belongs to `identity` and is closed to others: anybody who can
        enter it may play and listen. Raises EgressError if the daemon does not come up."""
        ready_file = folder / "ready"
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            ready.bind(str(ready_file))
            os.chown(ready_file, identity.uid, identity.gid)
            argv = [
                *(find("pulseaudio", "pulseaudio"), "-n", "--daemonize=no", "--use-pid-file=no"),
                *("--exit-idle-time=-1", "--high-priority=no", "--realtime=no", "--disable-shm=no"),
                *("--log-level=error", "--log-target=stderr"),
                *("-L", f"module-null-sink sink_name={SINK} rate={sample_rate} channels=2 format=s16le"),
                *("-L", f"module-native-protocol-unix socket={folder / 'native'} auth-anonymous=1"),
                *("-L", f"module-cli-protocol-unix socket={folder / 'cli'}"),
            ]
            environment = {
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(folder),
                "XDG_RUNTIME_DIR": str(folder),
                "PULSE_RUNTIME_PATH": str(folder),
                "PULSE_STATE_PATH": str(folder),
                "NOTIFY_SOCKET": str(ready_file),  # sd_notify(3): it says READY=1 there
            }
            child = Child.spawn("PulseAudio", argv, environment, identity, death_signal="TERM")
            try:
                await _wait_ready(ready, child)
            except BaseException:
                await child.stop(0)
                child.release()
                raise
        finally:
            ready.close()
        return cls(child, folder, sample_rate)

    def suspend_sink(self, suspended: bool) -> None:
        """Suspends or resumes the sink. Blocking. Raises OSError if the daemon does not answer."""
        with socket.socket(socket.AF_UNIX) as cli:
            cli.settimeout(ANSWER_TIMEOUT_S)
            cli.connect(str(self._folder / "cli"))
            # The prompt has no newline, so a command that answers in lines marks the end.
            cli.sendall(f"suspend-sink {SINK} {int(suspended)}\nstat\n".encode())
            said = b""
            while b"sample cache size" not in said:
                data = cli.recv(4096)
                if not data:
                    raise ConnectionError("PulseAudio closed its command socket")
                said += data

    async def close(self) -> None:
        await self.child.stop(grace_s=2.0)
        self.child.release()


async def _wait_ready(ready: socket.socket, child: Child) -> None:
    loop = asyncio.get_running_loop()
    said = asyncio.ensure_future(loop.sock_recv(ready, 256))
    try:
        await asyncio.wait((said, child.exited), timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if said.done():
            return
        if child.exited.done():
            raise died(child)
        raise EgressError(
            Code.UNAVAILABLE,
            f"PulseAudio was not ready after {READY_TIMEOUT_S:.0f} s: the machine is overloaded",
            fault=Fault.SERVICE,
            phase=Phase.BROWSER_START,
        )
    finally:
        said.cancel()
