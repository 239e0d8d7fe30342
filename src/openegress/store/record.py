"""What an EgressInfo does to the record of its egress: a pure decision."""

from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.store import Change

_RANK = {
    EgressStatus.EGRESS_STARTING: 0,
    EgressStatus.EGRESS_ACTIVE: 1,
    EgressStatus.EGRESS_ENDING: 2,
}
_TERMINAL_RANK = 3


def rank(info: EgressInfo) -> int:
    """How far an egress has come; it never goes back."""
    return _RANK.get(info.status, _TERMINAL_RANK)


def is_terminal(info: EgressInfo) -> bool:
    return rank(info) == _TERMINAL_RANK


def judge(stored: EgressInfo | None, new: EgressInfo) -> Change:
    """Updates may come twice or late: over a bus that was away, or from a worker taken for dead.

    An update without updated_at counts as newer unless it says nothing new.
    """
    if stored is None:
        return Change.NEW
    if rank(new) < rank(stored) or (new.updated_at and new.updated_at < stored.updated_at):
        return Change.STALE
    if rank(new) > rank(stored):
        return Change.ENDED if is_terminal(new) else Change.UPDATED
    if new.updated_at == stored.updated_at or new == stored:
        return Change.STALE
    return Change.REVISED if is_terminal(stored) else Change.UPDATED
