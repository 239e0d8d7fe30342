"""Reads a recording back: its streams, its pictures and sound, and how well they are in sync.

Every function opens the file again and decodes what it needs, with one thread. Times are seconds on the
file's own clock, unless a name says otherwise.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from testkit.pattern import BEEP_HZ, Plane, read_counter, read_flash, rgb_of

GAP_TOLERANCE_S = 0.003
"""Container time stamps of sound are rounded to a millisecond (WebM), and the shortest packet is 2.5 ms."""


@dataclass(frozen=True, slots=True)
class Rect:
    """Pixels of a recording's picture."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class VideoFacts:
    codec: str
    profile: str
    sizes: tuple[tuple[int, int], ...]
    """Each (width, height) that decoded pictures had, in order of appearance."""
    fps: float
    """Decoded pictures divided by their span."""
    frames: int
    start_s: float
    duration_s: float
    """Time from the first picture to the end of the last."""
    key_frames_s: tuple[float, ...]
    rising: bool
    """Whether times of pictures rise strictly."""
    longest_gap_s: float
    """The longest time between two pictures."""


@dataclass(frozen=True, slots=True)
class AudioFacts:
    codec: str
    sample_rate: int
    channels: int
    start_s: float
    duration_s: float
    gaps: tuple[tuple[float, float], ...]
    """(where, how long; negative: overlap), beyond GAP_TOLERANCE_S."""

    @property
    def contiguous(self) -> bool:
        return not self.gaps


@dataclass(frozen=True, slots=True)
class Facts:
    container: str
    duration_s: float
    """As the container says; 0 if it does not say."""
    video: VideoFacts | None
    audio: AudioFacts | None


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters read from each picture of a tile."""

    read: tuple[tuple[float, int | None], ...]
    """(time, counter or None)."""

    @property
    def values(self) -> list[int]:
        return [counter for _, counter in self.read if counter is not None]

    @property
    def unique(self) -> int:
        return len(set(self.values))

    @property
    def unreadable(self) -> int:
        return len(self.read) - len(self.values)

    @property
    def in_order(self) -> bool:
        return all(b >= a for a, b in pairwise(self.values))

    @property
    def missing(self) -> tuple[int, ...]:
        """Counters between the first and the last that were never seen."""
        seen = set(self.values)
        return tuple(n for n in range(min(seen), max(seen)) if n not in seen) if seen else ()

    def missing_of(self, sent: Iterable[int]) -> tuple[int, ...]:
        """The missing ones of those sent between the first and the last that were seen."""
        seen = set(self.values)
        return tuple(n for n in sent if min(seen) < n < max(seen) and n not in seen) if seen else ()

    @property
    def repeated(self) -> int:
        return len(self.values) - self.unique


@dataclass(frozen=True, slots=True)
class Tone:
    hz: float
    level: float
    """Amplitude, 1 is full scale."""


@dataclass(frozen=True, slots=True)
class AvOffset:
    """Beep minus flash in ms, one for each flash that has a beep within half a second."""

    samples: tuple[tuple[float, float], ...]
    """(time of the flash in s, offset in ms)."""

    @property
    def median_ms(self) -> float:
        return median(offset for _, offset in self.samples)

    @property
    def min_ms(self) -> float:
        return min(offset for _, offset in self.samples)

    @property
    def max_ms(self) -> float:
        return max(offset for _, offset in self.samples)


@dataclass(frozen=True, slots=True)
class Sound:
    """A file's whole sound. `samples` is (channels, n) in -1 ... 1; column 0 is at `start_s`."""

    samples: NDArray[np.float32]
    sample_rate: int
    start_s: float
    gaps: tuple[tuple[float, float], ...]


def probe(path: Path | str) -> Facts:
    """Decodes everything. Raises av.error.FFmpegError if the file cannot be decoded."""
    with av.open(str(path)) as container:
        duration_s = container.duration / 1_000_000 if container.duration else 0.0
        name = container.format.name
        has_video, has_audio = bool(container.streams.video), bool(container.streams.audio)
    return Facts(
        name, duration_s, _video_facts(path) if has_video else None, _audio_facts(path) if has_audio else None
    )


def counters(path: Path | str, tile: Rect | None = None) -> Counters:
    """The counter of every picture, from `tile` (None: the whole picture)."""
    read: list[tuple[float, int | None]] = []
    for time_s, frame in frames(path):
        read.append((time_s, read_counter(crop(luma_of(frame), tile))))
    return Counters(tuple(read))


def av_offset(path: Path | str, tile: Rect | None = None, audio_path: Path | str | None = None) -> AvOffset:
    """How much later beeps are heard than flashes are seen; `audio_path` if sound is in another file.

    Raises ValueError if no flash has a beep.
    """
    flashes, was = [], True
    for time_s, frame in frames(path):
        flash = read_flash(crop(luma_of(frame), tile))
        if flash and not was:
            flashes.append(time_s)
        was = flash
    beeps = np.array(beep_onsets(sound(audio_path or path)))
    samples = []
    for flash_s in flashes:
        if len(beeps):
            nearest = float(beeps[np.argmin(np.abs(beeps - flash_s))])
            if abs(nearest - flash_s) < 0.5:
                samples.append((flash_s, (nearest - flash_s) * 1000))
    if not samples:
        raise ValueError(f"{path}: {len(flashes)} flashes and {len(beeps)} beeps, none together")
    return AvOffset(tuple(samples))


