"""Compares a recording with what was published, against ground truth: the counter of each picture, beeps on
whole seconds of the wall clock, and a continuous tone."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
import av.error
import m3u8
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from openegress.core.units import S
from testkit.participants import SentPicture
from testkit.pattern import read_counter
from testkit.probe import Sound, beep_onsets, luma_of

QUIET_RMS = 0.005
"""A tenth of the quietest tone that publishers send, and far more than an encoder makes of silence."""
WINDOW_S = 0.01
BEFORE_BEEP_S = 0.03
"""The tone must be heard for this long before a beep, or the beep's start was cut off."""
CONVERGED_S = 0.1
"""A decoder that begins amid a stream finds its level within 80 ms (RFC 7845 section 4.6). A beep before that
may sound louder than all others."""
STRETCH_S = 60.0
NONE = np.zeros(0, np.float32)
NEAR_S = 0.6
"""Pictures this near to a beep tell which picture is shown at that time."""


@dataclass(frozen=True, slots=True)
class Picture:
    wall_s: float
    """Unix time at which the recording first shows it."""
    counter: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Pictures:
    shown: tuple[Picture, ...]
    """Each counter once, in the order of the file."""
    undecodable: int
    """Pictures without a readable counter, errors of the decoder and, in a recording of tracks as sent,
    pictures that follow a loss without being key frames."""
    end_s: float
    """Unix time of the last picture, whatever it shows."""

    @property
    def frozen_s(self) -> float:
        """The longest time without a new picture."""
        times = [picture.wall_s for picture in self.shown]
        return max((b - a for a, b in pairwise([*times, self.end_s])), default=0.0)

    def late_ms(self, sent_ns: Mapping[int, int]) -> list[tuple[float, float]]:
        """(unix time, ms since its capture) of each picture."""
        return [
            (each.wall_s, each.wall_s * 1000 - sent_ns[each.counter] / 1e6)
            for each in self.shown
            if each.counter in sent_ns
        ]


@dataclass(frozen=True, slots=True)
class Heard:
    begin_s: float
    end_s: float
    """Unix times of its first and last sound, not of silence around it."""
    silent_s: float
    """The longest silence between these two."""
    beeps_s: tuple[float, ...]
    """Unix times at which whole beeps begin."""

    def late_ms(self) -> list[float]:
        """How much later than a whole second each beep begins, -500 to 500."""
        return [((at_s + 0.5) % 1 - 0.5) * 1000 for at_s in self.beeps_s]


