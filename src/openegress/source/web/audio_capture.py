"""Records the page's sound: a thread reads the sound server's monitor and delivers contiguous blocks."""

import asyncio
import ctypes
import ctypes.util
import threading
import time
from collections import deque
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.units import S
from openegress.media import FrameSink
from openegress.media.time_stretch import resampled, with_a_period, without_a_period
from openegress.source.web.audio_clock import AudioClock
from openegress.source.web.pulse import MONITOR, Pulse

BLOCK_MS = 20
FRAGMENT_MS = 10
"""Lead with which the server renders ahead of what it reports as played. A page's own stream asks for 11.6
ms. Because this is less, the lead stays the same whether a page plays or not, and while streams come and
go."""
CHANNELS = 2
BYTES_PER_SAMPLE = 2 * CHANNELS
QUIET = 33
"""Samples below this, 60 dB below full scale, are silence."""
TAIL_NS = 200_000_000
"""Time for which stop() waits for sound that is still on its way. If the delay moves sound to an earlier
time, stop() waits longer by that."""
BACKLOG_BLOCKS = 2400
"""Limit for blocks that are kept before the start, about a minute, so that the origin of the stream is known
at once. Sound from before media time zero is dropped."""

RECORD, S16LE = 2, 3
"""Values of pa_stream_direction_t and pa_sample_format_t."""


class SampleSpec(ctypes.Structure):
    """The struct pa_sample_spec."""

    _fields_ = (("format", ctypes.c_int), ("rate", ctypes.c_uint32), ("channels", ctypes.c_uint8))


class BufferAttributes(ctypes.Structure):
    """The struct pa_buffer_attr; a field with all bits set leaves the choice to the server."""

    _fields_ = tuple((n, ctypes.c_uint32) for n in ("maxlength", "tlength", "prebuf", "minreq", "fragsize"))


class SoundLost(Exception):
    """The sound server disappeared."""


class Monitor:
    """A blocking record stream (libpulse-simple), s16 stereo. Reading releases the GIL."""

    def __init__(self, pulse: Pulse, sample_rate: int) -> None:
        try:
            self._library = ctypes.CDLL("libpulse-simple.so.0")
        except OSError as e:
            raise EgressError(
                Code.FAILED_PRECONDITION,
                f"libpulse-simple is not installed ({e}): install the package libpulse0",
                fault=Fault.SERVICE,
                phase=Phase.BROWSER_START,
            ) from e
        self._library.pa_simple_new.restype = ctypes.c_void_p
        self._library.pa_simple_read.argtypes = (
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
        )
        self._library.pa_simple_free.argtypes = (ctypes.c_void_p,)
        self._error = ctypes.c_int()
        self.samples = sample_rate * BLOCK_MS // 1000
        size = self.samples * BYTES_PER_SAMPLE
        self._buffer = ctypes.create_string_buffer(size)
        choice, fragment = 0xFFFFFFFF, sample_rate * FRAGMENT_MS // 1000 * BYTES_PER_SAMPLE
        try:
            # A null sink renders two seconds ahead unless somebody asks for less, and sleeps that long
            # before it looks again. If it is resumed while we are connected, it starts again at our pace.
            pulse.suspend_sink(True)
            self._stream = self._connect(
                pulse, sample_rate, BufferAttributes(choice, choice, choice, choice, fragment)
            )
            pulse.suspend_sink(False)
        except OSError as e:
            raise SoundLost(f"PulseAudio does not answer: {e}") from e

    def _connect(self, pulse: Pulse, sample_rate: int, buffer: BufferAttributes) -> int:
        stream = self._library.pa_simple_new(
            pulse.server.encode(),
            b"openegress",
            RECORD,
            MONITOR.encode(),
            b"page",
            ctypes.byref(SampleSpec(S16LE, sample_rate, CHANNELS)),
            None,
            ctypes.byref(buffer),
            ctypes.byref(self._error),
        )
        if not stream:
            raise SoundLost(f"PulseAudio took no record stream: error {self._error.value}")
        return int(stream)

    def read(self) -> bytes:
        """Reads the next block. Raises SoundLost."""
        read = self._library.pa_simple_read(
            self._stream, self._buffer, len(self._buffer), ctypes.byref(self._error)
        )
        if read < 0:
            raise SoundLost(f"PulseAudio is gone: error {self._error.value}")
        return self._buffer.raw

    def close(self) -> None:
        self._library.pa_simple_free(self._stream)


