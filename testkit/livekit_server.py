"""A real livekit-server on free loopback ports, for the duration of a test or a demo."""

import asyncio
import itertools
import os
import secrets
import shutil
import signal
import socket
import tempfile
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from livekit import api

CODECS = (
    "audio/opus",
    "audio/red",
    "audio/PCMU",
    "audio/PCMA",
    "video/H264",
    "video/VP8",
    "video/VP9",
    "video/AV1",
    "video/H265",
    "video/rtx",
)
"""All codecs that a livekit-server knows; not all are on by default."""
TURN_DOMAIN = "turn.test"
START_TIMEOUT_S = 20.0
"""A server starts in a fraction of a second; a busy machine takes a few."""


def find_binary(name: str = "livekit-server") -> Path:
    """PATH, then .cache/bin of the project (`make setup` builds it there), then LIVEKIT_SERVER."""
    found = shutil.which(name)
    if found:
        return Path(found)
    cached = Path(__file__).resolve().parent.parent / ".cache" / "bin" / name
    if cached.is_file():
        return cached
    named = os.environ.get("LIVEKIT_SERVER", "")
    if named and Path(named).is_file():
        return Path(named)
    raise FileNotFoundError(f"{name}: not on PATH, not in .cache/bin, LIVEKIT_SERVER unset: run `make setup`")


_PORTS = range(10_081, 32_000)
"""Below the ports that the system takes for outgoing connections, which come and go; above those that
browsers refuse."""
_offered = itertools.count(os.getpid() * 397)


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A loopback port that nobody listens on right now. A process gets each port only once."""
    while True:
        port = _PORTS[next(_offered) % len(_PORTS)]
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class LivekitServer:
    """One server process; media over loopback UDP only.

    `redis_url` joins it to a Redis, which its Egress service needs (`redis://127.0.0.1:6379/3`).
    `webhook_url` gets its webhooks, signed with api_key. With `turn` it is a TURN server too, on `turn_port`
    (UDP) and `turns_port` (TCP, for a TLS proxy in front), announced as turns:TURN_DOMAIN:443. Without `tcp`
    it takes no media over TCP. `announced` is the address at which clients are told to reach its `udp_port`:
    that of a relay in front of it (testkit.udp_relay). It is then an ICE-lite agent, and does not contact
    clients by itself: otherwise it would find a path past the relay.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        webhook_url: str | None = None,
        *,
        turn: bool = False,
        tcp: bool = True,
        announced: str = "",
    ) -> None:
        self.api_key = "devkey"
        self.api_secret = secrets.token_hex(24)
        self._redis_url = redis_url
        self.webhook_url = webhook_url
        self.port = free_port()
        self._tcp_port = free_port() if tcp else 0
        self.udp_port = free_port(socket.SOCK_DGRAM)
        self._announced = announced
        self.turn_port = free_port(socket.SOCK_DGRAM) if turn else 0
        self.turns_port = free_port() if turn else 0
        self._process: asyncio.subprocess.Process | None = None
        self._api: api.LiveKitAPI | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the server has printed so far."""
        if self._folder is None:
            return ""
        return (Path(self._folder.name) / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("livekit-server is not running")
        return self._process.pid

    async def __aenter__(self) -> "LivekitServer":
        self._folder = tempfile.TemporaryDirectory(prefix="livekit-server-")
        (Path(self._folder.name) / "config.yaml").write_text(self._config())
        try:
            await self._start()
        except BaseException:
            await self._stop()
            self._folder.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._api is not None:
            await self._api.aclose()
            self._api = None
        await self._stop()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def kill(self) -> None:
        """SIGKILL: clients see their connections cut, without a goodbye."""
        await self._stop()

    async def restart(self) -> None:
        """Starts the server again with the same ports and keys; it forgets rooms and participants."""
        await self._stop()
        await self._start()

    def pause(self) -> None:
        """Stops the process without ending it: neither signalling nor media until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def livekit_api(self) -> api.LiveKitAPI:
        """A client of the server's API, closed with the server; call it from a running loop."""
        if self._api is None:
            self._api = api.LiveKitAPI(self.http_url, self.api_key, self.api_secret)
        return self._api

    def room_service(self) -> api.room_service.RoomService:
        return self.livekit_api().room

    def token(
        self, room: str, identity: str, *, kind: str = "", grants: api.VideoGrants | None = None
    ) -> str:
        """An access token; without `grants` it may publish and subscribe in `room`."""
        token = api.AccessToken(self.api_key, self.api_secret).with_identity(identity)
        token = token.with_grants(grants or api.VideoGrants(room_join=True, room=room))
        if kind:
            token = token.with_kind(kind)  # type: ignore[arg-type]
        return token.with_ttl(timedelta(hours=24)).to_jwt()

    def recorder_token(self, room: str, identity: str) -> str:
        """The token with which an egress joins: hidden, recorder, subscribe only, kind egress."""
        grants = api.VideoGrants(
            room_join=True,
            room=room,
            can_subscribe=True,
            can_publish=False,
            can_publish_data=False,
            hidden=True,
            recorder=True,
        )
        return self.token(room, identity, kind="egress", grants=grants)

    def _config(self) -> str:
        lines = [
            f"port: {self.port}",
            "bind_addresses: [127.0.0.1]",
            "rtc:",
            f"  udp_port: {self.udp_port}",
            f"  tcp_port: {self._tcp_port}",
            "  use_external_ip: false",
            f"  node_ip: {self._announced or '127.0.0.1'}",
            f"  use_ice_lite: {str(bool(self._announced)).lower()}",
            "  enable_loopback_candidate: true",
            "  interfaces:",
            "    includes: [lo]",
            "keys:",
            f"  {self.api_key}: {self.api_secret}",
            "room:",
            "  enabled_codecs:",
            *(f"    - mime: {mime}" for mime in CODECS),
            "logging:",
            "  level: info",
        ]
        if self._redis_url:
            url = urlsplit(self._redis_url)
            lines += [
                "redis:",
                f"  address: {url.hostname}:{url.port or 6379}",
                f"  db: {url.path.strip('/') or 0}",
            ]
        if self.turn_port:
            lines += [
                "turn:",
                "  enabled: true",
                f"  udp_port: {self.turn_port}",
                f"  tls_port: {self.turns_port}",
                "  external_tls: true",
                f"  domain: {TURN_DOMAIN}",
                "  bind_addresses: [127.0.0.1]",
                "  allow_restricted_peer_cidrs: [127.0.0.0/8]",
            ]
        if self.webhook_url:
            lines += ["webhook:", f"  api_key: {self.api_key}", f"  urls: [{self.webhook_url}]"]
        return "\n".join(lines) + "\n"

    async def _start(self) -> None:
        assert self._folder is not None
        folder = Path(self._folder.name)
        with (folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(find_binary()),
                "--config",
                str(folder / "config.yaml"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not await self._answers():
            if self._process.returncode is not None:
                raise RuntimeError(
                    f"livekit-server ended with {self._process.returncode}:\n{self.log[-2000:]}"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"livekit-server not ready after {START_TIMEOUT_S} s:\n{self.log[-2000:]}")
            # The server does not report when its socket listens; its own health page is the signal.
            await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
