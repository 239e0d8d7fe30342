"""A complete browser for one recording: display, sound server and Chromium, started and ended together."""

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from openegress.core.codecs import DEFAULT_AUDIO_HZ
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.file_lock import lock
from openegress.core.ipc import BrowserSettings, own_proxy
from openegress.core.scratch import TEMPORARY_PREFIX, temporary_prefix
from openegress.source.web.cdp import CommandError, Disconnected
from openegress.source.web.chromium import HELD_HZ, Chromium
from openegress.source.web.display import Display
from openegress.source.web.filtering_proxy import FilteringProxy, parse_networks
from openegress.source.web.identity import Identity, browser_identity
from openegress.source.web.page import Page
from openegress.source.web.process import Child
from openegress.source.web.pulse import Pulse
from openegress.source.web.x11 import XConnection, XError

WINDOW_TIMEOUT_S = 10.0
"""Time-out for Chromium's window on an overloaded machine; normally it is shown before Chromium answers."""
SOCKET_PATH_BYTES = 107
"""Limit for the path of a socket (unix(7)): the sound server's lies in the folder."""
LOCK = "lock"


class Browser:
    """One browser. It starts on about:blank, with or without a request, is used by one recording, and is then
    closed."""

    def __init__(
        self,
        display: Display,
        pulse: Pulse | None,
        chromium: Chromium,
        page: Page,
        filtering_proxy: FilteringProxy | None,
        folder: "RunFolder",
    ) -> None:
        self.display = display
        self.pulse = pulse
        self.chromium = chromium
        self.page = page
        self.filtering_proxy = filtering_proxy
        """The proxy that denies networks and ports; None if none are denied, or the configuration names a
        proxy."""
        self._folder = folder
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        settings: BrowserSettings,
        width: int,
        height: int,
        framerate: int,
        folder: Path,
        audio: bool = True,
        video: bool = True,
        sample_rate: int = DEFAULT_AUDIO_HZ,
    ) -> "Browser":
        """Starts a browser. `folder` is created if necessary, and belongs to the browser alone from now on.
        Raises EgressError (phase BROWSER_START) saying what is missing and how to fix it."""
        identity = browser_identity(settings.user)
        networks = parse_networks(settings.deny_networks)
        run = RunFolder.make(folder, identity)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(run.remove)
            starting_pulse = asyncio.ensure_future(_start_pulse(run, identity, sample_rate, audio))
            stack.push_async_callback(_close_started, starting_pulse)
            display = await Display.start(width, height, run.display, identity)
            stack.push_async_callback(display.close)
            pulse = await starting_pulse
            environment = {"DISPLAY": display.name, "XAUTHORITY": str(display.authority_file)}
            environment |= pulse.environment if pulse is not None else {}
            filtering_proxy, proxy_url = None, ""
            if (networks or settings.own_ports) and not own_proxy(settings.flags):
                filtering_proxy = FilteringProxy(networks, settings.own_ports)
                stack.push_async_callback(filtering_proxy.close)
                proxy_url = await filtering_proxy.start()
            chromium = await Chromium.start(
                settings,
                width,
                height,
                framerate if video else HELD_HZ,  # a page that nobody sees need not draw more often
                run.path,
                identity,
                environment,
                proxy_url,
            )
            stack.push_async_callback(chromium.close)
            try:
                page, _ = await asyncio.gather(
                    Page.attach(chromium.connection, settings.insecure),
                    asyncio.to_thread(_fit_window, display, width, height),
                )
            except (Disconnected, CommandError, TimeoutError, XError) as e:
                raise EgressError(
                    Code.INTERNAL,
                    f"the browser did not become ready: {e}",
                    fault=Fault.SERVICE,
                    phase=Phase.BROWSER_START,
                ) from e
            browser = cls(display, pulse, chromium, page, filtering_proxy, run)
            stack.pop_all()
        return browser

    @property
    def folder(self) -> Path:
        """The folder for its processes' files."""
        return self._folder.path

    @property
    def children(self) -> tuple[Child, ...]:
        pulse = (self.pulse.child,) if self.pulse is not None else ()
        return (self.display.child, *pulse, self.chromium.child)

    @property
    def is_whole(self) -> bool:
        """Whether all its processes and its page are still running."""
        return not (self.page.crashed.done() or any(child.exited.done() for child in self.children))

    async def close(self) -> None:
        """Ends every process and removes every file. Idempotent."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await self.chromium.close()
            await asyncio.gather(
                *(part.close() for part in (self.display, self.pulse, self.filtering_proxy) if part)
            )
        finally:
            await asyncio.to_thread(self._folder.remove)


class RunFolder:
    """The folder for a browser's files: the given one or, if the browser's user cannot reach it or its name
    is too long for a socket, one under the system's temporary folder."""

    def __init__(self, path: Path, asked: Path, lock_fd: int) -> None:
        self.path = path
        self.display = path / "display"
        self.pulse = path / "pulse"
        self._asked = asked
        self._lock_fd = lock_fd

    @classmethod
    def make(cls, asked: Path, identity: Identity) -> "RunFolder":
        asked.mkdir(parents=True, exist_ok=True)
        path = asked
        longest = len(os.fsencode(asked / "pulse" / "native"))
        if longest > SOCKET_PATH_BYTES or not identity.may_enter(asked.resolve()):
            sweep(Path(tempfile.gettempdir()))
            path = Path(tempfile.mkdtemp(prefix=temporary_prefix(os.getpid())))
        lock_fd = lock(path / LOCK, os.O_CREAT, wait=True)
        assert lock_fd is not None
        run = cls(path, asked, lock_fd)
        for part in (run.display, run.pulse):
            part.mkdir(mode=0o700, exist_ok=True)
            os.chown(part, identity.uid, identity.gid)
        os.chown(path, identity.uid, identity.gid)
        path.chmod(0o700)
        return run

    def remove(self) -> None:
        deadline = time.monotonic() + 2.0
        while self.path.exists():
            # A process that was just killed may still have been creating a file.
            shutil.rmtree(self.path, ignore_errors=time.monotonic() < deadline)
        shutil.rmtree(self._asked, ignore_errors=True)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def sweep(temporary: Path) -> None:
    """Removes folders that killed services left, whose locks nobody holds any more."""
    for folder in temporary.glob(f"{TEMPORARY_PREFIX}*"):
        try:
            fd = lock(folder / LOCK)
        except OSError:
            continue  # being made or removed right now, or another user's
        if fd is None:
            continue
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(fd)


async def _start_pulse(run: RunFolder, identity: Identity, sample_rate: int, wanted: bool) -> Pulse | None:
    return await Pulse.start(run.pulse, identity, sample_rate) if wanted else None


async def _close_started(starting: "asyncio.Task[Pulse | None]") -> None:
    """Closes a sound server that may have started while another part failed to."""
    with contextlib.suppress(EgressError):  # it was reported where it was awaited, or is not the first error
        pulse = await starting
        if pulse is not None:
            await pulse.close()


def _fit_window(display: Display, width: int, height: int) -> None:
    connection = XConnection(display.number, display.cookie)
    try:
        connection.resize_windows(width, height, WINDOW_TIMEOUT_S)
    finally:
        connection.close()
