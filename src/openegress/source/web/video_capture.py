"""Films a display: a thread that waits for the picture to change and puts it into the next slot."""

import asyncio
import select
import socket
import threading
import time
from concurrent.futures import Future

import av

from openegress.media import FrameSink
from openegress.source import SourceStats
from openegress.source.web.damage import Damage
from openegress.source.web.display import Display
from openegress.source.web.framebuffer import Framebuffer
from openegress.source.web.pacing import Pacer, Wait
from openegress.source.web.x11 import XError

FIRST_PICTURE_PERIODS = 1.5
"""How long the start waits for the page to draw, so that slots and page begin in step."""


class VideoCapture:
    """Delivers frames at a constant rate from start() to stop(). The same frame object is delivered again
    when nothing changed: its time is the sink's argument, not the frame's own."""

    def __init__(self, display: Display, framerate: int) -> None:
        self._display = display
        self._framerate = framerate
        self._end_ns: int | None = None
        self._wake: socket.socket | None = None
        """Closing it wakes the thread."""
        self._thread: threading.Thread | None = None
        self._started: Future[int] = Future()
        self.ended: Future[None] = Future()
        """Holds the XError when the display was lost."""
        self._stats = SourceStats()

    async def start(self, sink: FrameSink) -> int:
        """Returns media time zero on the monotonic clock, ns: that of the first frame."""
        self._wake, woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, args=(sink, woken), name="video-capture")
        self._thread.start()
        return await asyncio.wrap_future(self._started)

    async def stop(self, end_ns: int) -> None:
        """Fills the slots up to `end_ns` and ends. Idempotent."""
        if self._end_ns is None:
            self._end_ns = end_ns
            if self._wake is not None:
                self._wake.close()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def stats(self) -> SourceStats:
        return self._stats

    def _run(self, sink: FrameSink, woken: socket.socket) -> None:
        try:
            damage = Damage(self._display.number, self._display.cookie)
            try:
                self._film(damage, Framebuffer(self._display.framebuffer_file), woken, sink)
            finally:
                damage.close()
        except Exception as e:  # whatever it was, somebody waits for one of these two
            if not self._started.done():
                self._started.set_exception(e)
            self.ended.set_exception(e)
        else:
            self.ended.set_result(None)
        finally:
            woken.close()

    def _film(self, damage: Damage, framebuffer: Framebuffer, woken: socket.socket, sink: FrameSink) -> None:
        poll = select.poll()
        poll.register(damage, select.POLLIN)
        poll.register(woken, select.POLLIN)
        if self._wait(poll, damage, time.monotonic_ns() + int(FIRST_PICTURE_PERIODS * 1e9 / self._framerate)):
            framebuffer.follow(damage.drain())
        origin_ns = time.monotonic_ns()
        pacer = Pacer(self._framerate, origin_ns)
        frame = framebuffer.grab()
        sink.video(frame, 0)
        self._count(1, 1, 0)
        self._started.set_result(origin_ns)
        drawn_ns = 0
        """When the picture that waits for a slot was drawn; 0: none waits."""
        wait_ns = pacer.due_ns()
        while self._end_ns is None:
            if self._wait(poll, damage, wait_ns):
                framebuffer.follow(damage.drain())
                if drawn_ns:
                    self._count(0, 0, 1)
                drawn_ns = time.monotonic_ns()
            if self._end_ns is not None:
                break
            if drawn_ns:
                filled = pacer.last
                decision = pacer.picture(drawn_ns, time.monotonic_ns())
                if isinstance(decision, Wait):
                    wait_ns = decision.until_ns
                    continue
                self._deliver(sink, pacer, frame, range(filled + 1, decision.slot))
                frame = framebuffer.grab()
                sink.video(frame, pacer.pts_ns(decision.slot))
                self._count(1, 1, 0)
                drawn_ns = 0
            else:
                self._deliver(sink, pacer, frame, pacer.repeats(time.monotonic_ns()))
            wait_ns = pacer.due_ns()
        self._deliver(sink, pacer, frame, pacer.until(self._end_ns))

    def _deliver(self, sink: FrameSink, pacer: Pacer, frame: av.VideoFrame, slots: range) -> None:
        for slot in slots:
            sink.video(frame, pacer.pts_ns(slot))
        self._count(len(slots), 0, 0)

    def _wait(self, poll: select.poll, damage: Damage, until_ns: int) -> bool:
        """Until the picture changes (True), the time comes, or stop() is called."""
        timeout_ms = max(0.0, (until_ns - time.monotonic_ns()) / 1e6)
        for fd, events in poll.poll(timeout_ms):
            if fd == damage.fileno():
                if not events & select.POLLIN:
                    raise XError("the display is gone")
                return True
        return False

    def _count(self, frames: int, unique: int, dropped: int) -> None:
        s = self._stats
        self._stats = SourceStats(s.frames + frames, s.unique_frames + unique, s.dropped_frames + dropped)
