"""Decides where a stream of packets is cut into segments. Pure."""

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from openegress.media import Packet

_TOLERANCE_NS = S // 1000
"""Tolerance of a cut. Times pass through several time bases; a rounding error must not move a cut by a whole
GOP."""


class Cutter:
    """Decides which packets begin a segment.

    With video, a segment begins at the first key frame at or after each multiple of the requested duration:
    an encoder that knows the interval is cut there exactly, a passed-through track at its own next key frame.
    Sound alone is cut at the first packet of each multiple. Feed it in DTS order.

    No segment gets longer than `limit_ns`: if no key frame comes until then (a track that sends one only on
    request, or that is muted), the next packet of any kind begins one. `keyless`: so does the first packet of
    any kind after a pause.
    """

    def __init__(self, segment_ns: int, *, has_video: bool, limit_ns: int, keyless: bool = False) -> None:
        self._segment_ns = segment_ns
        self._keyless = keyless
        self._limit_ns = limit_ns
        self._leading = MediaKind.VIDEO if has_video else MediaKind.AUDIO
        self._begun_ns = 0
        self._next_cut_ns: int | None = None

    def begins(self, packet: Packet, *, breaks: bool = False) -> bool:
        """Whether `packet` is the first of a new segment. This is so for the very first packet of the leading
        kind that can begin one, and for a key frame that `breaks`: its format or its time does not continue
        what was before. If segments may do without key frames, it is so for any packet that `breaks`."""
        at_ns = max(0, packet.pts_ns)  # an audio encoder's priming lies before media time zero
        can_lead = packet.kind is self._leading and packet.is_key
        if self._next_cut_ns is None:
            if not can_lead:
                return False
        elif not (
            (can_lead and at_ns >= self._next_cut_ns - _TOLERANCE_NS)
            or (breaks and (can_lead or self._keyless))
            or at_ns - self._begun_ns >= self._limit_ns
        ):
            return False
        self._begun_ns = at_ns
        self._next_cut_ns = ((at_ns + _TOLERANCE_NS) // self._segment_ns + 1) * self._segment_ns
        return True
