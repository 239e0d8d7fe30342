"""`openegress serve` (or `worker`) as a separate process, and its API by plain HTTP."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import aiohttp
import psutil
import yaml

from openegress.core.tokens import egress_token
from testkit.livekit_server import free_port

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
OVER = ("EGRESS_COMPLETE", "EGRESS_FAILED", "EGRESS_ABORTED", "EGRESS_LIMIT_REACHED")
POLL_S = 0.02
"""Time between two looks at a record: shorter than anything measured with it."""

Info = dict[str, Any]


class LiveKit(Protocol):
    @property
    def ws_url(self) -> str: ...

    api_key: str
    api_secret: str


class Refused(Exception):
    """A Twirp error."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status
        self.code: str = body.get("code", "") if isinstance(body, dict) else ""
        self.message: str = body.get("msg", "") if isinstance(body, dict) else str(body)


class EgressClient:
    """The Egress API at a URL, ours or a livekit-server's. Use as an async context manager."""

    def __init__(self, url: str, api_key: str, api_secret: str) -> None:
        self.url = url
        self.api_key = api_key
        self.api_secret = api_secret
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    @property
    def log(self) -> str:
        """The log of the service behind it, if that is ours."""
        return ""

    async def call(self, method: str, **request: Any) -> Info:
        """Raises Refused."""
        return await self._post(f"livekit.Egress/{method}", request)

    async def call_with(self, options: str, method: str, **request: Any) -> Info:
        """With the header X-Openegress-Options. Raises Refused."""
        return await self._post(f"livekit.Egress/{method}", request, {"X-Openegress-Options": options})

    async def control(self, method: str, egress_id: str, **more: Any) -> Info:
        """Methods that LiveKit's API does not have. Raises Refused."""
        return await self._post(f"openegress.Control/{method}", {"egress_id": egress_id, **more})

    async def _post(
        self, path: str, request: dict[str, Any], own_headers: Mapping[str, str] | None = None
    ) -> Info:
        if self._http is None:
            raise RuntimeError("not entered")
        url = f"{self.url}/twirp/{path}"
        token = egress_token(self.api_key, self.api_secret)
        headers = {"Authorization": f"Bearer {token}", **(own_headers or {})}
        async with self._http.post(url, json=request, headers=headers) as answer:
            body: Info = await answer.json(content_type=None)
            if answer.status != 200:
                raise Refused(answer.status, body)
            return body

    async def info(self, egress_id: str) -> Info:
        found: Info = (await self.call("ListEgress", egress_id=egress_id))["items"][0]
        return found

    async def wait(self, egress_id: str, *statuses: str, timeout_s: float = 60.0) -> Info:
        """The record once it has one of the statuses, or has ended."""
        async with asyncio.timeout(timeout_s):
            while True:
                info = await self.info(egress_id)
                if info["status"] in statuses or info["status"] in OVER:
                    return info
                await asyncio.sleep(POLL_S)

    async def active(self, egress_id: str) -> Info:
        """Raises AssertionError with the egress' own error if it ended instead."""
        info = await self.wait(egress_id, "EGRESS_ACTIVE")
        if info["status"] != "EGRESS_ACTIVE":
            raise AssertionError(f"{info['status']}: {info['error']} {info['details']}\n{self.log[-3000:]}")
        return info

    async def finish(self, egress_id: str) -> Info:
        """Stops it and returns the final record."""
        await self.call("StopEgress", egress_id=egress_id)
        return await self.wait(egress_id)

    async def logged(self, text: str, times: int = 1, timeout_s: float = 20.0) -> None:
        """Returns when its log contains `text` this many times."""
        async with asyncio.timeout(timeout_s):
            while self.log.count(text) < times:  # noqa: ASYNC110 - a file tells nobody that it grows
                await asyncio.sleep(POLL_S)

    async def record(self, method: str, seconds: float, **request: Any) -> Info:
        """Start, `seconds` of media, stop."""
        egress_id = (await self.call(method, **request))["egress_id"]
        await self.active(egress_id)
        await asyncio.sleep(seconds)
        return await self.finish(egress_id)


_serving: set["Service"] = set()
"""Services of this process that run and have an API."""

_KINDS = ("room_composite", "audio_room_composite", "sdk_audio_room_composite", "web", "audio_web")
_FREE = {f"{kind}_cpu_cost": 1e-6 for kind in (*_KINDS, "participant", "track_composite", "track")}
_UNLOADED = Path(__file__).parent / "unloaded.py"