def beep_onsets(heard: Sound) -> list[float]:
    """Where beeps begin, to about a millisecond: half height of the 1 kHz envelope over 10 ms."""
    wave = heard.samples.mean(axis=0)
    phase = np.exp(-2j * np.pi * BEEP_HZ / heard.sample_rate * np.arange(len(wave)))
    window = heard.sample_rate // 100
    if len(wave) < 2 * window:
        return []
    total = np.cumsum(np.concatenate([[0], wave * phase]))
    envelope = np.abs(total[window:] - total[:-window]) * 2 / window
    peak = float(envelope.max())
    if peak < 0.02:
        return []
    loud = envelope > peak / 2
    edges = np.flatnonzero(loud[1:] & ~loud[:-1]) + 1 + window // 2
    onsets: list[float] = []
    for edge in edges:
        onset = heard.start_s + float(edge) / heard.sample_rate
        if not onsets or onset - onsets[-1] > 0.3:
            onsets.append(onset)
    return onsets


def tones(
    path: Path | str,
    *,
    channel: int | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    min_level: float = 0.01,
) -> tuple[Tone, ...]:
    """The tones in a stretch of sound, loudest first; peaks closer than 30 Hz count as one. `channel` None:
    all mixed.

    A beep sounds a tenth of the time, and shows at about a tenth of its level.
    """
    heard = sound(path)
    first = max(0, int((start_s - heard.start_s) * heard.sample_rate))
    last = None if end_s is None else int((end_s - heard.start_s) * heard.sample_rate)
    stretch = heard.samples[:, first:last]
    wave = stretch.mean(axis=0) if channel is None else stretch[channel]
    return tones_of(wave, heard.sample_rate, min_level)


def tones_of(wave: NDArray[np.float32], sample_rate: int, min_level: float = 0.01) -> tuple[Tone, ...]:
    """The tones of a stretch of one channel, loudest first."""
    if len(wave) < sample_rate // 10:
        return ()
    window = np.hanning(len(wave))
    level = np.abs(np.fft.rfft(wave * window)) * 2 / window.sum()
    hz = np.fft.rfftfreq(len(wave), 1 / sample_rate)
    level[hz < 30] = 0
    found: list[Tone] = []
    while len(found) < 64:
        top = int(level.argmax())
        if level[top] < min_level:
            break
        found.append(Tone(float(hz[top]), float(level[top])))
        level[np.abs(hz - hz[top]) < 30] = 0
    return tuple(found)


SLEWED = 0.008
"""How much higher or lower a tone may be: sound that catches up shifts by half a percent."""
TOLERANCE_HZ = 5.0


def has_tone(found: Sequence[Tone], hz: float) -> bool:
    return any(abs(tone.hz - hz) <= max(TOLERANCE_HZ, SLEWED * hz) for tone in found)


def rms(path: Path | str, start_s: float, end_s: float, channel: int | None = None) -> float:
    """Loudness of a stretch; 0 is digital silence, a full-scale sine 0.707."""
    heard = sound(path)
    first, last = (max(0, int((at - heard.start_s) * heard.sample_rate)) for at in (start_s, end_s))
    stretch = heard.samples[:, first:last]
    if channel is not None:
        stretch = stretch[channel : channel + 1]
    return float(np.sqrt((stretch.astype(np.float64) ** 2).mean())) if stretch.size else 0.0


def mean_colour(path: Path | str, at_s: float, rect: Rect | None = None) -> tuple[float, float, float]:
    """Mean (r, g, b), 0 ... 255, of a part of the picture shown at a time.

    Raises ValueError if the file ends before.
    """
    shown: VideoFrame | None = None
    for time_s, frame in frames(path):
        if time_s > at_s and shown is not None:
            return colour_of(shown, rect)
        shown = frame
    if shown is None or at_s > _end_of_video(path):
        raise ValueError(f"{path} shows no picture at {at_s} s")
    return colour_of(shown, rect)


