"""The order in which packets reach a container."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import MediaKind
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.interleave import Clamp, Interleaver, dts_ns

A, V = MediaKind.AUDIO, MediaKind.VIDEO
MS = Fraction(1, 1000)


def packet(kind: MediaKind, dts_ms: int, duration_ms: int = 20, pts_ms: int | None = None) -> Packet:
    return Packet(kind, b"x", dts_ms if pts_ms is None else pts_ms, dts_ms, duration_ms, MS, True)


def test_packets_come_out_in_the_order_of_their_dts() -> None:
    merge = Interleaver((A, V), S)
    assert merge.push(packet(V, 0)) == []
    assert merge.push(packet(V, 40)) == []
    assert [(p.kind, p.dts) for p in merge.push(packet(A, 10))] == [(V, 0), (A, 10)]
    assert [(p.kind, p.dts) for p in merge.push(packet(A, 60))] == [(V, 40)]
    assert [(p.kind, p.dts) for p in merge.flush()] == [(A, 60)]


def test_a_stream_that_falls_silent_holds_the_other_no_longer_than_the_bound() -> None:
    merge = Interleaver((A, V), S)
    out = [p.dts for dts in range(0, 3001, 100) for p in merge.push(packet(V, dts))]
    assert out == list(range(0, 2000, 100))


def test_one_stream_alone_does_not_wait() -> None:
    merge = Interleaver((V,), S)
    assert [p.dts for p in merge.push(packet(V, 0))] == [0]


def test_a_missing_duration_is_the_distance_to_the_next_packet_and_the_last_one_repeats_it() -> None:
    merge = Interleaver((V,), S)
    out = [p for dts in (0, 30, 100) for p in merge.push(packet(V, dts, 0))] + merge.flush()
    assert [(p.dts, p.duration) for p in out] == [(0, 30), (30, 70), (100, 70)]


steps = st.lists(st.tuples(st.sampled_from((A, V)), st.integers(1, 200)), max_size=200)


@given(steps, st.integers(0, 2000))
def test_nothing_is_lost_and_each_stream_keeps_its_order(
    moves: list[tuple[MediaKind, int]], delay_ms: int
) -> None:
    merge = Interleaver((A, V), delay_ms * S // 1000)
    now = {A: 0, V: 0}
    given_in: list[Packet] = []
    out: list[Packet] = []
    for kind, step in moves:
        now[kind] += step
        given_in.append(packet(kind, now[kind]))
        out += merge.push(given_in[-1])
        waiting = [p for p in given_in if p not in out]
        newest = max(dts_ns(p) for p in given_in)
        assert all(newest - dts_ns(p) <= delay_ms * S // 1000 for p in waiting)
    out += merge.flush()
    for kind in (A, V):
        assert [p for p in out if p.kind is kind] == [p for p in given_in if p.kind is kind]


@given(steps)
def test_without_a_bound_the_order_is_total(moves: list[tuple[MediaKind, int]]) -> None:
    merge = Interleaver((A, V), 10**15)
    now = {A: 0, V: 0}
    out: list[Packet] = []
    for kind, step in moves:
        now[kind] += step
        out += merge.push(packet(kind, now[kind]))
    out += merge.flush()
    assert all(a.dts <= b.dts for a, b in pairwise(out))


@given(
    st.lists(st.tuples(st.integers(-5, 40), st.integers(0, 10)), min_size=1),
    st.sampled_from((Fraction(1, 1000), Fraction(1, 90_000), Fraction(1, 48_000))),
)
def test_dts_rises_strictly_in_the_container_whatever_comes(
    moves: list[tuple[int, int]], time_base: Fraction
) -> None:
    clamp = Clamp(time_base)
    dts, placed = 0, []
    for step, ahead in moves:
        dts += step
        one = Packet(V, b"", dts + ahead, dts, 3, Fraction(1, 3000), True)
        placed.append(clamp.place(one))
    assert all(a[1] < b[1] for a, b in pairwise(placed))
    assert all(pts >= d for pts, d, _ in placed)


def test_times_are_rescaled_and_shifted() -> None:
    clamp = Clamp(Fraction(1, 1000), offset_ns=S)
    assert clamp.place(Packet(V, b"", 9000, 0, 3000, Fraction(1, 90_000), True)) == (1100, 1000, 33)
