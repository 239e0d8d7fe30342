"""Films a display: a thread waits for the picture to change, and puts it into the next slot."""

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from openegress.media import FrameSink
from openegress.source import SourceStats
from openegress.source.pause_timeline import PauseTimeline
from openegress.source.web.display import Display
from openegress.source.web.filming import Card, Filming
from openegress.source.web.pacing import Pacer
from openegress.source.web.screen import DisplayScreen
from openegress.source.web.silence import DisplayEvent, DisplaySilence
from openegress.source.web.x11 import XError

FIRST_PICTURE_PERIODS = 1.5
"""Time, in periods, for which the start waits for the page to draw, so that slots and page begin in step."""


class VideoCapture:
    """Delivers frames at a constant rate from start() to stop(). If nothing has changed, it delivers the same
    frame object again: its time is the sink's argument, not the frame's own."""

    def __init__(
        self,
        display: Display,
        framerate: int,
        timeline: PauseTimeline,
        card: Card,
        on_news: Callable[[DisplayEvent], object],
    ) -> None:
        """`timeline` begins with the first frame. `on_news` is called from any thread."""
        self._display = display
        self._framerate = framerate
        self._timeline = timeline
        self._card = card
        self._on_news = on_news
        self._end_ns: int | None = None
        self._wake: socket.socket | None = None
        """Wakes the thread when it is written to or closed."""
        self._thread: threading.Thread | None = None
        self._started: Future[int] = Future()
        self.ended: Future[None] = Future()
        """Holds the XError when the display was lost."""
        self._filming: Filming | None = None
        self._asked: Future[None] | None = None
        """Done once the thread follows the timeline's last change."""

    async def start(self, sink: FrameSink) -> int:
        """Starts the thread. Returns media time zero: the time of the first frame, on the monotonic clock in
        ns."""
        self._wake, woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, args=(sink, woken), name="video-capture")
        self._thread.start()
        return await asyncio.wrap_future(self._started)

    async def follow_pauses(self) -> None:
        """Returns once the thread follows the timeline, or has ended."""
        asked: Future[None] = Future()
        self._asked = asked
        if self._wake is not None and self._end_ns is None and not self.ended.done():
            self._wake.send(b"\0")
            await asyncio.shield(asyncio.wrap_future(asked))

    @property
    def next_ns(self) -> int:
        """The slot that the recording continues with, on its timeline. For use while nothing is filmed."""
        return self._filming.next_ns if self._filming is not None else 0

    async def stop(self, end_ns: int) -> None:
        """Fills the slots up to `end_ns`, then ends the thread. Idempotent."""
        if self._end_ns is None:
            self._end_ns = end_ns
            if self._wake is not None:
                self._wake.close()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def stats(self) -> SourceStats:
        return self._filming.stats if self._filming is not None else SourceStats()

    def _run(self, sink: FrameSink, woken: socket.socket) -> None:
        try:
            screen = DisplayScreen(self._display)
            try:
                self._film(screen, woken, sink)
            finally:
                screen.close()
        except Exception as e:  # whatever it is, somebody waits for one of these two
            if not self._started.done():
                self._started.set_exception(e)
            self.ended.set_exception(e)
        else:
            self.ended.set_result(None)
        finally:
            self._answer(self._asked)
            woken.close()

    def _film(self, screen: DisplayScreen, woken: socket.socket, sink: FrameSink) -> None:
        poll = select.poll()
        poll.register(screen, select.POLLIN)
        poll.register(woken, select.POLLIN)
        first_ns = time.monotonic_ns() + int(FIRST_PICTURE_PERIODS * 1e9 / self._framerate)
        page_draws = self._wait(poll, screen, woken, first_ns)
        origin_ns = (screen.look() if page_draws else None) or time.monotonic_ns()
        silence = DisplaySilence(time.monotonic())
        self._filming = filming = Filming(sink, screen, Pacer(self._framerate, origin_ns), self._card)
        self._started.set_result(origin_ns)
        wait_ns = filming.fill(origin_ns)
        while self._end_ns is None:
            if self._wait(poll, screen, woken, wait_ns):
                silence.heard(time.monotonic())
                if (drawn_ns := screen.look()) is not None:
                    filming.drawn(drawn_ns)
            self._follow_silence(silence, screen)
            if self._end_ns is not None:
                break
            pause_ns = self._follow_pauses(filming, origin_ns)
            due_ns = filming.fill(time.monotonic_ns())
            wait_ns = min((at_ns for at_ns in (pause_ns, due_ns) if at_ns is not None), default=None)
        filming.end(self._end_ns)

    def _follow_silence(self, silence: DisplaySilence, screen: DisplayScreen) -> None:
        now_s = time.monotonic()
        if silence.is_to_be_asked(now_s):
            screen.ask()
        news = silence.look(screen.asked_s, now_s)
        if news is not DisplayEvent.NONE:
            self._on_news(news)

    def _follow_pauses(self, filming: Filming, origin_ns: int) -> int | None:
        """Pauses or resumes filming as the timeline says. Returns when the next pause begins, or None."""
        asked, timeline = self._asked, self._timeline
        begins_ns = timeline.begins_ns
        if begins_ns is None:
            if filming.is_paused:
                filming.resume(timeline.left_out_ns)
        elif not filming.is_paused:
            if time.monotonic_ns() < origin_ns + begins_ns:
                return origin_ns + begins_ns
            filming.pause(timeline.mode, timeline.recorded_ns(begins_ns))
        self._answer(asked)
        return None

    def _answer(self, asked: Future[None] | None) -> None:
        if asked is not None and not asked.done():
            asked.set_result(None)

    def _wait(
        self, poll: select.poll, screen: DisplayScreen, woken: socket.socket, until_ns: int | None
    ) -> bool:
        """Blocks until the picture changes (True), the time comes, or somebody wakes the thread."""
        timeout_ms = None if until_ns is None else max(0.0, (until_ns - time.monotonic_ns()) / 1e6)
        for fd, events in poll.poll(timeout_ms):
            if fd == screen.fileno():
                if not events & select.POLLIN:
                    raise XError("the display is gone")
                return True
            woken.recv(64)
        return False