def colour_of(frame: VideoFrame, rect: Rect | None = None) -> tuple[float, float, float]:
    """Mean (r, g, b) of a part of a 4:2:0 picture, read as BT.709 limited range."""
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        frame = frame.reformat(format="yuv420p")
    half = None if rect is None else Rect(rect.x // 2, rect.y // 2, rect.width // 2, rect.height // 2)
    y = crop(_plane(frame, 0), rect).mean()
    u, v = (crop(_plane(frame, i), half).mean() for i in (1, 2))
    return rgb_of(float(y), float(u), float(v))


def frames(path: Path | str) -> Iterator[tuple[float, VideoFrame]]:
    """(time, picture) of the first video stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if frame.pts is not None and frame.time_base is not None:
                yield float(frame.pts * frame.time_base), frame


def sound(path: Path | str) -> Sound:
    """The first audio stream, each frame at its time stamp; time without a frame is silent."""
    parts: list[tuple[Fraction, NDArray[np.float32]]] = []
    rate = 48_000
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        for frame in container.decode(stream):
            if frame.pts is not None and frame.time_base is not None:
                rate = frame.sample_rate
                parts.append((frame.pts * frame.time_base, _samples(frame)))
    if not parts:
        return Sound(np.zeros((1, 0), np.float32), rate, 0.0, ())
    start = parts[0][0]
    gaps = []
    end = start
    for at, samples in parts:
        if abs(at - end) > GAP_TOLERANCE_S:
            gaps.append((float(end), float(at - end)))
        end = at + Fraction(samples.shape[1], rate)
    whole = np.zeros((parts[0][1].shape[0], max(0, round((end - start) * rate))), np.float32)
    expected = 0
    for at, samples in parts:
        first = round((at - start) * rate)
        if abs(first - expected) <= GAP_TOLERANCE_S * rate:
            first = expected
        expected = first + samples.shape[1]
        kept = samples[:, : max(0, whole.shape[1] - first)]
        whole[:, first : first + kept.shape[1]] = kept
    return Sound(whole, rate, float(start), tuple(gaps))


def contact_sheet(path: Path | str, out_png: Path | str, *, columns: int = 4, rows: int = 3) -> None:
    """A PNG with pictures at even times, for a person to look at."""
    start_s, end_s = 0.0, _end_of_video(path)
    count = columns * rows
    wanted = [start_s + (end_s - start_s) * (i + 0.5) / count for i in range(count)]
    chosen: list[VideoFrame] = []
    last: VideoFrame | None = None
    for time_s, frame in frames(path):
        while len(chosen) < count and last is not None and time_s > wanted[len(chosen)]:
            chosen.append(last)
        last = frame
    while last is not None and len(chosen) < count:
        chosen.append(last)
    width, height = 320, 180
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, frame in enumerate(chosen):
        row, column = divmod(i, columns)
        small = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = small
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = columns * width, rows * height, "rgb24"
    encoder.time_base = Fraction(1, 1)
    picture = VideoFrame.from_ndarray(sheet, "rgb24")
    picture.pts = 0
    packets = [*encoder.encode(picture), *encoder.encode(None)]
    Path(out_png).write_bytes(b"".join(bytes(packet) for packet in packets))


def luma_of(frame: VideoFrame) -> Plane:
    """The luma plane (height, width) of a planar YUV or grey picture."""
    if not frame.format.name.startswith(("yuv", "gray", "nv12")):
        frame = frame.reformat(format="yuv420p")
    return _plane(frame, 0)


def _plane(frame: VideoFrame, index: int) -> Plane:
    plane = frame.planes[index]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
    cut: Plane = rows[:, : plane.width]
    return cut


def crop(plane: Plane, rect: Rect | None) -> Plane:
    if rect is None:
        return plane
    return plane[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]


def _samples(frame: AudioFrame) -> NDArray[np.float32]:
    data: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, len(frame.layout.channels)).T
    name = frame.format.name
    if name.startswith("s16"):
        return (data / 32768).astype(np.float32)
    if name.startswith("s32"):
        return (data / 2147483648).astype(np.float32)
    return data.astype(np.float32)


def _video_facts(path: Path | str) -> VideoFacts:
    times: list[float] = []
    keys: list[float] = []
    sizes: list[tuple[int, int]] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if frame.pts is None or frame.time_base is None:
                continue
            times.append(float(frame.pts * frame.time_base))
            if frame.key_frame:
                keys.append(times[-1])
            if (frame.width, frame.height) not in sizes:
                sizes.append((frame.width, frame.height))
        codec, profile = stream.codec_context.name, str(stream.codec_context.profile or "")
    gaps = [b - a for a, b in pairwise(times)]
    span = times[-1] - times[0] if times else 0.0
    step = median(gaps) if gaps else 0.0
    return VideoFacts(
        codec=codec,
        profile=profile,
        sizes=tuple(sizes),
        fps=(len(times) - 1) / span if span else 0.0,
        frames=len(times),
        start_s=times[0] if times else 0.0,
        duration_s=span + step,
        key_frames_s=tuple(keys),
        rising=all(gap > 0 for gap in gaps),
        longest_gap_s=max(gaps, default=0.0),
    )


def _audio_facts(path: Path | str) -> AudioFacts:
    heard = sound(path)
    with av.open(str(path)) as container:
        codec = container.streams.audio[0].codec_context.name
    return AudioFacts(
        codec=codec,
        sample_rate=heard.sample_rate,
        channels=heard.samples.shape[0],
        start_s=heard.start_s,
        duration_s=heard.samples.shape[1] / heard.sample_rate,
        gaps=heard.gaps,
    )


def _end_of_video(path: Path | str) -> float:
    """The end of the last packet, without decoding."""
    end_s = 0.0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return end_s
