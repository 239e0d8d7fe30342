import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core.info import is_terminal
from openegress.store import Change
from openegress.store.record import judge, rank, stamped

STARTING, ACTIVE, ENDING = (
    EgressStatus.EGRESS_STARTING,
    EgressStatus.EGRESS_ACTIVE,
    EgressStatus.EGRESS_ENDING,
)
COMPLETE, FAILED = EgressStatus.EGRESS_COMPLETE, EgressStatus.EGRESS_FAILED


@pytest.mark.parametrize(
    ("stored", "new", "change"),
    [
        (None, (STARTING, 5), Change.NEW),
        (None, (COMPLETE, 5), Change.NEW),
        ((STARTING, 5), (STARTING, 5), Change.STALE),
        ((STARTING, 5), (STARTING, 6), Change.UPDATED),
        ((STARTING, 5), (ACTIVE, 6), Change.UPDATED),
        ((STARTING, 5), (ACTIVE, 5), Change.UPDATED),
        ((ACTIVE, 5), (ACTIVE, 4), Change.STALE),
        ((ACTIVE, 5), (STARTING, 9), Change.STALE),
        ((ENDING, 5), (ACTIVE, 9), Change.STALE),
        ((ACTIVE, 5), (COMPLETE, 6), Change.ENDED),
        ((ENDING, 5), (FAILED, 6), Change.ENDED),
        ((ACTIVE, 5), (COMPLETE, 4), Change.ENDED),
        ((STARTING, 5), (ACTIVE, 4), Change.UPDATED),
        ((COMPLETE, 5), (COMPLETE, 5), Change.STALE),
        ((COMPLETE, 5), (ACTIVE, 9), Change.STALE),
        ((FAILED, 5), (COMPLETE, 6), Change.REVISED),
        ((ACTIVE, 0), (ACTIVE, 0), Change.STALE),
        ((COMPLETE, 5), (STARTING, 0), Change.STALE),
    ],
)
def test_judgement(
    stored: tuple[EgressStatus, int] | None, new: tuple[EgressStatus, int], change: Change
) -> None:
    def info(of: tuple[EgressStatus, int]) -> EgressInfo:
        return EgressInfo(egress_id="EG_1", status=of[0], updated_at=of[1])

    assert judge(stored and info(stored), info(new)) is change


def test_an_update_without_a_stamp_counts_once() -> None:
    stored = EgressInfo(status=ACTIVE, updated_at=5)
    new = EgressInfo(status=ACTIVE, details="new")
    assert judge(stored, new) is Change.UPDATED
    assert judge(stamped(stored, new), new) is Change.STALE


def test_the_stamp_of_a_record_rises_whatever_clocks_say() -> None:
    stored = EgressInfo(status=ACTIVE, updated_at=5)
    assert stamped(None, EgressInfo(updated_at=3)).updated_at == 3
    assert stamped(stored, EgressInfo(updated_at=9)).updated_at == 9
    late = EgressInfo(status=COMPLETE, updated_at=4)
    assert stamped(stored, late) == EgressInfo(status=COMPLETE, updated_at=6)
    assert late.updated_at == 4
    assert judge(stamped(stored, late), late) is Change.STALE


@given(st.lists(st.tuples(st.sampled_from(EgressStatus.values()), st.integers(1, 20)), max_size=12))
def test_a_record_never_goes_back_and_ends_once(updates: list[tuple[EgressStatus, int]]) -> None:
    stored: EgressInfo | None = None
    ended = 0
    for status, updated_at in updates:
        new = EgressInfo(status=status, updated_at=updated_at)
        change = judge(stored, new)
        if change is Change.STALE:
            continue
        ended += change is Change.ENDED or (change is Change.NEW and is_terminal(new))
        kept = stamped(stored, new)
        if stored is not None:
            assert rank(kept) >= rank(stored)
            assert kept.updated_at > stored.updated_at
        stored = kept
    assert ended == (stored is not None and is_terminal(stored))
