import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.psrpc.claims import Chosen, Claim, ClaimSelection, Nobody, Waiting, choose
from openegress.psrpc.services import EgressHandler, EgressInternal

START = EgressInternal.START_EGRESS.selection
FIRST = EgressHandler.STOP_EGRESS.selection


@pytest.mark.parametrize(
    ("rule", "claims", "now_s", "refused_at_s", "decision"),
    [
        (START, [], 0.0, None, Waiting(1.0)),
        (START, [], 1.0, None, Nobody(0)),
        (START, [("idle", 1.0, 0.01)], 0.01, None, Chosen("idle")),
        (START, [("busy", 0.5, 0.1)], 0.1, None, Waiting(0.6)),
        (START, [("busy", 0.5, 0.1), ("idle", 1.0, 0.2)], 0.2, None, Chosen("idle")),
        (START, [("a", 0.5, 0.1), ("b", 0.7, 0.2), ("c", 0.6, 0.3)], 0.6, None, Chosen("b")),
        (START, [("a", 0.5, 0.1), ("b", 0.5, 0.2)], 0.6, None, Chosen("a")),
        (START, [("late", 0.5, 0.9)], 1.0, None, Chosen("late")),
        (START, [("none", 0.0, 0.1)], 0.7, None, Waiting(1.0)),
        (START, [("none", 0.0, 0.1)], 1.0, None, Nobody(1)),
        (START, [], 0.5, 0.5, Waiting(0.6)),
        (START, [("busy", 0.5, 0.4)], 0.5, 0.5, Waiting(0.9)),
        (FIRST, [("a", 0.1, 0.0), ("b", 1.0, 0.0)], 0.0, None, Chosen("a")),
        (FIRST, [], 0.0, 0.5, Waiting(0.6)),
        (FIRST, [], 0.7, 0.5, Nobody(0)),
    ],
)
def test_choice(
    rule: ClaimSelection,
    claims: list[tuple[str, float, float]],
    now_s: float,
    refused_at_s: float | None,
    decision: object,
) -> None:
    assert choose([Claim(*claim) for claim in claims], now_s, rule, refused_at_s) == decision


claim_lists = st.lists(
    st.builds(Claim, st.sampled_from("abcdef"), st.floats(0, 1), st.floats(0, 2)), max_size=6
)


@given(claim_lists, st.floats(0, 3), st.none() | st.floats(0, 2))
def test_a_decision_comes_and_is_the_best_offer(
    claims: list[Claim], now_s: float, refused_at_s: float | None
) -> None:
    decision = choose(claims, now_s, START, refused_at_s)
    offers = [claim for claim in claims if claim.affinity > 0]
    match decision:
        case Waiting(until_s):
            assert now_s < until_s <= START.timeout_s
        case Chosen(server_id):
            best = max(claim.affinity for claim in offers)
            assert best == max(c.affinity for c in offers if c.server_id == server_id)
        case Nobody(unfit):
            assert not offers
            assert unfit == len(claims)
