"""A real Chromium meets everything that goes wrong: each time an error in seconds that says what and why."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
from av import VideoFrame

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.ipc import BrowserSettings
from openegress.source import Failed, Notice
from openegress.source.web import browser_watch, silence
from openegress.source.web.browser import Browser, sweep
from openegress.source.web.cdp import COMMAND_TIMEOUT_S
from openegress.source.web.console_log import LINES_A_MINUTE
from openegress.source.web.page import LINE_LENGTH
from openegress.source.web.process import descendants
from openegress.source.web.source import PageSettings, WebPageSource
from testkit.filmed import Filmed, alive
from testkit.page_server import PageServer

SECONDS = 6.0
"""Within which each failure is told, on a machine that does other work too."""
TOKEN = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl"


@pytest.fixture
async def server() -> AsyncIterator[PageServer]:
    async with PageServer() as running:
        yield running


E = TypeVar("E")


async def start_source(
    folder: Path, url: str, settings: BrowserSettings | None = None, **options: Any
) -> WebPageSource:
    browser = await Browser.start(settings or BrowserSettings(), 640, 360, 30, folder / "browser")
    defaults: dict[str, Any] = {
        "framerate": 30,
        "audio": True,
        "video": True,
        "await_start_signal": False,
        "page_load_timeout_s": 1.5,
        "start_signal_timeout_s": 1.0,
        "page": "web",
        "sample_rate": 44_100,
    }
    return WebPageSource(browser, PageSettings(url, **{**defaults, **options}))


async def refusal(source: WebPageSource, within_s: float = SECONDS) -> EgressError:
    """The error prepare() ends with, in time."""
    try:
        async with asyncio.timeout(within_s):
            with pytest.raises(EgressError) as caught:
                await source.prepare()
    finally:
        await source.stop()
        await source.close()
    return caught.value


async def next_event(source: WebPageSource, kind: type[E]) -> E:
    async with asyncio.timeout(SECONDS):
        async for event in source.events():
            if isinstance(event, kind):
                return event
    pytest.fail(f"no {kind.__name__} came")


def closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("status/404", "answered HTTP 404"),
        ("status/500", "answered HTTP 500"),
        ("status/401", "answered HTTP 401"),
        ("status/204", "nothing to show"),
        ("hang", "had not loaded after 1.5 s"),
        ("hanging-image", "unfinished requests: http://127.0.0.1"),
    ],
)
async def test_a_page_that_does_not_load(server: PageServer, tmp_path: Path, path: str, text: str) -> None:
    error = await refusal(await start_source(tmp_path, server.url(path)))
    assert text in error.message
    assert error.text.startswith("page load error: ")
    assert error.code is Code.INVALID_ARGUMENT
    assert (error.phase, error.fault) == (Phase.PAGE_LOAD, Fault.DESTINATION)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://no-such-host.invalid/", "host name is not known to DNS"),
        ("http://127.0.0.1:CLOSED/", "nothing listens at its address"),
        ("http://127.0.0.1:25/", "browsers refuse this port"),
    ],
)
async def test_an_address_that_is_not_there(tmp_path: Path, url: str, text: str) -> None:
    error = await refusal(await start_source(tmp_path, url.replace("CLOSED", str(closed_port()))))
    assert text in error.message
    assert error.phase is Phase.PAGE_LOAD


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "chrome://version", "data:text/html,x", "ftp://h/x", ""]
)
async def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    error = await refusal(await start_source(tmp_path, url))
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message == "request has missing or invalid field: web url"


async def test_a_certificate_nobody_signed(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=127.0.0.1"]
    making = await asyncio.create_subprocess_exec(
        "openssl",
        "req",
        "-x509",
        *options,
        "-keyout",
        key,
        "-out",
        certificate,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await making.wait() == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with PageServer(context) as server:
        error = await refusal(await start_source(tmp_path, server.url("blank")))
        assert "TLS certificate is not valid (net::ERR_CERT_AUTHORITY_INVALID)" in error.message
        source = await start_source(tmp_path, server.url("blank"), BrowserSettings(insecure=True))
        try:
            await source.prepare()
        finally:
            await source.stop()
            await source.close()


async def test_a_template_that_never_starts_tells_its_errors_but_no_secret(
    server: PageServer, tmp_path: Path
) -> None:
    url = server.url(f"silent-template?layout=grid&url=ws://localhost&token={TOKEN}")
    error = await refusal(await start_source(tmp_path, url, page="template"))
    assert error.phase is Phase.START_SIGNAL
    assert "start signal not received" in error.message
    assert "no room for" in error.message
    assert "/status/503 (HTTP 503)" in error.message
    assert "token=***" in error.message
    assert TOKEN not in error.message


async def test_a_page_that_is_connected_is_waited_for(server: PageServer, tmp_path: Path) -> None:
    source = await start_source(tmp_path, server.url("connected"), page="template")
    preparing = asyncio.create_task(source.prepare())
    try:
        notice = await next_event(source, Notice)
        assert (
            notice.text
            == "the page has not logged START_RECORDING; the recorder waits, as a connection is open"
        )
        assert not preparing.done()
        socket = await server.sockets.get()
        await socket.send_str("START_RECORDING")
        async with asyncio.timeout(SECONDS):
            await preparing
    finally:
        preparing.cancel()
        await source.stop()
        await source.close()


async def test_a_page_is_waited_for_no_longer_than_it_is_connected(
    server: PageServer, tmp_path: Path
) -> None:
    source = await start_source(tmp_path, server.url("connected"), page="template")
    preparing = asyncio.create_task(refusal(source))
    await next_event(source, Notice)
    await (await server.sockets.get()).close()
    error = await preparing
    assert error.phase is Phase.START_SIGNAL
    assert "not log START_RECORDING on its console within 1 s, and has no connection open" in error.message


async def test_what_a_template_shows_as_error(server: PageServer, tmp_path: Path) -> None:
    error = await refusal(await start_source(tmp_path, server.url("template-error"), page="template"))
    assert error.text == "template error: the token is expired"


async def test_what_a_template_shows_as_error_after_it_has_loaded(server: PageServer, tmp_path: Path) -> None:
    url = server.url("late-template-error")
    error = await refusal(await start_source(tmp_path, url, page="template", start_signal_timeout_s=60.0))
    assert error.text == "template error: no way to the room"
    assert (error.code, error.phase) == (Code.INVALID_ARGUMENT, Phase.TEMPLATE)


@pytest.mark.parametrize(
    ("path", "page", "phase"),
    [("hung", "web", Phase.PAGE_LOAD), ("hung-waiting", "template", Phase.START_SIGNAL)],
)
async def test_a_page_that_hangs_once_it_has_loaded(
    server: PageServer, tmp_path: Path, path: str, page: str, phase: Phase
) -> None:
    options: dict[str, Any] = {"page": page, "start_signal_timeout_s": 60.0}
    source = await start_source(tmp_path, server.url(path), **options)
    error = await refusal(source, COMMAND_TIMEOUT_S + SECONDS)
    assert "loaded, but does not answer within 15 s: one of its scripts may never end" in error.message
    assert (error.code, error.phase) == (Code.INVALID_ARGUMENT, phase)
    assert error.fault is Fault.DESTINATION


async def test_a_browser_that_dies_with_a_hung_page(server: PageServer, tmp_path: Path) -> None:
    source = await start_source(tmp_path, server.url("hung"), page_load_timeout_s=20.0)
    preparing = asyncio.ensure_future(source.prepare())
    try:
        async with asyncio.timeout(SECONDS):
            await source._browser.page._loaded.wait()
        await asyncio.sleep(0.5)
        os.kill(source._browser.chromium.child.pid, signal.SIGKILL)
        with pytest.raises(EgressError, match="the browser ended unexpectedly") as caught:
            async with asyncio.timeout(SECONDS):
                await preparing
        assert caught.value.phase is Phase.PAGE_LOAD
    finally:
        await source.stop()
        await source.close()


async def recording(source: WebPageSource) -> Filmed:
    sink = Filmed(read=False)
    await source.prepare()
    await source.start(sink)
    return sink


async def test_a_renderer_that_crashes(server: PageServer, tmp_path: Path) -> None:
    source = await start_source(tmp_path, server.url("pattern.html"))
    try:
        await recording(source)
        page = source._browser.page
        complain = "console.error('a leak')"
        await page._connection.command("Runtime.evaluate", page._session_id, expression=complain)
        page._connection.notify("Page.crash", page._session_id)
        event = await next_event(source, Failed)
        assert "crashed its renderer" in event.error.message
        assert event.error.message.endswith("; console errors: a leak")
        assert event.error.phase is Phase.RECORDING
    finally:
        await source.stop()
        await source.close()


@pytest.mark.parametrize(
    ("which", "text"), [("chromium", "the browser ended unexpectedly"), ("display", "the display ended")]
)
async def test_a_process_that_is_killed_while_recording(
    server: PageServer, tmp_path: Path, which: str, text: str
) -> None:
    source = await start_source(tmp_path, server.url("pattern.html"))
    try:
        await recording(source)
        os.kill(getattr(source._browser, which).child.pid, signal.SIGKILL)
        event = await next_event(source, Failed)
        assert text in event.error.message
        assert "signal 9" in event.error.message
    finally:
        await source.stop()
        await source.close()


async def test_a_display_that_stands_still_is_filmed_as_it_was(
    server: PageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENT_S", 1.0)
    source = await start_source(tmp_path, server.url("pattern.html"))
    filmed = Filmed()
    try:
        await source.prepare()
        await source.start(filmed)
        await asyncio.sleep(1)
        display = source._browser.display.child.pid
        os.kill(display, signal.SIGSTOP)
        told = await next_event(source, Notice)
        assert told.text.startswith("the display does not answer")
        shown = len(set(filmed.counters))
        os.kill(display, signal.SIGCONT)
        assert (await next_event(source, Notice)).text == "the display answers again"
        await asyncio.sleep(1)
        assert len(set(filmed.counters)) > shown
    finally:
        await source.stop()
        await source.close()
    slots = [picture.pts_ns for picture in filmed.pictures]
    assert max(b - a for a, b in pairwise(slots)) < 40e6


@pytest.mark.parametrize("which", ["chromium", "display"])
async def test_a_process_that_is_killed_while_loading(server: PageServer, tmp_path: Path, which: str) -> None:
    source = await start_source(tmp_path, server.url("hang"), page_load_timeout_s=30.0)
    preparing = asyncio.ensure_future(source.prepare())
    try:
        await server.asked.wait()
        os.kill(getattr(source._browser, which).child.pid, signal.SIGKILL)
        with pytest.raises(EgressError, match="ended unexpectedly") as caught:
            async with asyncio.timeout(SECONDS):
                await preparing
        assert caught.value.phase is Phase.PAGE_LOAD
    finally:
        await source.stop()
        await source.close()


async def test_without_its_sound_server_the_recording_goes_on_in_silence(
    server: PageServer, tmp_path: Path
) -> None:
    source = await start_source(tmp_path, server.url("pattern.html?tone=1"))
    try:
        sink = await recording(source)
        await asyncio.sleep(1.0)
        assert source._browser.pulse is not None
        os.kill(source._browser.pulse.child.pid, signal.SIGKILL)
        async with asyncio.timeout(SECONDS):
            async for event in source.events():
                if isinstance(event, Notice) and "sound lost" in event.text:
                    break
        await asyncio.sleep(0.5)
    finally:
        await source.stop()
        await source.close()
    sound = sink.sound()
    assert sound.samples.shape[1] / 44_100 == pytest.approx(len(sink.pictures) / 30, abs=0.15)
    assert abs(sound.samples[:, -8_820:]).max() == 0


async def test_a_page_that_fills_the_disk(
    server: PageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended, and nothing of what it has stored is left."""
    monkeypatch.setattr(browser_watch, "MAX_STORED_BYTES", 100 << 20)
    source = await start_source(tmp_path, server.url("storing"))
    folder = source._browser.folder
    try:
        await recording(source)
        event = await next_event(source, Failed)
        assert event.error.message == "the page has stored more than 100 MiB on the disk"
        assert (event.error.code, event.error.fault) == (Code.RESOURCE_EXHAUSTED, Fault.DESTINATION)
        async with asyncio.timeout(SECONDS):
            await asyncio.shield(source._browser.chromium.child.exited)
    finally:
        await source.stop()
        await source.close()
    assert not folder.exists()