class Service(EgressClient):
    """`async with Service(folder, livekit) as service:`; ends as a Ctrl-C would end it.

    `folder` gets data/ and out/. `config` is merged over what a test usually wants: pages on loopback are
    allowed, nothing is kept warm. With `command="worker"` it has no API, and `config` names its Redis.
    """

    def __init__(
        self,
        folder: Path,
        livekit: LiveKit | None = None,
        config: dict[str, Any] | None = None,
        command: Literal["serve", "worker"] = "serve",
    ) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.data = folder / "data"
        self.port = free_port()
        self.health_port = free_port()
        self.command = command
        super().__init__(
            f"http://127.0.0.1:{self.port}",
            livekit.api_key if livekit else "devkey",
            livekit.api_secret if livekit else "a-secret-of-at-least-32-characters",
        )
        self._judges_load = "cpu_cost" in (config or {})
        """Otherwise a machine whose cores are all busy also has capacity, as the tests keep it busy
        themselves."""
        self._config: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "template_port": self.port,
            "health_port": self.health_port,
            "data_dir": str(self.data),
            "output_root": str(self.out),
            "api_key": self.api_key,
            "api_secret": self.api_secret,
            "ws_url": livekit.ws_url if livekit else "",
            "prewarmed_browsers": 0,
            "cpu_cost": {"max_cpu_utilization": 1.0, **_FREE},
            **(config or {}),
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the service is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await self.start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        await super().__aexit__(kind, error, trace)

    @contextlib.asynccontextmanager
    async def launched(self) -> AsyncIterator[Self]:
        """Like entering, but it need not get ready."""
        await super().__aenter__()
        try:
            await self._launch()
            yield self
        finally:
            await self.__aexit__(None, None, None)

    async def start(self) -> None:
        """Returns when it is ready."""
        await self._launch()
        await self.ready()

    async def _launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        program = ["-m", "openegress.cli"] if self._judges_load else ["-P", str(_UNLOADED)]
        command = [sys.executable, *program, self.command]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LIVEKIT_", "EGRESS_"))}
        environment["EGRESS_CONFIG_BODY"] = yaml.safe_dump(self._config)
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=log, stderr=log
            )
        if self.command == "serve":
            _serving.add(self)

    async def ready(self) -> None:
        await self._until("readyz")

    async def until_alive(self) -> None:
        """Returns when it answers, ready or not."""
        await self._until("healthz")

    async def _until(self, page: str) -> None:
        assert self._process is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await self._answers(page):
                if self._process.returncode is not None:
                    raise RuntimeError(f"openegress ended at start:\n{self.log}")
                await asyncio.sleep(POLL_S)

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Returns its exit status."""
        _serving.discard(self)
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self._process.wait()

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)

    async def kill_all(self) -> float:
        """SIGKILL to it and to all processes below it, as when a container is killed. Returns the unix time
        at which that was done; its processes have ended then."""
        os.kill(self.pid, signal.SIGSTOP)  # so that none of them sees the others die
        family = psutil.Process(self.pid).children(recursive=True)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        killed_s = time.time()
        await self.kill()
        await asyncio.to_thread(psutil.wait_procs, family, START_TIMEOUT_S)
        return killed_s

    async def dashboard(self) -> Info:
        """What the dashboard shows to a new visitor."""
        if self._http is None:
            raise RuntimeError("not entered")
        headers = {"Authorization": f"Bearer {egress_token(self.api_key, self.api_secret)}"}
        async with self._http.get(f"{self.url}/dashboard/api/events", headers=headers) as answer:
            event = (await answer.content.readuntil(b"\n\n")).decode()
        shown: Info = json.loads(event.partition("data: ")[2])
        return shown

    def stop_recordings(self) -> None:
        """Ends what runs, without an event loop."""
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        while running := self._call_blocking("ListEgress", {"active": True}).get("items"):
            for info in running:
                with contextlib.suppress(HTTPError):  # it is ending already
                    self._call_blocking("StopEgress", {"egress_id": info["egress_id"]})
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"still recording: {running}")
            time.sleep(POLL_S)

    def _call_blocking(self, method: str, request: dict[str, Any]) -> Info:
        headers = {
            "Authorization": f"Bearer {egress_token(self.api_key, self.api_secret)}",
            "Content-Type": "application/json",
        }
        url = f"{self.url}/twirp/livekit.Egress/{method}"
        body = json.dumps(request).encode()
        with urlopen(Request(url, body, headers), timeout=STOP_TIMEOUT_S) as answer:
            found: Info = json.load(answer)
        return found

    def handlers(self) -> list[int]:
        """The handlers of running recordings, and those that wait for a request."""
        return [int(handler.pid) for forks in self._forks() for handler in forks.children()]

    def fork_pid(self) -> int:
        """The fork server's process."""
        (forks,) = self._forks()
        return int(forks.pid)

    def _forks(self) -> list[psutil.Process]:
        children = psutil.Process(self.pid).children()
        return [child for child in children if "openegress.handler" in child.cmdline()]

    def handler_pid(self) -> int:
        """The handler of the only running recording: it holds the lock in its folder of the spool."""
        (pid,) = [pid for pid in self.handlers() if self.records(pid)]
        return pid

    def records(self, pid: int) -> bool:
        return self._recorded_by(pid) is not None

    def pid_of(self, egress_id: str) -> int:
        """The handler of a recording that runs."""
        (pid,) = [pid for pid in self.handlers() if self._recorded_by(pid) == egress_id]
        return pid

    @staticmethod
    def _recorded_by(pid: int) -> str | None:
        """The id of the egress that a handler records, if any. A handler that ends meanwhile records none."""
        try:
            opened = [Path(file.path) for file in psutil.Process(pid).open_files()]
        except psutil.NoSuchProcess:
            return None
        locks = (path.parent.name for path in opened if path.name == "lock")
        return next((name for name in locks if name.startswith("EG_")), None)

    async def is_ready(self) -> bool:
        return await self._answers("readyz")

    async def _answers(self, page: str) -> bool:
        assert self._http is not None
        with contextlib.suppress(aiohttp.ClientError):
            async with self._http.get(f"http://127.0.0.1:{self.health_port}/{page}") as answer:
                return answer.status == 200
        return False


def stop_recordings() -> None:
    """Stops every service that outlives the failed test: its recordings hold the paths that the second try
    needs."""
    for service in list(_serving):
        with contextlib.suppress(OSError):  # it has died, as the test wanted
            service.stop_recordings()


def end_reason(info: dict[str, Any]) -> str:
    """The end reason in `details`. On a busy machine, `details` also lists what was left out."""
    return str(info["details"]).split("; left out: ")[0]


def location(info: Info) -> Path:
    """The location of the only file."""
    return Path(info["file_results"][0]["location"])
