"""Decides how an EgressInfo changes the record of its egress. Pure."""

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
    """Decodes a record that was stored under an id; None if it is damaged, or has another id."""
    name = egress_id.decode(errors="replace") if isinstance(egress_id, bytes) else egress_id
    try:
        info = EgressInfo.FromString(data)
    except (DecodeError, TypeError):
        return None
    return info if info.egress_id == name and is_egress_id(name) else None


def rank(info: EgressInfo) -> int:
    """The order of a record's status; it never decreases."""
    return _RANK.get(info.status, _TERMINAL_RANK)


def judge(stored: EgressInfo | None, new: EgressInfo) -> Change:
    """The effect of `new` on the stored record. Updates may come twice or late: over a bus that was
    unreachable, or from a worker that counted as dead.

    Times come from the clocks of many machines, so they order only updates of one rank. An end always counts,
    even if the stored record has a later time. An update without updated_at counts as newer unless nothing
    else differs.
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
    """`new` in the form to be stored, with a later updated_at than the stored record."""
    if stored is None or new.updated_at > stored.updated_at:
        return new
    kept = EgressInfo()
    kept.CopyFrom(new)
    kept.updated_at = stored.updated_at + 1
    return kept
