"""Keeps the sound of a page that plays WebRTC in step with its picture, by the browser's own measurements."""

import asyncio
from collections.abc import Callable
from itertools import chain, repeat

from openegress.core.tasks import cancelled
from openegress.core.units import MS
from openegress.media import FrameSink
from openegress.source.playout import PlayoutDelays
from openegress.source.web.audio_capture import AudioCapture
from openegress.source.web.page_playout import PagePlayout

SETTLE_S = 0.3
"""Time for which a page is measured before its sound is delivered, so that it is in step from the start."""
BUSY_S = 0.6
"""Limit for the wait for a busy page: its sound does not wait longer than this."""
LOOK_S = 1.0
FIRST_LOOKS = 20
"""Number of measurements at intervals of SETTLE_S. In its first seconds a browser fills its sound buffer,
from a tenth of a second to as long as its pictures wait."""
FILLING_NS = 10 * MS
"""A buffer that has grown by more than this since the last measurement is still filling."""
ROUGH_NS = 15 * MS
"""Like STEADY_NS, for the first measurements, which are this rough because they cover few pictures."""
STEADY_NS = 5 * MS
"""Changes smaller than this are ignored."""
FARTHEST_NS = 100 * MS
"""The largest correction at once: beyond audio_clock.JUMP_NS, sound would be cut instead of slewed."""


class PageSound:
    """The sound of one page. It owns the capture."""

    def __init__(self, capture: AudioCapture, playout: PagePlayout | None, is_template: bool) -> None:
        """`playout`: None if there is no picture to keep in step with."""
        self.capture = capture
        self._playout = playout
        self._is_template = is_template
        self._delays = PlayoutDelays()
        self._begin_sound: Callable[[], None] | None = None
        """Set from start() until sound has begun."""
        self._following: asyncio.Task[None] | None = None

    def open(self) -> None:
        self.capture.open()

    async def opened(self) -> None:
        """Waits for the sound server. Raises EgressError if no sound can be captured."""
        await self.capture.opened()

    def start(self, sink: FrameSink, zero_ns: int) -> None:
        """Starts the sound. `zero_ns`: media time zero on the monotonic clock."""
        if self._playout is None:
            self.capture.start(sink, zero_ns)
        else:
            self._begin_sound = lambda: self.capture.start(sink, zero_ns)
            self._following = asyncio.create_task(self._follow(self._playout), name="page sound")

    async def stop(self, end_ns: int) -> None:
        """Delivers sound up to `end_ns`, then ends. Idempotent."""
        await self.close()
        self._begin_once()
        await self.capture.stop(end_ns)

    async def close(self) -> None:
        await cancelled(self._following)

    async def _follow(self, playout: PagePlayout) -> None:
        try:
            async with asyncio.timeout(BUSY_S):
                await self._look(playout)
                await asyncio.sleep(SETTLE_S)
                if (wanted_ns := await self._look(playout)) is not None:
                    self.capture.delay_ns = wanted_ns
        except TimeoutError:
            pass
        self._begin_once()
        heard_ns = self._delays.heard_ns
        for wait_s, is_first in chain(repeat((SETTLE_S, True), FIRST_LOOKS), repeat((LOOK_S, False))):
            await asyncio.sleep(wait_s)
            before_ns, wanted_ns = heard_ns, await self._look(playout)
            heard_ns = self._delays.heard_ns
            if wanted_ns is None or heard_ns is None:
                continue
            if not is_first:
                self._move(wanted_ns, STEADY_NS)
            elif before_ns is not None and heard_ns - before_ns > FILLING_NS:
                # The measurement is the mean since the last look, and the target holds until the next one.
                self._move(wanted_ns - (heard_ns - before_ns), STEADY_NS)
            else:
                self._move(wanted_ns, ROUGH_NS)

    def _move(self, wanted_ns: int, steady_ns: int) -> None:
        delay_ns = self.capture.delay_ns
        if abs(wanted_ns - delay_ns) > steady_ns:
            most_ns = max(0, FARTHEST_NS - abs(self.capture.off_ns))
            self.capture.delay_ns = max(delay_ns - most_ns, min(delay_ns + most_ns, wanted_ns))

    def _begin_once(self) -> None:
        if self._begin_sound is not None:
            self._begin_sound()
            self._begin_sound = None

    async def _look(self, playout: PagePlayout) -> int | None:
        """The target for the delay of the sound; None: unknown."""
        self._delays.look(await playout.waits(self._is_template))
        shown_ns, heard_ns = self._delays.shown_ns, self._delays.heard_ns
        return None if shown_ns is None or heard_ns is None else shown_ns - heard_ns