async def test_an_audio_recording_without_its_sound_server_fails(server: PageServer, tmp_path: Path) -> None:
    source = await start_source(tmp_path, server.url("pattern.html?tone=1"), video=False)
    try:
        await recording(source)
        assert source._browser.pulse is not None
        os.kill(source._browser.pulse.child.pid, signal.SIGKILL)
        event = await next_event(source, Failed)
        assert "the sound server ended" in event.error.message
    finally:
        await source.stop()
        await source.close()


async def test_a_page_that_takes_too_much_memory_is_ended(server: PageServer, tmp_path: Path) -> None:
    source = await start_source(tmp_path, server.url("hungry"), memory_bytes=1 << 30)
    try:
        sink = await recording(source)
        event = await next_event(source, Failed)
        chromium = source._browser.chromium.child
        async with asyncio.timeout(SECONDS):
            await asyncio.shield(chromium.exited)
        assert len(sink.pictures) > 10
    finally:
        await source.stop()
        await source.close()
    assert event.error.code is Code.RESOURCE_EXHAUSTED
    assert "raise page_max_memory" in event.error.message
    assert event.error.fault is Fault.DESTINATION


async def test_what_a_page_says_is_cut(server: PageServer, tmp_path: Path) -> None:
    source = await start_source(tmp_path, server.url("talkative"))
    try:
        await recording(source)
        await asyncio.sleep(1.5)
    finally:
        await source.stop()
        await source.close()
    notices = [event async for event in source.events() if isinstance(event, Notice)]
    lines = [str(event.fields["text"]) for event in notices if event.text == "page console"]
    assert 100 < len(lines) <= LINES_A_MINUTE
    assert max(map(len, lines)) <= LINE_LENGTH + 3


