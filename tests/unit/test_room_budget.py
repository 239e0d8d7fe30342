"""What a track may cost, and when it is left out and taken again."""

from hypothesis import given
from hypothesis import strategies as st

from openegress.core.codecs import MediaKind
from openegress.core.token_bucket import RefillRate, TokenBucket
from openegress.core.units import MS, S
from openegress.room.budget import (
    DECODING,
    ENTITLED,
    FIRST_PAUSE_NS,
    FORGIVEN_AFTER_NS,
    LONGEST_PAUSE_NS,
    ROOM_DECODING,
    DecodeBudget,
    Reason,
    Standing,
    TrackBudget,
    greediest,
)


@given(st.lists(st.tuples(st.integers(0, 2 * S), st.floats(0, 50)), max_size=50))
def test_no_more_is_taken_from_a_bucket_than_came_in(spent: list[tuple[int, float]]) -> None:
    bucket, now_ns, taken = TokenBucket(RefillRate(10, 20)), 0, 0.0
    for passed_ns, amount in spent:
        now_ns += passed_ns
        if bucket.left(now_ns) >= amount:
            assert bucket.spend(amount, now_ns)
            taken += amount
        assert taken <= 20 + 10 * now_ns / S + 1e-6


@given(st.sampled_from(list(MediaKind)), st.lists(st.integers(0, 40 * MS), max_size=300))
def test_real_time_media_are_never_over_budget(kind: MediaKind, jitter_ns: list[int]) -> None:
    """10 ms of sound a packet, or 60 pictures of 30 packets a second, however they jitter."""
    budget = TrackBudget(kind, on_probation=True)
    each_ns = 10 * MS if kind is MediaKind.AUDIO else S // 60
    now_ns = 0
    for index, late_ns in enumerate(jitter_ns):
        now_ns = max(now_ns, index * each_ns + late_ns)
        for _ in range(1 if kind is MediaKind.AUDIO else 30):
            assert budget.packets(1, now_ns) is None
        assert budget.media(0.01 if kind is MediaKind.AUDIO else 1, now_ns) is None


def test_each_time_a_track_is_left_out_for_longer() -> None:
    standing, now_ns, pauses = Standing(), 0, []
    for _ in range(6):
        pause_ns = standing.leave_out(Reason.PACKETS, now_ns)
        pauses.append(pause_ns)
        now_ns += pause_ns
        standing.take(now_ns)
        now_ns += S
    assert pauses[:3] == [FIRST_PAUSE_NS, 2 * FIRST_PAUSE_NS, 4 * FIRST_PAUSE_NS]
    assert pauses[-1] == LONGEST_PAUSE_NS
    assert standing.out_ns(now_ns) == sum(pauses)
    now_ns += FORGIVEN_AFTER_NS
    assert standing.is_forgiven(now_ns)
    assert standing.leave_out(Reason.PACKETS, now_ns) == FIRST_PAUSE_NS
    assert standing.out_ns(now_ns + S) == sum(pauses) + S


costs = st.dictionaries(
    st.integers().map(str), st.tuples(st.sampled_from("abcde"), st.integers(0, 100).map(float)), max_size=20
)


@given(costs, st.integers(0, 500))
def test_what_stays_is_within_the_bound(costs: dict[str, tuple[str, float]], most: int) -> None:
    gone = greediest(costs, most)
    assert sum(cost for sid, (_, cost) in costs.items() if sid not in gone) <= most
    assert len(set(gone)) == len(gone)


def test_many_tracks_of_one_go_before_the_only_one_of_another() -> None:
    costs = {f"TR_{index}": ("mallory", 10.0) for index in range(50)} | {"TR_ann": ("ann", 90.0)}
    gone = greediest(costs, 200)
    assert len(gone) == 39
    assert "TR_ann" not in gone


def test_decoding_that_costs_much_waits_for_its_turn() -> None:
    """The whole stays within what a thread has, and a modest track never waits, whatever the others do."""
    room = TokenBucket(ROOM_DECODING)
    dear, modest = [DecodeBudget(room) for _ in range(5)], DecodeBudget(room)
    used_s, waited = 0.0, 0
    for slot in range(300):
        now_ns = slot * S // 30
        waited += not modest.allows(now_ns, 6)
        modest.spend(0.002, now_ns)
        modest.decoded(0.002, now_ns)
        used_s += 0.002
        for each in sorted(dear, key=lambda each: each.left(now_ns), reverse=True):
            while each.allows(now_ns, 6):
                each.spend(0.015, now_ns)
                each.decoded(0.015, now_ns // 10)
                used_s += 0.015
    assert waited == 0
    assert all(each.is_greedy() for each in dear) and not modest.is_greedy()
    per_s = ROOM_DECODING.per_s + 5 * ENTITLED.per_s
    assert used_s <= 10 * per_s + ROOM_DECODING.burst + 5 * (ENTITLED.burst + DECODING.burst) + 1
