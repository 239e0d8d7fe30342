"""Converts raw sound and mutes to messages of a websocket."""

import json
import threading
from collections import deque
from collections.abc import Iterator

import av

from openegress.output.live.sound_buffer import Message


class SoundMessages:
    """Resamples sound to s16le, and reports mutes at their place among the samples. Fed from one thread;
    set_muted() and rest() may come from another."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._lock = threading.Lock()
        layout = "stereo" if channels == 2 else "mono"
        self._resampler = av.AudioResampler(format="s16", layout=layout, rate=sample_rate)
        self._mutes: deque[tuple[int, bool]] = deque()
        """(PTS, muted) of mutes whose sound has not come yet."""

    def of(self, samples: bytes, pts_ns: int, sample_rate: int) -> Iterator[Message]:
        """Returns the messages for `samples` (s16 interleaved stereo), after those for every earlier mute."""
        while self._mutes and self._mutes[0][0] <= pts_ns:
            yield _mute(self._mutes.popleft()[1])
        frame = av.AudioFrame(format="s16", layout="stereo", samples=len(samples) // 4)
        frame.planes[0].update(samples)
        frame.sample_rate = sample_rate
        with self._lock:
            frames = self._resampler.resample(frame)
        if data := b"".join(_pcm(each) for each in frames):
            yield data

    def set_muted(self, muted: bool, pts_ns: int) -> None:
        """Queues a mute, which is reported at its place among the sound; that arrives later than the mute."""
        self._mutes.append((pts_ns, muted))

    def rest(self) -> Iterator[Message]:
        """Returns the remaining messages at the end."""
        with self._lock:
            tail = b"".join(_pcm(each) for each in self._resampler.resample(None))
        if tail:
            yield tail
        while self._mutes:
            yield _mute(self._mutes.popleft()[1])


def _mute(muted: bool) -> Message:
    return json.dumps({"muted": muted})


def _pcm(frame: av.AudioFrame) -> bytes:
    """Returns a packed s16 frame without the padding of its buffer."""
    return bytes(frame.planes[0])[: frame.samples * 2 * frame.layout.nb_channels]