def unreadable(codec: str, sent: Sequence[SentPicture]) -> frozenset[int]:
    """Counters that a publisher's own encoder made unreadable; AV1's does that to one in a thousand."""
    decoder = av.CodecContext.create(_DECODERS[codec], "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    lost = set()
    for picture in sent:
        for frame in decoder.decode(av.Packet(picture.data)):
            if read_counter(luma_of(frame)) is None:
                lost.add(picture.counter)
    return frozenset(lost)


_DECODERS = {"vp8": "vp8", "vp9": "vp9", "h264": "h264", "av1": "libdav1d"}


def pictures(
    path: Path | str,
    zero_ns: int,
    sent_ns: Mapping[int, int],
    *,
    as_sent: bool,
    blurred: Collection[int] = (),
) -> Pictures:
    """`zero_ns`: unix time of the file's time zero. `as_sent`: each picture of the file is one that was
    published, so pictures that refer to a lost one are broken. `blurred`: counters that were already
    unreadable when they were sent."""
    shown: list[Picture] = []
    undecodable, end_s = 0, 0.0
    sent = sorted(sent_ns)
    order = {counter: place for place, counter in enumerate(sent)}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                undecodable += 1
                continue
            for frame in frames:
                if frame.pts is None or frame.time_base is None:
                    continue
                end_s = zero_ns / S + float(frame.pts * frame.time_base)
                counter = read_counter(luma_of(frame))
                if counter is None and shown:
                    following = order[shown[-1].counter] + 1
                    if following < len(sent) and sent[following] in blurred:
                        counter = sent[following]
                if counter is None or counter not in order:
                    undecodable += 1
                elif not shown or shown[-1].counter != counter:
                    before = order.get(shown[-1].counter, -1) if shown else -1
                    follows = order[counter] == before + 1
                    undecodable += as_sent and not follows and not frame.key_frame
                    shown.append(Picture(end_s, counter, bool(frame.key_frame)))
    return Pictures(tuple(shown), undecodable, end_s)


def heard(path: Path | str, zero_ns: int) -> Heard:
    """Reads one stretch at a time, as recordings may be hours long. Raises ValueError if nothing sounds."""
    zero_s = zero_ns / S
    before = round(BEFORE_BEEP_S / WINDOW_S)
    loud_s: list[float] = []
    longest_s = 0.0
    beeps: list[float] = []
    for stretch in _stretches(path):
        loud = _loud(stretch)
        times = zero_s + stretch.start_s + np.flatnonzero(loud) * WINDOW_S
        if len(times):
            longest_s = max(longest_s, float(np.diff(times, prepend=loud_s[-1:]).max(initial=0)))
            loud_s = [loud_s[0] if loud_s else float(times[0]), float(times[-1])]
        for onset_s in beep_onsets(_converged(stretch)):
            first = int((onset_s - stretch.start_s) / WINDOW_S)
            if first >= before + 1 and loud[first - before - 1 : first].all():
                beeps.append(zero_s + onset_s)
    if not loud_s:
        raise ValueError(f"{path} is silent")
    silent_s = max(0.0, longest_s - WINDOW_S)
    return Heard(loud_s[0], loud_s[-1] + WINDOW_S, round(silent_s / WINDOW_S) * WINDOW_S, tuple(beeps))


def _stretches(path: Path | str) -> Iterator[Sound]:
    """The first audio stream, mono, in stretches of STRETCH_S without gaps; time without a frame is
    silent."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise ValueError(f"{path} has no sound")
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("flt", "mono", stream.rate)
        rate = stream.rate
        size = round(STRETCH_S * rate)
        begin = 0
        buffer = np.zeros(size, np.float32)
        filled = 0
        for frame in container.decode(stream):
            if frame.pts is None or frame.time_base is None:
                continue
            first = round(frame.pts * frame.time_base * rate)
            samples = np.concatenate([each.to_ndarray()[0] for each in resampler.resample(frame)] or [NONE])
            if begin == 0 and filled == 0:
                begin = first
            while first + len(samples) - begin > size:
                head = max(0, size - max(0, first - begin))
                at = min(size, max(0, first - begin))
                buffer[at : at + head] = samples[:head]
                yield Sound(buffer[np.newaxis], rate, begin / rate, ())
                buffer, filled, begin = np.zeros(size, np.float32), 0, begin + size
                samples, first = samples[head:], first + head
            at = max(0, first - begin)
            buffer[at : at + len(samples)] = samples[: size - at]
            filled = max(filled, at + len(samples))
        if filled:
            yield Sound(buffer[np.newaxis, :filled], rate, begin / rate, ())


def _converged(stretch: Sound) -> Sound:
    skipped = round(CONVERGED_S * stretch.sample_rate)
    start_s = stretch.start_s + skipped / stretch.sample_rate
    return Sound(stretch.samples[:, skipped:], stretch.sample_rate, start_s, stretch.gaps)


def _loud(stretch: Sound) -> "NDArray[np.bool_]":
    """Whether anything sounds, for each window of WINDOW_S."""
    wave = stretch.samples[0]
    size = int(stretch.sample_rate * WINDOW_S)
    count = len(wave) // size
    rms = np.sqrt((wave[: count * size].reshape(count, size).astype(np.float64) ** 2).mean(axis=1))
    loud: NDArray[np.bool_] = rms > QUIET_RMS
    return loud


def playlist_zero_ns(path: Path | str) -> int:
    """Unix time of the time zero of an HLS playlist's segments, from the date and time of its first segment;
    their time stamps begin anywhere. Raises ValueError without one."""
    segments = m3u8.load(str(path)).segments
    if not segments or segments[0].program_date_time is None:
        raise ValueError(f"{path} has no segment with a date and time")
    with av.open(str(path)) as container:
        begin_s = (container.start_time or 0) / av.time_base
    zero_ns: int = round((segments[0].program_date_time.timestamp() - begin_s) * S)
    return zero_ns


def out_of_step_ms(seen: Pictures, listened: Heard, sent_ns: Mapping[int, int]) -> list[tuple[float, float]]:
    """(unix time, ms by which the sound is later than the picture) for each whole beep with pictures around
    it."""
    late = seen.late_ms(sent_ns)
    found = []
    for at_s, beep_ms in zip(listened.beeps_s, listened.late_ms(), strict=True):
        near = [each for when_s, each in late if abs(when_s - at_s) < NEAR_S]
        if near:
            found.append((at_s, beep_ms - median(near)))
    return found