DENIED = BrowserSettings(deny_networks=("127.0.0.0/8", "::1/128", "169.254.0.0/16"))


@pytest.mark.parametrize(
    ("url", "network"),
    [
        ("http://169.254.169.254/latest/meta-data/", "169.254.0.0/16"),
        ("http://[::ffff:169.254.169.254]/", "169.254.0.0/16"),
        ("http://0.0.0.0/", "127.0.0.0/8"),
        ("http://2852039166/", "169.254.0.0/16"),
    ],
)
async def test_denied_networks_cannot_be_recorded(tmp_path: Path, url: str, network: str) -> None:
    error = await refusal(await start_source(tmp_path, url, DENIED))
    assert f"is in {network}, which pages may not reach" in error.message


async def test_a_denied_network_is_closed_to_what_a_page_loads_too(
    server: PageServer, tmp_path: Path
) -> None:
    async with PageServer() as inside:
        url = server.url(f"fetch?url={inside.url('blank')}")
        source = await start_source(tmp_path, url, DENIED, trusted=(url,), await_start_signal=True)
        try:
            await source.prepare()
            event = await next_event(source, Notice)
            assert event.fields["text"] != "reached"
        finally:
            await source.stop()
            await source.close()
        assert inside.requests == []
    assert server.requests[0].startswith("/fetch")


