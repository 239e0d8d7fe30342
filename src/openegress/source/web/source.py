"""A web page, or a room's template page, as a Source of raw frames."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Sequence
from typing import Literal, TypeVar

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.media import FrameSink
from openegress.source import AwaitsSignal, Closed, Failed, Notice, SourceEvent, SourceStats
from openegress.source.web import url as urls
from openegress.source.web.audio_capture import AudioCapture
from openegress.source.web.browser import Browser
from openegress.source.web.cdp import COMMAND_TIMEOUT_S, CommandError, Disconnected
from openegress.source.web.memory import used_bytes
from openegress.source.web.page import (
    Console,
    Crashed,
    EndSignal,
    PageError,
    PageEvent,
    StartSignal,
)
from openegress.source.web.process import Child
from openegress.source.web.url import Redactor, template_url
from openegress.source.web.video_capture import VideoCapture

__all__ = ["WebPageSource", "template_url"]

T = TypeVar("T")

PAINT_TIMEOUT_S = 0.25
"""A loaded page that has painted nothing by then is recorded as it is."""
LINES_A_MINUTE = 300
"""Of a page's console in the log: a page that says more is telling somebody else. A tenth of a megabyte."""
MEMORY_EVERY_S, MEMORY_CLOSE_S = 1.0, 0.1
"""Between two looks, and once a page takes more than half of what it may: one of JavaScript takes up to a
gigabyte a second."""
_MIB = 2**20
EVENTS = 256
"""Events that nobody read; console notices beyond are dropped, the end never is."""
RECONNECT_S = 10.0
"""A page that has just lost its connection may be about to have another."""
CAUSE_DELAY_S = 0.2
"""Chromium follows its display into death: as long the display may take to be seen dead too."""

SOUND_DELAY_NS = -10_000_000
"""Added to the time of a page's sound, so that it fits its pictures.

Chromium shows `<video>` for a display that lights up one refresh (17 ms) after a frame begins, and WebRTC in
step with that; a canvas is drawn for the moment the frame begins. Here either is filmed 3 to 8 ms after that.
The sound of `<video>` is heard 11 ms after the time Chromium counts on, Web Audio 5 ms before it. Without a
delay, on average of runs at 30 and 60 Hz, sound is therefore 8 and 30 ms late for `<video>`, 25 and 28 ms
for WebRTC, and 11 and 13 ms early for a canvas that draws what `getOutputTimestamp` says is heard. One delay
serves all of them: a page may hold each, and its sound comes as one. A canvas is drawn a refresh or two later
in some runs, whose sound is then 15 or 30 ms earlier still. Few runs, on a machine with other work."""
TEMPLATE_SOUND_DELAY_NS = -25_000_000
"""Of a template, all of whose sound comes by WebRTC."""


