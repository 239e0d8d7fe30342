"""Records a web page, or a room's template page, as a Source of raw frames."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.pause_mode import PauseMode
from openegress.media import FrameSink
from openegress.source import AwaitsSignal, Closed, Notice, OrderRequested, SourceEvent, SourceStats
from openegress.source.card_picture import card_picture
from openegress.source.pause_timeline import PausedSound, PauseTimeline
from openegress.source.playout import PlayoutWaits
from openegress.source.room_orders import room_orders
from openegress.source.web import url as urls
from openegress.source.web.audio_capture import AudioCapture
from openegress.source.web.browser import Browser
from openegress.source.web.browser_watch import CAUSE_DELAY_S, BrowserWatch, browser_error
from openegress.source.web.cdp import COMMAND_TIMEOUT_S, CommandError, Disconnected
from openegress.source.web.console_log import ConsoleLog
from openegress.source.web.page import (
    Console,
    Crashed,
    EndSignal,
    OwnParticipantUpdate,
    PageError,
    PageEvent,
    StartSignal,
)
from openegress.source.web.page_room import PageRoom
from openegress.source.web.page_sound import PageSound
from openegress.source.web.silence import DisplayEvent
from openegress.source.web.url import Redactor, template_url
from openegress.source.web.video_capture import VideoCapture

__all__ = ["WebPageSource", "template_url"]

T = TypeVar("T")

PAINT_TIMEOUT_S = 0.25
"""Limit for waiting for a loaded page to paint; after it, the page is recorded anyway."""
EVENTS = 256
"""Limit for unread events. Further notices and orders are dropped, but never the end."""
RECONNECT_S = 10.0
"""Limit for the time in which a page that lost its connection opens another."""

SOUND_DELAY_NS = -10_000_000
"""The delay of a page's sound, so that it is in step with its pictures.

Chromium shows `<video>` for a display that lights up one refresh (17 ms) after a frame begins, and WebRTC in
step with that; a canvas is drawn for the moment the frame begins. Here either is filmed 3 to 8 ms after that.
The sound of `<video>` is heard 11 ms after the time Chromium counts on, Web Audio 5 ms before it. Without a
delay, on average of runs at 30 and 60 Hz, sound is therefore 8 and 30 ms late for `<video>`, 25 and 28 ms
for WebRTC, and 11 and 13 ms early for a canvas that draws what `getOutputTimestamp` says is heard. One delay
serves all of them: a page may hold each, and its sound comes as one. A canvas is drawn a refresh or two later
in some runs, whose sound is then 15 or 30 ms earlier still. Few runs, on a machine with other work. A page
that shows WebRTC is measured, see PageSound."""
TEMPLATE_SOUND_DELAY_NS = -25_000_000
"""The delay of a template's sound until it is measured: all of it comes by WebRTC."""


_DISPLAY_NEWS = {
    DisplayEvent.STOPPED: "the display does not answer, and the page's last picture is shown until it does",
    DisplayEvent.ANSWERS: "the display answers again",
}


@dataclass(frozen=True, slots=True)
class PageSettings:
    """Settings of a page, from its request and the configuration."""

    url: str
    framerate: int
    audio: bool
    video: bool
    await_start_signal: bool
    page_load_timeout_s: float
    start_signal_timeout_s: float
    page: Literal["template", "web"]
    sample_rate: int
    trusted: Sequence[str] = ()
    """URLs whose hosts are allowed although their networks are denied."""
    own: Sequence[str] = ()
    """URLs that are allowed on this service's own ports."""
    memory_bytes: int = 0
    """Memory limit of the browser; 0: none."""
    room: PageRoom | None = None
    """The room of a template."""
    drops_sound: bool = False
    """Whether the page's sound is dropped, because the room's is recorded instead."""

    @property
    def is_template(self) -> bool:
        return self.page == "template"


