"""Where a stream of packets is cut into segments. Pure."""

from openegress.core.codecs import MediaKind
from openegress.media import NS, Packet

_TOLERANCE_NS = NS // 1000
"""Times pass through several time bases on their way; a rounding must not move a cut by a whole GOP."""


class Cutter:
    """Says which packets begin a segment.

    With video, a segment begins at the first key frame at or after each multiple of the asked duration:
    an encoder that was told the interval is cut there exactly, a passed-through track at its own next key
    frame. Sound alone is cut at the first packet of each multiple. Feed it in DTS order.
    """

    def __init__(self, segment_ns: int, *, has_video: bool) -> None:
        self._segment_ns = segment_ns
        self._leading = MediaKind.VIDEO if has_video else MediaKind.AUDIO
        self._next_cut_ns: int | None = None

    def begins(self, packet: Packet) -> bool:
        """Whether `packet` is the first of a new segment; the very first packet of the leading kind that
        can begin one is."""
        if packet.kind is not self._leading or not packet.is_key:
            return False
        at_ns = max(0, packet.pts_ns)  # an audio encoder's priming lies before media time zero
        if self._next_cut_ns is not None and at_ns < self._next_cut_ns - _TOLERANCE_NS:
            return False
        self._next_cut_ns = ((at_ns + _TOLERANCE_NS) // self._segment_ns + 1) * self._segment_ns
        return True
