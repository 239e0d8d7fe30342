"""What a change of layout does to a record."""

from livekit.protocol.egress import EgressInfo, EgressStatus, RoomCompositeEgressRequest

from openegress.api import layouts
from openegress.store import Change
from openegress.store.record import judge


def test_a_layout_does_not_make_the_workers_next_update_look_old() -> None:
    stored = EgressInfo(status=EgressStatus.EGRESS_ACTIVE, updated_at=5)
    stored.room_composite.CopyFrom(RoomCompositeEgressRequest(layout="grid"))
    changed = layouts.with_layout(stored, "speaker")
    assert (changed.room_composite.layout, changed.updated_at) == ("speaker", 6)
    assert judge(stored, changed) is Change.UPDATED
    # On the worker's clock, which may be far behind ours.
    assert judge(changed, EgressInfo(status=EgressStatus.EGRESS_ACTIVE, updated_at=100)) is Change.UPDATED