class WebPageSource:
    """Records one page with a running browser, which is closed with the source."""

    def __init__(self, browser: Browser, settings: PageSettings) -> None:
        self._browser = browser
        self._settings = settings
        self._redact = Redactor(settings.url)
        if browser.filtering_proxy is not None:
            for each in settings.trusted:
                browser.filtering_proxy.trust(each)
            for each in settings.own:
                browser.filtering_proxy.open_own(each)
        self._events: asyncio.Queue[SourceEvent | None] = asyncio.Queue()
        self._signal = asyncio.Event()
        self._news = asyncio.Event()
        """Set when the page logs the signal or an error."""
        self._lines = ConsoleLog()
        self._watch = BrowserWatch(browser, self._tell, records_picture=settings.video)
        self._closed = False
        self.pauses = PauseTimeline()
        """Pauses in the page's time, which continues during them."""
        self._zero_ns = 0
        """Media time zero on the monotonic clock."""
        self._began_ns = 0
        """Media time zero in unix ns."""
        self._sink: FrameSink | None = None
        """Set once the source has started."""
        self._video: VideoCapture | None = None
        if settings.video:
            loop = asyncio.get_running_loop()
            self._video = VideoCapture(
                browser.display,
                settings.framerate,
                self.pauses,
                card_picture,
                lambda news: loop.call_soon_threadsafe(self._display_news, news),
            )
        self._audio: PageSound | None = None
        if settings.audio and browser.pulse is not None:
            delay_ns = TEMPLATE_SOUND_DELAY_NS if settings.is_template else SOUND_DELAY_NS
            capture = AudioCapture(browser.pulse, settings.sample_rate, delay_ns)
            is_in_step = settings.video and not settings.drops_sound
            self._audio = PageSound(
                capture, browser.page.playout if is_in_step else None, settings.is_template
            )

    async def prepare(self) -> None:
        urls.check(self._settings.url, "template base url" if self._settings.is_template else "web url")
        self._browser.page.listen(self._page_event, self._redact)
        if self._settings.room is not None:
            self._browser.page.watch_room(self._settings.room)
        self._watch.processes(self._settings.memory_bytes)
        await self._watch.or_failure(self._prepare())

    async def start(self, sink: FrameSink) -> int:
        self._watch.phase = Phase.RECORDING
        unix_ns = time.time_ns() - time.monotonic_ns()
        if self._video is not None:
            try:
                self._zero_ns = await self._video.start(sink)
            except Exception as e:
                raise browser_error(Phase.FIRST_FRAME, f"no picture from the display: {e}") from e
            self._watch.picture(self._video)
        else:
            self._zero_ns = time.monotonic_ns()
        if self._audio is not None:
            self._audio.start(PausedSound(sink, self.pauses), self._zero_ns)
        self._sink = sink
        self._began_ns = unix_ns + self._zero_ns
        return self._began_ns

    async def pause(self, mode: PauseMode) -> int:
        """Stops capturing; the page keeps running. Returns the unix time in ns from which nothing is
        captured."""
        self.pauses.begin(time.monotonic_ns() - self._zero_ns, mode)
        return await self._paused_as_said()

    async def resume(self) -> int:
        """Captures the page again. Returns since when, in unix ns."""
        over = self.pauses.ended(time.monotonic_ns() - self._zero_ns)
        if self._sink is not None and self.pauses.mode is PauseMode.CUT:
            last = len(over.over) - 1
            next_ns = self._video.next_ns if self._video is not None else 0
            self._sink.resumed(max(next_ns, over.resumed_ns(last)), over.length_ns(last))
        self.pauses.pauses = over  # reported first: no later media may come before
        return await self._paused_as_said()

    async def _paused_as_said(self) -> int:
        """Waits until the capture follows the pauses. Returns when the last pause began or ended, in unix
        ns."""
        if self._video is not None:
            await self._video.follow_pauses()
        return self._began_ns + self.pauses.pauses.edge_ns

    async def events(self) -> AsyncIterator[SourceEvent]:
        while (event := await self._events.get()) is not None:
            yield event

    async def stop(self) -> None:
        end_ns = time.monotonic_ns()
        if self._video is not None:
            await self._video.stop(end_ns)
        if self._audio is not None:
            await self._audio.stop(end_ns)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._watch.close()
            if self._audio is not None:
                await self._audio.close()
            self._events.put_nowait(None)
        await self._browser.close()

    async def waits(self) -> PlayoutWaits:
        """The playout delays of a template."""
        return await self._browser.page.playout.waits(is_template=True)

    def now_ns(self) -> int:
        return self.pauses.recorded_ns(time.monotonic_ns() - self._zero_ns) if self._zero_ns else 0

    def stats(self) -> SourceStats:
        return self._video.stats() if self._video is not None else SourceStats()

    async def _prepare(self) -> None:
        if self._audio is not None:
            self._audio.open()
        await self._load()
        if self._audio is not None:
            await self._audio.opened()
            self._watch.sound(self._audio.capture)
        await self._check_template()
        if self._settings.await_start_signal or self._settings.is_template:
            await self._wait_for_signal()
        else:
            await self._browser.page.painted(PAINT_TIMEOUT_S)
        await self._answered(self._browser.page.forget_requests())

    async def _load(self) -> None:
        page, load_timeout_s = self._browser.page, self._settings.page_load_timeout_s
        try:
            async with asyncio.timeout(load_timeout_s):
                await page.navigate(self._settings.url)
        except TimeoutError:
            raise self._page_error(
                f"{self._settings.url} had not loaded after {load_timeout_s:g} s"
            ) from None
        except (PageError, CommandError) as e:
            # A browser that is dying aborts its page first; its death is the better reason.
            await asyncio.wait([self._watch.failure], timeout=CAUSE_DELAY_S)
            proxy = self._browser.filtering_proxy
            is_refused = proxy is not None and "ERR_SOCKS" in str(e)
            reason = proxy.reason(page.network.main_url) if proxy is not None and is_refused else ""
            why = f"{self._settings.url} could not be loaded: {reason}" if reason else str(e)
            raise self._page_error(why) from e
        except Disconnected:
            await asyncio.shield(self._watch.failure)  # the watcher of its process knows more

    async def _check_template(self) -> None:
        if self._settings.is_template and (text := await self._answered(self._browser.page.error_text())):
            raise EgressError(
                Code.INVALID_ARGUMENT,
                f"template error: {self._redact(text)}",
                fault=Fault.DESTINATION,
                phase=Phase.TEMPLATE,
            )

    async def _wait_for_signal(self) -> None:
        """Waits for the start signal, for as long as the page is connected to something, such as a room,
        where it may wait for somebody."""
        self._watch.phase = Phase.START_SIGNAL
        self._events.put_nowait(AwaitsSignal())
        page, is_told = self._browser.page, False
        while not await self._signalled(self._settings.start_signal_timeout_s):
            await self._check_template()
            if not page.network.is_connected:
                if await self._signalled(min(RECONNECT_S, self._settings.start_signal_timeout_s)):
                    return
                await self._check_template()
                if not page.network.is_connected:
                    raise self._not_started()
            if not is_told:
                is_told = True
                text = "the page has not logged START_RECORDING; the recorder waits, as a connection is open"
                self._events.put_nowait(Notice(text, {"troubles": page.troubles()}))

    async def _signalled(self, timeout_s: float) -> bool:
        """Whether the signal came within the time-out."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._signal.is_set():
                    await self._news.wait()
                    self._news.clear()
                    # Templates join the room after they have loaded, and may fail then.
                    await self._check_template()
        except TimeoutError:
            return False
        return True

    def _not_started(self) -> EgressError:
        troubles = self._browser.page.troubles() or "it logged no error, and no request of it failed"
        timeout_s = self._settings.start_signal_timeout_s
        return EgressError(
            Code.FAILED_PRECONDITION,
            f"start signal not received: {self._redact(self._settings.url)} loaded but did not log"
            f" START_RECORDING on its console within {timeout_s:g} s, and has no connection open; {troubles}",
            fault=Fault.DESTINATION,
            phase=Phase.START_SIGNAL,
        )

    async def _answered(self, question: Awaitable[T]) -> T:
        """Awaits the answer of a loaded page. Raises EgressError if it hangs or ends."""
        try:
            return await question
        except TimeoutError:
            why = f"does not answer within {COMMAND_TIMEOUT_S:g} s: one of its scripts may never end"
            raise self._page_error(f"{self._settings.url} loaded, but {why}") from None
        except CommandError as e:
            raise self._page_error(f"{self._settings.url} loaded, but went away: {e}") from e
        except Disconnected:
            raise await asyncio.shield(self._watch.failure) from None  # the watcher of its process knows more

    def _page_error(self, why: str) -> EgressError:
        troubles = self._browser.page.troubles()
        text = f"page load error: {why}" + (f"; {troubles}" if troubles else "")
        return EgressError(
            Code.INVALID_ARGUMENT, self._redact(text), fault=Fault.DESTINATION, phase=self._watch.phase
        )

    def _page_event(self, event: PageEvent) -> None:
        match event:
            case StartSignal():
                self._signal.set()
                self._news.set()
            case EndSignal():
                self._events.put_nowait(Closed())
            case Crashed():
                why = "the page crashed its renderer (out of memory, or a fault of the browser)"
                if troubles := self._browser.page.troubles():
                    why = f"{why}; {troubles}"
                self._watch.fail(why, Fault.DESTINATION)
            case OwnParticipantUpdate(told):
                for asked in room_orders(told, has_layout=False, of_page=True).events:
                    self._tell(asked)
            case Console(level, text):
                if level == "error":
                    self._news.set()
                if notice := self._lines.notice(level, text):
                    self._tell(notice)

    def _display_news(self, news: DisplayEvent) -> None:
        self._tell(Notice(_DISPLAY_NEWS[news], {}))

    def _tell(self, event: SourceEvent) -> None:
        """Queues an event. Drops events beyond the limit, because a page can cause them at any rate, but
        never the end."""
        if not isinstance(event, Notice | OrderRequested) or self._events.qsize() < EVENTS:
            self._events.put_nowait(event)
