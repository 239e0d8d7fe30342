"""An output stays below its size, whatever comes, and its end is asked for once, and in time."""

from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import MediaKind
from openegress.media import Packet
from openegress.output.size_guard import HEADER_BYTES, IN_FILE, SizeGuard, SizeLimit, in_ts

VIDEO, AUDIO = MediaKind.VIDEO, MediaKind.AUDIO


@dataclass
class Taken:
    packets: list[Packet] = field(default_factory=list)
    reached_at: list[int] = field(default_factory=list)
    """How many packets there were when it was told."""

    def write(self, packet: Packet) -> None:
        self.packets.append(packet)

    def guard(self, max_bytes: int) -> SizeGuard:
        return SizeGuard(self, SizeLimit(max_bytes, lambda: self.reached_at.append(len(self.packets))))

    @property
    def size_bytes(self) -> int:
        return HEADER_BYTES + sum(IN_FILE.packet_bytes(len(each.data)) for each in self.packets)

    def end_ms(self, kind: MediaKind) -> int:
        return max(each.pts for each in self.packets if each.kind is kind)


def packet(kind: MediaKind, at_ms: int, size: int) -> Packet:
    return Packet(kind, bytes(size), at_ms, at_ms, 20, Fraction(1, 1000), True)


@given(
    max_bytes=st.integers(10_000, 200_000),
    sizes=st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 3000)), min_size=1, max_size=60),
    lag_ms=st.integers(0, 2500),
)
def test_it_never_gets_larger(max_bytes: int, sizes: list[tuple[int, int]], lag_ms: int) -> None:
    """But for a first packet that is larger by itself: an empty file is of no use."""
    taken = Taken()
    guard = taken.guard(max_bytes)
    for n, (picture, sound) in enumerate(sizes):
        guard.write(packet(AUDIO, n * 100, sound))
        if (at_ms := n * 100 - lag_ms) >= 0:
            guard.write(packet(VIDEO, at_ms, picture))
    assert len(taken.packets) == 1 or taken.size_bytes <= max_bytes
    assert len(taken.reached_at) <= 1
    everything = sum(IN_FILE.packet_bytes(picture) + IN_FILE.packet_bytes(sound) for picture, sound in sizes)
    if not taken.reached_at:
        assert HEADER_BYTES + everything <= max_bytes or lag_ms > 0


def test_a_smaller_limit_counts_what_is_written() -> None:
    """Even if nothing follows, because the recording is paused."""
    taken = Taken()
    guard = taken.guard(10**9)
    for n in range(10):
        guard.write(packet(VIDEO, n * 100, 10_000))
    told: list[int] = []
    for most_bytes in (200_000, 100_000, 50_000):
        guard.change(SizeLimit(most_bytes, lambda most=most_bytes: told.append(most)))  # type: ignore[misc]
    guard.change(None)
    assert told == [100_000, 50_000] and taken.reached_at == []


def test_a_stream_that_lags_comes_to_the_same_end() -> None:
    """Of pictures that are encoded a second later than sound nothing is missing but the very end."""
    taken = Taken()
    guard = taken.guard(1_000_000)
    for n in range(500):
        guard.write(packet(AUDIO, n * 20, 300))
        if n >= 50:
            guard.write(packet(VIDEO, (n - 50) * 20, 4000))
    assert len(taken.reached_at) == 1
    assert taken.reached_at[0] < len(taken.packets)
    assert 0 <= taken.end_ms(AUDIO) - taken.end_ms(VIDEO) <= 40
    assert 850_000 < taken.size_bytes <= 1_000_000


def test_a_muted_track_ends_nothing_before_its_time() -> None:
    taken = Taken()
    guard = taken.guard(1_000_000)
    guard.write(packet(VIDEO, 0, 4000))
    for n in range(4000):
        guard.write(packet(AUDIO, n * 20, 300))
    assert taken.size_bytes > 900_000
    assert len(taken.reached_at) == 1


def test_ts_is_filled_up() -> None:
    assert [in_ts(0), in_ts(158), in_ts(159), in_ts(1840)] == [188, 188, 376, 11 * 188]
    assert IN_FILE.packet_bytes(100) == 118
