"""Which parts of tracks that are stored as they are go into the recording, around pauses. On the event
loop."""

import asyncio
from collections import deque
from enum import Enum, auto

from openegress.core.codecs import AudioCodec
from openegress.core.pause_mode import PauseMode
from openegress.room import EncodedFrame, Track


class _Phase(Enum):
    RECORDING = auto()
    PAUSED = auto()
    RESUMING = auto()
    """Frames are held until it is known where the recording goes on."""


class PassthroughCut:
    """Times are unix ns on the clock of the frames."""

    def __init__(self) -> None:
        self._phase = _Phase.RECORDING
        self.mode = PauseMode.CUT
        """Of the pause that is open, or was last."""
        self._since_ns = 0
        """When it begins, or began."""
        self._from_ns = 0
        """Before which nothing is recorded any more."""
        self._held: deque[tuple[Track, EncodedFrame]] = deque()
        self._came = asyncio.Event()
        self.total_ns = 0
        """Of all cuts that are over."""

    @property
    def open_since_ns(self) -> int | None:
        """None: something is recorded."""
        return None if self._phase is _Phase.RECORDING else self._since_ns

    def begin(self, at_ns: int, mode: PauseMode = PauseMode.CUT) -> None:
        self._phase, self._since_ns, self.mode = _Phase.PAUSED, at_ns, mode

    def abandon(self) -> None:
        """As if it had not begun."""
        self._phase = _Phase.RECORDING

    def await_media(self) -> None:
        """The tracks are asked for again."""
        self._phase = _Phase.RESUMING

    def wait_on(self) -> None:
        """They did not come."""
        self._phase = _Phase.PAUSED
        self._held.clear()

    def takes(self, track: Track, frame: EncodedFrame) -> bool:
        """Whether it is to be recorded now. What was sent before the cut is, however late it comes."""
        match self._phase:
            case _Phase.RECORDING:
                return frame.at_ns >= self._from_ns
            case _Phase.RESUMING if frame.at_ns >= self._since_ns:
                self._held.append((track, frame))
                self._came.set()
                return False
            case _:
                return self._from_ns <= frame.at_ns < self._since_ns

    async def first_ns(self, *, with_video: bool, timeout_s: float) -> int | None:
        """When the first frame was there that the recording can go on with: a key frame, of whichever track,
        where pictures are waited for. None: none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while (at_ns := self._first(with_video)) is None:
                    self._came.clear()
                    await self._came.wait()
                return at_ns
        except TimeoutError:
            return self._first(False)

    def end(self, at_ns: int) -> list[tuple[Track, EncodedFrame]]:
        """The recording goes on with what was there at that time. Returns what has come of it."""
        if self.mode is PauseMode.CUT:
            self.total_ns += at_ns - self._since_ns
        self._phase, self._from_ns = _Phase.RECORDING, at_ns
        frames = [(track, frame) for track, frame in self._held if frame.at_ns >= at_ns]
        self._held.clear()
        return frames

    def _first(self, with_video: bool) -> int | None:
        return min((frame.at_ns for _, frame in self._held if _begins(frame, with_video)), default=None)


def _begins(frame: EncodedFrame, with_video: bool) -> bool:
    if isinstance(frame.codec, AudioCodec):
        return not with_video
    return frame.is_key
