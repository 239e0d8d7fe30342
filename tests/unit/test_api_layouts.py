"""What a change of layout does to a record."""

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus, RoomCompositeEgressRequest

from openegress.api import layouts
from openegress.core.errors import EgressError
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


def test_a_template_of_the_servers_own_knows_its_layouts() -> None:
    info = EgressInfo(room_composite=RoomCompositeEgressRequest(layout="mine"))
    layouts.check(info, "mine-2", own_template=True)
    with pytest.raises(EgressError, match="layout 'mine-2' is unknown"):
        layouts.check(info, "mine-2", own_template=False)
    sound = EgressInfo(room_composite=RoomCompositeEgressRequest(audio_only=True))
    with pytest.raises(EgressError, match="has no layout"):
        layouts.check(sound, "grid", own_template=True)
