"""A real Chromium records real pages: rate, uniqueness, sync, size, manners."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from openegress.core.errors import EgressError, Phase
from openegress.core.events import EndReason
from openegress.core.ipc import BrowserSettings
from openegress.source import Closed, Notice
from openegress.source.web.browser import Browser
from openegress.source.web.chromium import find_binary
from openegress.source.web.process import descendants
from openegress.source.web.source import PageSettings, WebPageSource
from testkit.filmed import Filmed, alive, luma
from testkit.page_server import PageServer

RATE = 44_100
ATTEMPTS = 3
"""For machines that have much else to do. Measured on two cores: with processor time left, each of three
recordings had every picture and its sound within 14 ms; with none left, two of nine were 260 and 400 ms out
of sync, and up to 7 % of the pictures drawn were not recorded."""


@pytest.fixture
async def server() -> AsyncIterator[PageServer]:
    async with PageServer() as running:
        yield running


async def start_browser(
    folder: Path, width: int = 640, height: int = 360, fps: int = 30, **options: Any
) -> Browser:
    return await Browser.start(BrowserSettings(), width, height, fps, folder / "browser", **options)


def source_of(browser: Browser, url: str, fps: int = 30, **options: Any) -> WebPageSource:
    defaults = {
        "framerate": fps,
        "audio": True,
        "video": True,
        "await_start_signal": False,
        "page_load_timeout_s": 20.0,
        "start_signal_timeout_s": 20.0,
        "page": "web",
        "sample_rate": RATE,
    }
    return WebPageSource(browser, PageSettings(url, **{**defaults, **options}))


async def film(source: WebPageSource, seconds: float, sink: Filmed) -> list[object]:
    """Records for so long, which the sink is told as it was; returns the events."""
    loop = asyncio.get_running_loop()
    try:
        await source.prepare()
        await source.start(sink)
        begun_s = loop.time()
        await asyncio.sleep(seconds)
        sink.filmed_s = loop.time() - begun_s
    finally:
        await source.stop()
        await source.close()
    return [event async for event in source.events()]


def heard_in(events: list[object]) -> list[tuple[int, float]]:
    said = [str(e.fields["text"]).split() for e in events if isinstance(e, Notice)]
    return [(int(words[1]), float(words[2])) for words in said if words[0] == "HEARD"]


@pytest.mark.quiet
@pytest.mark.parametrize("fps", [30, 60])
async def test_frames_come_at_the_rate_each_once_with_sound(
    server: PageServer, tmp_path: Path, fps: int
) -> None:
    for attempt in range(ATTEMPTS):
        browser = await start_browser(tmp_path / str(attempt), fps=fps)
        sink = Filmed()
        source = source_of(browser, server.url("pattern.html?tone=1"), fps)
        await film(source, 4.0, sink)
        drawn = sink.counters[-1] - sink.counters[0] + 1
        if len(set(sink.counters)) >= 0.95 * min(drawn, len(sink.pictures)):
            break
    else:
        pytest.fail(f"{len(set(sink.counters))} of {drawn} pictures recorded")

    assert [p.pts_ns for p in sink.pictures] == [k * 1_000_000_000 // fps for k in range(len(sink.pictures))]
    assert len(sink.pictures) / fps == pytest.approx(sink.filmed_s, abs=0.25)
    assert len(sink.counters) == len(sink.pictures), "a picture shows no counter"
    assert sink.counters == sorted(sink.counters)
    stats = source.stats()
    assert stats.frames == len(sink.pictures)
    assert stats.unique_frames == pytest.approx(len(set(sink.counters)), abs=3)

    sound = sink.sound()
    assert sound.samples.shape[1] / RATE == pytest.approx(len(sink.pictures) / fps, abs=0.15)
    assert abs(sound.samples[:, RATE:]).max() > 0.02


async def test_a_page_has_what_it_has_in_a_users_browser(server: PageServer, tmp_path: Path) -> None:
    """WebGL is drawn, a print preview covers nothing, and whoever asks for notifications gets an answer."""
    browser = await start_browser(tmp_path)
    sink = Filmed(read=False)
    events = await film(source_of(browser, server.url("features"), audio=False), 1.0, sink)
    assert "NOTIFICATIONS denied" in [e.fields.get("text") for e in events if isinstance(e, Notice)]
    green = 173  # luma of rgb(0, 255, 0)
    assert sink.last is not None
    assert abs(luma(sink.last).astype(int) - green).max() <= 3


@pytest.mark.quiet
@pytest.mark.parametrize("fps", [30, 60])
async def test_sound_and_picture_belong_together(server: PageServer, tmp_path: Path, fps: int) -> None:
    offsets_ms = []
    for attempt in range(ATTEMPTS):
        sink = Filmed()
        browser = await start_browser(tmp_path / str(attempt), fps=fps)
        events = await film(source_of(browser, server.url("pattern.html?heard=1"), fps), 4.0, sink)
        offsets_ms.append(sink.offset_ms(heard_in(events)))
        if abs(offsets_ms[-1]) <= 40:
            return
    pytest.fail(f"sound is off by {offsets_ms} ms")


@pytest.mark.parametrize(
    ("width", "height"), [(16, 16), (360, 640), (640, 360), (1280, 720), (1366, 768), (3840, 2160)]
)
async def test_the_page_fills_the_frame_to_its_last_row_and_column(
    server: PageServer, tmp_path: Path, width: int, height: int
) -> None:
    browser = await start_browser(tmp_path, width, height)
    sink = Filmed(read=False)
    await film(source_of(browser, server.url("frame"), audio=False), 0.3, sink)

    assert sink.last is not None
    assert (sink.last.width, sink.last.height, sink.last.format.name) == (width, height, "yuv420p")
    assert (sink.last.colorspace, sink.last.color_range) == (1, 1), "BT.709, limited"
    picture = luma(sink.last)
    line, middle = 173, 53  # luma of rgb(0, 255, 0) and rgb(200, 0, 0)
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert abs(edge.astype(int) - line).max() <= 3
    for inner in (picture[1, 1:-1], picture[-2, 1:-1], picture[1:-1, 1], picture[1:-1, -2]):
        assert abs(inner.astype(int) - middle).max() <= 3


@pytest.fixture
def unconfined() -> Iterator[Path]:
    """A browser on a machine that allows no sandbox, where the user it runs as can reach it."""
    with tempfile.TemporaryDirectory(prefix="openegress-test-") as folder:
        browser = Path(folder) / "chromium"
        browser.write_text(
            "#!/bin/sh\n"
            'case "$*" in *--no-sandbox*) exec ' + find_binary("") + ' "$@";; esac\n'
            'echo "[1:1:FATAL:zygote_host_impl_linux.cc] No usable sandbox!" >&2\nexit 133\n'
        )
        for path in (browser, browser.parent):
            path.chmod(0o755)
        yield browser


async def test_where_no_sandbox_is_possible_pages_are_recorded_without_one(
    server: PageServer, tmp_path: Path, unconfined: None, caplog: pytest.LogCaptureFixture
) -> None:
    browser = await Browser.start(BrowserSettings(str(unconfined)), 640, 360, 30, tmp_path / "b", audio=False)
    sink = Filmed(read=False)
    await film(source_of(browser, server.url("frame"), audio=False), 0.3, sink)
    assert sink.last is not None
    assert [record.levelname for record in caplog.records if "without a sandbox" in record.message] == [
        "WARNING"
    ]
    with pytest.raises(EgressError, match=r"no usable sandbox .* or set enable_chrome_sandbox to false"):
        await Browser.start(
            BrowserSettings(str(unconfined), sandbox=True), 640, 360, 30, tmp_path / "c", audio=False
        )


async def test_without_a_sandbox_no_warning_covers_the_page(server: PageServer, tmp_path: Path) -> None:
    settings = BrowserSettings(sandbox=False)
    browser = await Browser.start(settings, 640, 360, 30, tmp_path / "browser", audio=False)
    sink = Filmed(read=False)
    await film(source_of(browser, server.url("frame"), audio=False), 0.3, sink)
    assert sink.last is not None
    assert sink.last is not None
    assert abs(luma(sink.last)[0].astype(int) - 173).max() <= 3


@pytest.mark.quiet
async def test_a_page_that_stands_still_is_repeated_at_the_rate(server: PageServer, tmp_path: Path) -> None:
    sink = Filmed(read=False)
    source = source_of(await start_browser(tmp_path), server.url("blank"))
    await film(source, 1.0, sink)
    assert -0.04 <= len(sink.pictures) / 30 - sink.filmed_s <= 0.27
    assert source.stats().unique_frames <= 5


@pytest.mark.quiet
async def test_a_warm_browser_begins_within_0_4_s(server: PageServer, tmp_path: Path) -> None:
    browser = await start_browser(tmp_path)
    await asyncio.sleep(0.5)
    loop = asyncio.get_running_loop()
    source, sink = source_of(browser, server.url("pattern.html")), Filmed()
    asked = loop.time()
    try:
        await source.prepare()
        await source.start(sink)
        took_s = loop.time() - asked
    finally:
        await source.stop()
        await source.close()
    assert sink.pictures
    # A quiet machine takes half of it; one with others at work is shared with as many as the load says.
    assert took_s <= 0.4 * max(1.0, os.getloadavg()[0]), "others may be using the machine"


@pytest.mark.quiet
async def test_audio_only_delivers_no_picture(server: PageServer, tmp_path: Path) -> None:
    browser = await start_browser(tmp_path, video=False)
    sink = Filmed()
    await film(source_of(browser, server.url("pattern.html?tone=1"), video=False), 1.5, sink)
    assert not sink.pictures
    assert sink.sound().samples.shape[1] / RATE == pytest.approx(sink.filmed_s, abs=0.2)
    assert abs(sink.sound().samples[:, RATE:]).max() > 0.02


async def test_video_only_has_no_sound_server(server: PageServer, tmp_path: Path) -> None:
    browser = await start_browser(tmp_path, audio=False)
    sink = Filmed()
    await film(source_of(browser, server.url("pattern.html?sound=0"), audio=False), 0.5, sink)
    assert browser.pulse is None
    assert not sink.blocks
    assert sink.pictures


@pytest.mark.quiet
async def test_another_sample_rate_is_delivered_as_asked(server: PageServer, tmp_path: Path) -> None:
    sink = Filmed()
    source = source_of(await start_browser(tmp_path), server.url("blank"), sample_rate=48_000)
    await film(source, 1.2, sink)
    assert {rate for _, _, rate in sink.blocks} == {48_000}
    assert sink.sound().samples.shape[1] / 48_000 == pytest.approx(sink.filmed_s, abs=0.2)


async def test_the_start_signal_is_waited_for_and_the_end_signal_ends(
    server: PageServer, tmp_path: Path
) -> None:
    source = source_of(await start_browser(tmp_path), server.url("ending"), await_start_signal=True)
    await source.prepare()
    try:
        await source.start(Filmed(read=False))
        async for event in source.events():
            if isinstance(event, Closed):
                assert event.reason is EndReason.SOURCE_CLOSED
                break
        else:
            pytest.fail("the events ended before the page's end signal")
    finally:
        await source.stop()
        await source.close()


@pytest.mark.parametrize(
    ("path", "said"),
    [("dialogs", "answered"), ("popup", "popup blocked"), ("hidden", "visible true")],
)
async def test_pages_behave_with_nobody_there(
    server: PageServer, tmp_path: Path, path: str, said: str
) -> None:
    source = source_of(await start_browser(tmp_path), server.url(path), audio=False)
    events = await film(source, 0.3, Filmed(read=False))
    texts = [e.fields["text"] for e in events if isinstance(e, Notice)]
    assert said in texts


async def test_nothing_is_left_behind(server: PageServer, tmp_path: Path) -> None:
    browser = await start_browser(tmp_path)
    sink = Filmed()
    source = source_of(browser, server.url("pattern.html?tone=1"))
    await source.prepare()
    await source.start(sink)
    await asyncio.sleep(0.5)
    family = {c.pid for c in browser.children} | {p for c in browser.children for p in descendants(c.pid)}
    folder, number = browser._folder.path, browser.display.number
    assert len(family) >= 6
    assert folder.exists()
    await source.stop()
    await source.close()
    await source.stop()
    await source.close()
    await browser.close()
    assert not [pid for pid in family if alive(pid)]
    assert not folder.exists()
    assert not (tmp_path / "browser").exists()
    lock = Path(f"/tmp/.X{number}-lock")
    assert not lock.exists() or int(lock.read_text()) not in family


async def test_a_missing_browser_is_named(tmp_path: Path) -> None:
    settings = BrowserSettings(chromium="/nowhere/chromium")
    with pytest.raises(EgressError, match=r"/nowhere/chromium.*is not a program") as caught:
        await Browser.start(settings, 640, 360, 30, tmp_path / "browser")
    assert caught.value.phase is Phase.BROWSER_START
    assert not (tmp_path / "browser").exists()


async def test_a_browser_that_ends_at_once_says_what_it_said(tmp_path: Path) -> None:
    settings = BrowserSettings(chromium="/bin/mkdir")  # takes none of our flags
    with pytest.raises(EgressError, match=r"Chromium ended with status 1 at start: .*mkdir") as caught:
        await Browser.start(settings, 640, 360, 30, tmp_path / "browser")
    assert caught.value.phase is Phase.BROWSER_START