class AudioCapture:
    """Captures the sound of a page: reads from open() on, and delivers from start() to stop(). If the sound
    server is lost, it continues with silence and sets `lost`."""

    def __init__(self, pulse: Pulse, sample_rate: int, delay_ns: int) -> None:
        """`delay_ns`: added to the time of all sound, so that it fits the picture of the same moment."""
        self._pulse = pulse
        self._rate = sample_rate
        self.delay_ns = delay_ns
        """The delay, which may change while it runs. A change of less than audio_clock.JUMP_NS at once is
        slewed."""
        self._clock = AudioClock(sample_rate)
        self._thread: threading.Thread | None = None
        self._opened: Future[None] = Future()
        self._sink: FrameSink | None = None
        self._zero_ns = 0
        self._end_ns: int | None = None
        self._stopping = threading.Event()
        self._position = 0
        """The number of samples delivered."""
        self.lost: Future[str] = Future()
        """Done when the sound server is lost, with its message. Holds the sink's exception, if it raised
        one."""

    @property
    def off_ns(self) -> int:
        """By how much its sound is still too early."""
        return self._clock.off_ns

    def open(self) -> None:
        """Begins to read; await opened() for the result."""
        self._thread = threading.Thread(target=self._run, name="audio-capture")
        self._thread.start()

    async def opened(self) -> None:
        """Waits until sound is read. Raises EgressError if none can be captured."""
        await asyncio.wrap_future(self._opened)

    def start(self, sink: FrameSink, zero_ns: int) -> None:
        """Starts to deliver sound. `zero_ns`: media time zero on the monotonic clock."""
        self._zero_ns = zero_ns
        self._sink = sink

    async def stop(self, end_ns: int) -> None:
        """Delivers sound up to `end_ns`, then ends. Idempotent."""
        if self._end_ns is None:
            self._end_ns = end_ns
            self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            monitor = Monitor(self._pulse, self._rate)
        except (EgressError, SoundLost) as e:
            self._opened.set_exception(e if isinstance(e, EgressError) else _lost(str(e)))
            return
        self._opened.set_result(None)
        try:
            self._listen(monitor)
        except SoundLost as e:
            self.lost.set_result(str(e))
            self._stay_silent()
        except Exception as e:  # raised by the sink; the watcher of `lost` must know
            self.lost.set_exception(e)
        finally:
            monitor.close()

    def _listen(self, monitor: Monitor) -> None:
        waiting: deque[tuple[int, bytes]] = deque(maxlen=BACKLOG_BLOCKS)
        """Blocks not delivered yet, each with the number of its first sample."""
        first = 0
        while not self._finished():
            data = monitor.read()
            self._clock.arrived(monitor.samples, time.monotonic_ns())
            waiting.append((first, data))
            first += monitor.samples
            if self._sink is not None and (self._clock.ready or self._end_ns is not None):
                while waiting:
                    self._deliver(self._sink, *waiting.popleft())
        if self._sink is not None:
            while waiting:
                self._deliver(self._sink, *waiting.popleft())

    def _finished(self) -> bool:
        """Whether everything up to the end has been delivered, or waiting has taken too long."""
        if self._end_ns is None:
            return False
        if self._sink is None or time.monotonic_ns() > self._end_ns + TAIL_NS + max(0, -self.delay_ns):
            return True
        return self._position * S // self._rate >= self._end_ns - self._zero_ns

    def _deliver(self, sink: FrameSink, first: int, data: bytes) -> None:
        samples = len(data) // BYTES_PER_SAMPLE
        zero_ns = self._zero_ns - self.delay_ns
        placement = self._clock.place(self._position, first, samples, zero_ns, is_silent(data))
        if placement.skip:
            data = data[placement.skip * BYTES_PER_SAMPLE :]
        if placement.silence:
            data = bytes(placement.silence * BYTES_PER_SAMPLE) + data
        whole = len(data)
        if placement.by_periods:
            data = by_a_period(data, placement.by_periods)
        if placement.stretch and len(data) == whole:
            data = stretch(data, placement.stretch)
        self._emit(sink, data)

    def _emit(self, sink: FrameSink, data: bytes) -> None:
        if data:
            sink.audio(data, self._position * S // self._rate, self._rate)
            self._position += len(data) // BYTES_PER_SAMPLE

    def _stay_silent(self) -> None:
        """Delivers silence by the clock until stop()."""
        while not self._stopping.wait(BLOCK_MS / 1000):
            self._fill(time.monotonic_ns())
        self._fill(self._end_ns or time.monotonic_ns())

    def _fill(self, until_ns: int) -> None:
        if self._sink is not None:
            missing = (until_ns - self._zero_ns) * self._rate // S - self._position
            self._emit(self._sink, bytes(max(0, missing) * BYTES_PER_SAMPLE))


def is_silent(data: bytes) -> bool:
    """Whether a block of s16 is silent."""
    wave: npt.NDArray[np.int16] = np.frombuffer(data, np.int16)
    return bool(wave.max() < QUIET and wave.min() > -QUIET)


def by_a_period(data: bytes, samples: int) -> bytes:
    """Returns the block of s16 stereo made longer or shorter by one period of at most `samples`; unchanged if
    it has no period."""
    block = np.frombuffer(data, np.int16).reshape(-1, CHANNELS)
    changed = with_a_period(block, samples) if samples > 0 else without_a_period(block, -samples)
    return changed.tobytes()


def stretch(data: bytes, samples: int) -> bytes:
    """Returns the block of s16 stereo made longer (or shorter) by `samples`. Both ends stay the same, so
    there is no click."""
    block = np.frombuffer(data, np.int16).reshape(-1, CHANNELS)
    return resampled(block, len(block) + samples).tobytes()


def _lost(message: str) -> EgressError:
    return EgressError(Code.INTERNAL, message, fault=Fault.SERVICE, phase=Phase.BROWSER_START)