class WebPageSource:
    """Records one page with a browser that is already up, which is closed with the source."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        framerate: int,
        audio: bool,
        video: bool,
        await_start_signal: bool,
        page_load_timeout_s: float,
        start_signal_timeout_s: float,
        page: Literal["template", "web"],
        sample_rate: int,
        trusted: Sequence[str] = (),
        own: Sequence[str] = (),
        memory_bytes: int = 0,
    ) -> None:
        """`trusted`: URLs whose hosts may be reached though their network is denied. `own`: URLs that may be
        on this service's own ports. `memory_bytes`: what the browser may take; 0: as much as there is."""
        self._browser = browser
        self._url = url
        self._template = page == "template"
        self._await_signal = await_start_signal or self._template
        self._load_timeout_s = page_load_timeout_s
        self._signal_timeout_s = start_signal_timeout_s
        self._redact = Redactor(url)
        if browser.gate is not None:
            for each in trusted:
                browser.gate.trust(each)
            for each in own:
                browser.gate.open_own(each)
        self._events: asyncio.Queue[SourceEvent | None] = asyncio.Queue()
        self._signal = asyncio.Event()
        self._news = asyncio.Event()
        """The signal, or a console error, since it was last looked."""
        self._memory_bytes = memory_bytes
        self._lines = _Lines()
        self._failure: asyncio.Future[EgressError] = asyncio.get_running_loop().create_future()
        self._watchers: list[asyncio.Task[None]] = []
        self._closed = False
        self._phase = Phase.PAGE_LOAD
        self._sample_rate = sample_rate
        self._video = VideoCapture(browser.display, framerate) if video else None
        self._audio: AudioCapture | None = None
        if audio and browser.pulse is not None:
            delay_ns = TEMPLATE_SOUND_DELAY_NS if self._template else SOUND_DELAY_NS
            self._audio = AudioCapture(browser.pulse, sample_rate, delay_ns)

    async def prepare(self) -> None:
        urls.check(self._url, "template base url" if self._template else "web url")
        self._browser.page.listen(self._page_event, self._redact)
        for child in self._browser.children:
            self._watch(self._watch_child(child))
        if self._memory_bytes:
            self._watch(self._watch_memory(self._memory_bytes))
        await self._or_failure(self._prepare())

    async def start(self, sink: FrameSink) -> int:
        self._phase = Phase.RECORDING
        unix_ns = time.time_ns() - time.monotonic_ns()
        if self._video is not None:
            try:
                zero_ns = await self._video.start(sink)
            except Exception as e:
                raise _error(Phase.FIRST_FRAME, f"no picture from the display: {e}") from e
            self._watch(self._watch_picture(self._video))
        else:
            zero_ns = time.monotonic_ns()
        if self._audio is not None:
            self._audio.start(sink, zero_ns)
        return unix_ns + zero_ns

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
            for task in self._watchers:
                task.cancel()
            await asyncio.gather(*self._watchers, return_exceptions=True)
            self._events.put_nowait(None)
        await self._browser.close()

    async def buffered(self) -> tuple[float, int]:
        """As Page's; (0, 0) where the page does not tell."""
        try:
            return await self._browser.page.buffered()
        except (CommandError, Disconnected, TimeoutError):
            return 0.0, 0

    def stats(self) -> SourceStats:
        return self._video.stats() if self._video is not None else SourceStats()

    async def _prepare(self) -> None:
        if self._audio is not None:
            self._audio.open()
        await self._load()
        if self._audio is not None:
            await self._audio.opened()
            self._watch(self._watch_sound(self._audio))
        await self._check_template()
        if self._await_signal:
            await self._wait_for_signal()
        else:
            await self._browser.page.painted(PAINT_TIMEOUT_S)
        await self._answered(self._browser.page.forget_requests())

    async def _load(self) -> None:
        page = self._browser.page
        try:
            async with asyncio.timeout(self._load_timeout_s):
                await page.navigate(self._url)
        except TimeoutError:
            raise self._page_error(f"{self._url} had not loaded after {self._load_timeout_s:g} s") from None
        except (PageError, CommandError) as e:
            # A browser that is dying aborts its page first: its death is the better reason.
            await asyncio.wait([self._failure], timeout=CAUSE_DELAY_S)
            gate = self._browser.gate
            reason = (
                gate.reason(self._browser.page.main_url) if gate is not None and "ERR_SOCKS" in str(e) else ""
            )
            why = f"{self._url} could not be loaded: {reason}" if reason else str(e)
            raise self._page_error(why) from e
        except Disconnected:
            await asyncio.shield(self._failure)  # the watcher of its process knows more

    async def _check_template(self) -> None:
        if self._template and (text := await self._answered(self._browser.page.error_text())):
            raise EgressError(
                Code.INVALID_ARGUMENT,
                f"template error: {text}",
                fault=Fault.DESTINATION,
                phase=Phase.TEMPLATE,
            )

    async def _wait_for_signal(self) -> None:
        """For as long as the page is connected: it may wait for somebody, in a room or elsewhere."""
        self._phase = Phase.START_SIGNAL
        self._events.put_nowait(AwaitsSignal())
        page, is_told = self._browser.page, False
        while not await self._signalled(self._signal_timeout_s):
            await self._check_template()
            if not page.is_connected:
                if await self._signalled(min(RECONNECT_S, self._signal_timeout_s)):
                    return
                await self._check_template()
                if not page.is_connected:
                    raise self._not_started()
            if not is_told:
                is_told = True
                text = "the page has not logged START_RECORDING; it is connected, and so is waited for"
                self._events.put_nowait(Notice(text, {"troubles": page.troubles()}))

    async def _signalled(self, timeout_s: float) -> bool:
        """False: not within the time-out."""
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
        return EgressError(
            Code.FAILED_PRECONDITION,
            f"start signal not received: {self._redact(self._url)} loaded but did not log START_RECORDING"
            f" on its console within {self._signal_timeout_s:g} s, and has no connection open; {troubles}",
            fault=Fault.DESTINATION,
            phase=Phase.START_SIGNAL,
        )

    async def _answered(self, question: Awaitable[T]) -> T:
        """What a loaded page answers. Raises EgressError when it hangs or goes away meanwhile."""
        try:
            return await question
        except TimeoutError:
            why = f"does not answer within {COMMAND_TIMEOUT_S:g} s: a script of it may run without end"
            raise self._page_error(f"{self._url} loaded, but {why}") from None
        except CommandError as e:
            raise self._page_error(f"{self._url} loaded, but went away: {e}") from e
        except Disconnected:
            raise await asyncio.shield(self._failure) from None  # the watcher of its process knows more

    def _page_error(self, why: str) -> EgressError:
        troubles = self._browser.page.troubles()
        text = f"page load error: {why}" + (f"; {troubles}" if troubles else "")
        return EgressError(
            Code.INVALID_ARGUMENT, self._redact(text), fault=Fault.DESTINATION, phase=self._phase
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
                self._fail(_error(self._phase, why, Fault.DESTINATION))
            case Console(level, text):
                if level == "error":
                    self._news.set()
                if self._events.qsize() < EVENTS and (notice := self._lines.notice(level, text)):
                    self._events.put_nowait(notice)

    async def _watch_child(self, child: Child) -> None:
        status = await asyncio.shield(child.exited)
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        browser = self._browser
        if child is browser.chromium.child:
            await asyncio.wait([browser.display.child.exited], timeout=CAUSE_DELAY_S)
            self._fail(_error(self._phase, f"the browser ended unexpectedly ({how})"))
        elif child is browser.display.child:
            self._fail(_error(self._phase, f"the display ended unexpectedly (Xvfb: {how})"))
        else:
            self._sound_lost(f"PulseAudio: {how}")

    async def _watch_memory(self, most_bytes: int) -> None:
        """The browser is ended at once: one that leaks may take all there is within seconds."""
        chromium = self._browser.chromium.child
        while True:
            used = await asyncio.to_thread(used_bytes, chromium.pid)
            if used > most_bytes:
                break
            await asyncio.sleep(MEMORY_CLOSE_S if used > most_bytes / 2 else MEMORY_EVERY_S)
        why = (
            f"the page takes {used // _MIB} MiB of memory, and one may take {most_bytes // _MIB}: "
            "raise page_max_memory if it needs that much"
        )
        self._fail(EgressError(Code.RESOURCE_EXHAUSTED, why, fault=Fault.DESTINATION, phase=self._phase))
        await chromium.stop(grace_s=0)

    async def _watch_picture(self, video: VideoCapture) -> None:
        try:
            await asyncio.shield(asyncio.wrap_future(video.ended))
        except Exception as e:
            await asyncio.sleep(CAUSE_DELAY_S)  # a display that died says so itself
            self._fail(_error(self._phase, f"no more pictures from the display: {e!r}"))

    async def _watch_sound(self, audio: AudioCapture) -> None:
        try:
            why = await asyncio.shield(asyncio.wrap_future(audio.lost))
        except Exception as e:
            self._fail(_error(self._phase, f"no more sound: {e!r}"))
        else:
            self._sound_lost(why)

    def _sound_lost(self, why: str) -> None:
        if self._video is None:
            self._fail(_error(self._phase, f"the sound server ended unexpectedly ({why})"))
        elif self._events.qsize() < EVENTS:
            self._events.put_nowait(Notice("sound lost, the recording goes on in silence", {"cause": why}))

    def _fail(self, error: EgressError) -> None:
        if not self._failure.done():
            self._failure.set_result(error)
            self._events.put_nowait(Failed(error))

    def _watch(self, watcher: Coroutine[object, object, None]) -> None:
        self._watchers.append(asyncio.ensure_future(watcher))

    async def _or_failure(self, work: Coroutine[object, object, None]) -> None:
        """Runs `work`, unless a process dies meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._failure), return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                raise self._failure.result()
            await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


class _Lines:
    """What a page says on its console, for the log: some lines a minute, then how many there were."""

    def __init__(self) -> None:
        self._minute = -1
        self._count = 0

    def notice(self, level: str, text: str) -> Notice | None:
        minute = int(time.monotonic() // 60)
        left_out = max(0, self._count - LINES_A_MINUTE) if minute != self._minute else 0
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        if self._count > LINES_A_MINUTE:
            return None
        if left_out:
            return Notice("page console", {"level": level, "text": text, "left_out": left_out})
        return Notice("page console", {"level": level, "text": text})


def _error(phase: Phase, message: str, fault: Fault = Fault.SERVICE) -> EgressError:
    return EgressError(Code.INTERNAL, message, fault=fault, phase=phase)
