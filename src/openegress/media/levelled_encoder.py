"""Encodes sound after bringing it to a target loudness."""

from openegress.core.units import S
from openegress.media import Packet
from openegress.media.encoder import AudioEncoder
from openegress.media.leveller import Leveller


class LevelledEncoder:
    """An AudioEncoder with a Leveller in front. Confined to one thread."""

    def __init__(self, encoder: AudioEncoder, target_lufs: float) -> None:
        self._encoder = encoder
        self._target_lufs = target_lufs
        self._leveller: Leveller | None = None
        self._rate = 0
        self._given = 0
        """Number of samples that were given so far."""
        self.format = encoder.format

    def encode(self, samples: bytes, pts_ns: int, sample_rate: int) -> list[Packet]:
        """Encodes `samples`. The first block sets the sample rate of all."""
        if self._leveller is None:
            self._leveller, self._rate = Leveller(self._target_lufs, sample_rate), sample_rate
        return self._encoded(self._leveller.levelled(samples))

    def flush(self) -> list[Packet]:
        rest = self._encoded(self._leveller.rest()) if self._leveller is not None else []
        return rest + self._encoder.flush()

    def _encoded(self, samples: bytes) -> list[Packet]:
        if not samples:
            return []
        pts_ns = self._given * S // self._rate
        self._given += len(samples) // 4
        return self._encoder.encode(samples, pts_ns, self._rate)
