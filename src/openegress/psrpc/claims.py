"""Chooses the server that gets a call, from the claims so far. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

AFTER_REFUSAL_S = 0.1
"""Time after a refusal in which a claim may still arrive. Servers claim at once and refuse late
(psrpc.server)."""


@dataclass(frozen=True, slots=True)
class Claim:
    server_id: str
    affinity: float
    at_s: float
    """Time in seconds since the request was published."""


@dataclass(frozen=True, slots=True)
class ClaimSelection:
    """How a client chooses a server; the defaults are psrpc's. Durations are in seconds since the request."""

    first_wins: bool = True
    """Whether the first claim wins, whatever its affinity."""
    maximum: float = 0.0
    """The affinity at which a claim wins at once; 0: the client always waits for better ones."""
    short_circuit_s: float = 0.2
    """How long the client waits for better claims after the first one."""
    timeout_s: float = 1.0
    """How long the client waits for claims."""


@dataclass(frozen=True, slots=True)
class Chosen:
    server_id: str


@dataclass(frozen=True, slots=True)
class Waiting:
    until_s: float
    """The time at which to decide again, unless a claim comes first."""


@dataclass(frozen=True, slots=True)
class Nobody:
    unfit: int
    """The number of servers that claimed with an affinity of 0 or less, which is not an offer."""


def choose(
    claims: Sequence[Claim], now_s: float, rule: ClaimSelection, refused_at_s: float | None = None
) -> Chosen | Waiting | Nobody:
    """Decides at `now_s`. `refused_at_s` is the time at which the first refusal arrived, if any. All times
    are seconds since the request.

    All servers get a request at the same time, so those that have not claimed it shortly after a refusal will
    not do so later.
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