async def test_a_service_killed_with_9_takes_its_browser_along(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from openegress.core.ipc import BrowserSettings
from openegress.source.web.browser import Browser, sweep
async def main():
    browser = await Browser.start(BrowserSettings(), 640, 360, 30, Path(sys.argv[1]))
    print(browser._folder.path, *(child.pid for child in browser.children), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path / "browser"), stdout=asyncio.subprocess.PIPE
    )
    assert service.stdout is not None
    folder, *numbers = (await service.stdout.readline()).decode().split()
    pids = {int(pid) for pid in numbers}
    family = pids | {pid for parent in pids for pid in descendants(parent)}
    assert len(family) >= 6
    service.kill()
    await service.wait()
    deadline = time.monotonic() + SECONDS
    while left := [pid for pid in family if alive(pid)]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        await asyncio.sleep(0.02)  # they are nobody's children any more: there is no event
    sweep(Path(tempfile.gettempdir()))  # as the next browser does at its start
    shutil.rmtree(tmp_path / "browser")
    assert not Path(folder).exists()


async def test_a_sink_that_fails_ends_the_recording(server: PageServer, tmp_path: Path) -> None:
    class Full(Filmed):
        def video(self, frame: VideoFrame, pts_ns: int) -> None:
            if pts_ns > 500_000_000:
                raise OSError("the encoder is gone")

    source = await start_source(tmp_path, server.url("pattern.html"))
    try:
        await source.prepare()
        await source.start(Full())
        event = await next_event(source, Failed)
        assert "the encoder is gone" in event.error.message
    finally:
        await source.stop()
        await source.close()


async def test_what_a_handler_does_not_need_is_not_loaded() -> None:
    unwanted = {"aiohttp", "redis", "sqlite3"}
    program = f"import sys, openegress.handler.loop; print(*sorted({unwanted} & set(sys.modules)))"
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asked.communicate()
    assert (asked.returncode, said) == (0, b"\n")
