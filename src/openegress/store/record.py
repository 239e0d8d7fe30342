"""What an EgressInfo does to the record of its egress: a pure decision."""

from google.protobuf.message import DecodeError
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core.ids import is_egress_id
from openegress.core.info import is_terminal
from openegress.store import Change

_RANK = {
    EgressStatus.EGRESS_STARTING: 0,
    EgressStatus.EGRESS_ACTIVE: 1,
    EgressStatus.EGRESS_ENDING: 2,
}
_TERMINAL_RANK = 3


def read(egress_id: str | bytes, data: bytes) -> EgressInfo | None:
    """A record as it was stored under an id; None for one that is damaged, or another's."""
    name = egress_id.decode(errors="replace") if isinstance(egress_id, bytes) else egress_id
    try:
        info = EgressInfo.FromString(data)
    except (DecodeError, TypeError):
        return None
    return info if info.egress_id == name and is_egress_id(name) else None


def rank(info: EgressInfo) -> int:
    """How far an egress has come; it never goes back."""
    return _RANK.get(info.status, _TERMINAL_RANK)


def judge(stored: EgressInfo | None, new: EgressInfo) -> Change:
    """Updates may come twice or late: over a bus that was away, or from a worker taken for dead.

    Stamps are of the clocks of many machines, so they only order updates of one rank: an end counts, however
    late the record before it claims to be. An update without updated_at counts as newer unless it says
    nothing new.
    """
    if stored is None:
        return Change.NEW
    if rank(new) < rank(stored):
        return Change.STALE
    if rank(new) > rank(stored):
        return Change.ENDED if is_terminal(new) else Change.UPDATED
    if new.updated_at:
        stale = new.updated_at <= stored.updated_at
    else:
        stale = stamped(stored, new) == stamped(stored, stored)
    if stale:
        return Change.STALE
    return Change.REVISED if is_terminal(stored) else Change.UPDATED


def stamped(stored: EgressInfo | None, new: EgressInfo) -> EgressInfo:
    """`new` as it is to be stored: its updated_at rises, whichever clock it was taken from."""
    if stored is None or new.updated_at > stored.updated_at:
        return new
    kept = EgressInfo()
    kept.CopyFrom(new)
    kept.updated_at = stored.updated_at + 1
    return kept
