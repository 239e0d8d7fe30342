"""Which packets follow which pause."""

from fractions import Fraction

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.resumptions import Resumption, Resumptions


def packet(pts_s: int) -> Packet:
    return Packet(MediaKind.VIDEO, b"", pts_s, pts_s, 1, Fraction(1), is_key=True)


def test_a_packet_tells_the_pauses_before_it() -> None:
    resumptions = Resumptions()
    assert resumptions.stamped([packet(1)]) == [packet(1)]
    resumptions.note(Resumption(2 * S, 10 * S))
    resumptions.note(Resumption(4 * S, 15 * S))
    # An encoder gives them later than they came.
    told = [each.paused_ns // S for each in resumptions.stamped([packet(n) for n in range(1, 6)])]
    assert told == [0, 10, 10, 15, 15]
