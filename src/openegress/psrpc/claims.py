"""Which of the servers that want a call gets it: a pure decision over the claims so far."""

from collections.abc import Sequence
from dataclasses import dataclass

AFTER_REFUSAL_S = 0.1
"""How long after a refusal a claim may still come: refusals are made late (psrpc.server), claims at once."""


@dataclass(frozen=True, slots=True)
class Claim:
    server_id: str
    affinity: float
    at_s: float
    """Seconds since the request was published."""


@dataclass(frozen=True, slots=True)
class ClaimSelection:
    """How a client chooses; the defaults are psrpc's. Durations in seconds since the request."""

    first_wins: bool = True
    """Without affinity any server will do."""
    maximum: float = 0.0
    """A claim of at least this much is taken at once; 0: none is."""
    short_circuit_s: float = 0.2
    """How long after the first claim better ones are waited for."""
    timeout_s: float = 1.0
    """How long claims are waited for at all."""


@dataclass(frozen=True, slots=True)
class Chosen:
    server_id: str


@dataclass(frozen=True, slots=True)
class Waiting:
    until_s: float
    """When to decide again, unless a claim comes first."""


@dataclass(frozen=True, slots=True)
class Nobody:
    unfit: int
    """How many claimed with an affinity of 0 or less, which is no offer."""


def choose(
    claims: Sequence[Claim], now_s: float, rule: ClaimSelection, refused_at_s: float | None = None
) -> Chosen | Waiting | Nobody:
    """The decision at `now_s`. `refused_at_s`: when the first server said why it cannot, if one did.

    Servers are asked all at once, so those that have not spoken shortly after a refusal will not at all.
    """
    offers = [claim for claim in claims if claim.affinity > 0]
    for claim in offers:
        if rule.first_wins or (rule.maximum > 0 and claim.affinity >= rule.maximum):
            return Chosen(claim.server_id)
    until_s = min([rule.timeout_s, *(claim.at_s + rule.short_circuit_s for claim in offers)])
    if refused_at_s is not None and not offers:
        until_s = min(until_s, refused_at_s + AFTER_REFUSAL_S)
    if now_s < until_s:
        return Waiting(until_s)
    if offers:
        return Chosen(max(offers, key=lambda claim: claim.affinity).server_id)
    return Nobody(len(claims))
