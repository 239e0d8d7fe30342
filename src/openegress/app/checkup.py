"""Checks a machine before it records: each check tries one thing, and says how to fix it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from openegress.api.pages import STATIC
from openegress.app.worker_config import context_maker, handler_settings, room_service
from openegress.config.settings import Settings
from openegress.core import ipc
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.shown_url import redact_endpoint
from openegress.handler import landlock, seccomp
from openegress.source.web.page_cgroup import NotDelegated, Tree
from openegress.storage.uploader import Uploader
from openegress.worker.fork_client import ForkClient
from openegress.worker.process import HandlerProcess

_TIMEOUT_S = 30.0
_LANDLOCK_WITH_SCOPES = 6


@dataclass(frozen=True, slots=True)
class CheckResult:
    name: str
    text: str
    ok: bool


async def checkup(settings: Settings) -> AsyncIterator[CheckResult]:
    checks: list[tuple[str, Callable[[Settings], Awaitable[str]]]] = [
        ("browser, display and sound", _browser),
        ("LiveKit server and key", _livekit),
        ("template page", _template),
        ("storage", _storage),
        ("SRT", _srt),
        ("confinement", _confinement),
        ("page memory", _page_memory),
        ("spool", _spool),
    ]
    for name, check in checks:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                yield CheckResult(name, await check(settings), True)
        except EgressError as error:
            yield CheckResult(name, error.text, False)
        except TimeoutError:
            yield CheckResult(name, f"no answer within {_TIMEOUT_S:g} s", False)
        except OSError as error:  # no process could be started
            yield CheckResult(name, str(error), False)


async def _browser(settings: Settings) -> str:
    """In a handler process, as a recording would start it."""
    with tempfile.TemporaryDirectory(prefix="openegress-doctor-") as folder:
        handlers = ipc.HandlerSettings(spool=folder, browser=handler_settings(settings).browser)
        warm = ipc.Warm(handlers, width=1280, height=720, framerate=30)
        forks = ForkClient()
        handler = await HandlerProcess.spawn(forks, handlers, warm)
        problem = ""
        async for message in handler.messages():
            match message:
                case ipc.Log(level="warning" | "error"):
                    problem = problem or message.event
                case ipc.Ready():
                    break
                case _:
                    pass
        else:
            problem = problem or handler.ended
        await handler.reap()
        await forks.close()
    if problem:
        raise EgressError(Code.FAILED_PRECONDITION, problem, fault=Fault.SERVICE)
    return "a browser starts on a display and a sound server of its own"


async def _livekit(settings: Settings) -> str:
    rooms = room_service(settings)
    if rooms is None:
        raise EgressError(
            Code.FAILED_PRECONDITION,
            "not configured: set LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET (web pages work without)",
        )
    try:
        await rooms.find("openegress-doctor")
    finally:
        await rooms.close()
    return f"{redact_endpoint(settings.ws_url)} answers and takes the key {settings.api_key}"


async def _template(settings: Settings) -> str:
    if settings.template_base:
        return f"{settings.template_base} lays out rooms, in a browser"
    if not (STATIC / "template" / "index.html").is_file():
        raise EgressError(
            Code.FAILED_PRECONDITION,
            "the built-in template is not built: run `make setup-demo`",
            fault=Fault.SERVICE,
        )
    return "built in: rooms are laid out without a browser"


async def _storage(settings: Settings) -> str:
    storage = context_maker(settings)().storage
    uploader = Uploader(storage)
    try:
        await uploader.check("openegress-doctor")
    finally:
        await uploader.close()
    return f"{type(storage.backend).__name__.removesuffix('Storage')}: an object was written and deleted"


async def _srt(settings: Settings) -> str:
    """Looks for the library without loading it: loading starts threads, and nothing else needs it."""
    from openegress.media import srt  # brings FFmpeg, which other checks do without

    found = await asyncio.to_thread(srt.find)
    if not found:
        raise EgressError(
            Code.FAILED_PRECONDITION,
            f"streams to srt:// do not work here (everything else does): {srt.INSTALL}",
            fault=Fault.SERVICE,
        )
    return f"{found} is installed for streams to srt://"


async def _confinement(settings: Settings) -> str:
    """Asks what the kernel supports, without giving anything up."""
    lacking = []
    if not (version := landlock.abi()):
        lacking.append("Landlock (Linux 5.13; where it is switched off, `lsm=landlock,...` at boot)")
    if not seccomp.is_there():
        lacking.append("seccomp on x86-64 or aarch64")
    if lacking:
        raise EgressError(
            Code.FAILED_PRECONDITION,
            f"decoders are not confined to their recording's files and process: the kernel has no "
            f"{', and no '.join(lacking)}; all else works",
            fault=Fault.SERVICE,
        )
    if not settings.confine_handlers:
        return "switched off by confine_handlers"
    scopes = (
        "" if version >= _LANDLOCK_WITH_SCOPES else "; signals to others are not refused before Linux 6.12"
    )
    return f"recordings keep to their own files and start no programs (Landlock {version}, seccomp){scopes}"


async def _page_memory(settings: Settings) -> str:
    """Changes nothing: the user who runs this may not be the service's."""
    if not settings.page_max_memory:
        return "page_max_memory is 0: a page may use all memory"
    gib = f"{settings.page_max_memory:g} GiB"
    try:
        return f"at most {gib} for each page, enforced by the kernel (cgroup {Tree().base()})"
    except NotDelegated as lacking:
        return f"at most {gib} for each page, checked ten times a second, without a cgroup: {lacking}"


async def _spool(settings: Settings) -> str:
    path = settings.spool_path
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x")
    except OSError as error:
        raise EgressError(
            Code.FAILED_PRECONDITION,
            f"{path}: {error.strerror or error}; choose another with --data",
            fault=Fault.SERVICE,
        ) from None
    return f"{path}: {_free_gib(path):.1f} GiB free"


def _free_gib(path: Path) -> float:
    return shutil.disk_usage(path).free / 2**30
