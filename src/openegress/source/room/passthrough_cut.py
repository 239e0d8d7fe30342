"""Decides which parts of passed-through tracks go into the recording, around pauses. Runs on the event
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
    """Frames are held until it is known where the recording continues."""


class PassthroughCut:
    """The pauses of one recording. Times are unix ns on the frames' clock."""

    def __init__(self) -> None:
        self._phase = _Phase.RECORDING
        self.mode = PauseMode.CUT
        """Mode of the current or last pause."""
        self._since_ns = 0
        """Start of the current or last pause."""
        self._from_ns = 0
        """Earlier frames are not recorded any more."""
        self._held: deque[tuple[Track, EncodedFrame]] = deque()
        self._came = asyncio.Event()
        self.total_ns = 0
        """Length of all finished cuts."""

    @property
    def open_since_ns(self) -> int | None:
        """The start of the current pause; None: the recording is not paused."""
        return None if self._phase is _Phase.RECORDING else self._since_ns

    def begin(self, at_ns: int, mode: PauseMode = PauseMode.CUT) -> None:
        self._phase, self._since_ns, self.mode = _Phase.PAUSED, at_ns, mode

    def abandon(self) -> None:
        """Undoes begin()."""
        self._phase = _Phase.RECORDING

    def await_media(self) -> None:
        """Call it when the tracks have been requested again."""
        self._phase = _Phase.RESUMING

    def wait_on(self) -> None:
        """Call it when the tracks did not come: the pause continues."""
        self._phase = _Phase.PAUSED
        self._held.clear()

    def takes(self, track: Track, frame: EncodedFrame) -> bool:
        """Whether to record a frame now. Media sent before the cut is recorded, however late it comes."""
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
        """Waits for a frame that the recording can continue with: if pictures are expected, a key frame of
        any track. Returns its time; None: none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while (at_ns := self._first(with_video)) is None:
                    self._came.clear()
                    await self._came.wait()
                return at_ns
        except TimeoutError:
            return self._first(False)

    def end(self, at_ns: int) -> list[tuple[Track, EncodedFrame]]:
        """Continues the recording with media from that time on. Returns the frames held since then."""
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
