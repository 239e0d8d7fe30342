"""Finds speakers in a recording of tracks by loudness, for recordings without events beside them."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from openegress.core.codecs import AudioCodec
from openegress.core.units import S
from openegress.media.decoder import AudioDecoder
from openegress.media.meeting_file import MeetingFile
from openegress.source.room.meeting_history import RoomChange

WINDOW_NS = 2 * S // 5
"""Length of a window: LiveKit's own interval."""
LOUD = 32_768 * 10 ** (-35 / 20)
"""Threshold of a speaker: 35 dB below full scale, as in LiveKit."""


def speaking(file: MeetingFile) -> Iterator[RoomChange]:
    """Yields a change for each window whose speakers differ from those before. Decodes all sound."""
    decoders = {
        track.index: (track.identity, AudioDecoder(track.codec))
        for track in file.tracks
        if isinstance(track.codec, AudioCodec)
    }
    power: defaultdict[int, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for packet in file.packets():
        if packet.index in decoders:
            identity, decoder = decoders[packet.index]
            samples = decoder.decode(packet.data)
            if len(samples):
                energy = float(np.mean(np.square(samples, dtype=np.float32))) * len(samples) / 48_000
                power[packet.at_ns // WINDOW_NS][identity] += energy * S / WINDOW_NS
    before: tuple[str, ...] = ()
    for window in range(max(power, default=-1) + 2):
        levels: dict[str, float] = power.get(window, defaultdict(float))
        loud = sorted((each for each in levels if levels[each] > LOUD**2), key=lambda each: -levels[each])
        if set(loud) != set(before):
            before = tuple(loud)
            yield RoomChange(window * WINDOW_NS, "active_speakers", {"identities": before})
