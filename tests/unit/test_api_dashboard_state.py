"""The dashboard's table: what it shows of records that come late or twice."""

from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.api.dashboard_state import DashboardState

ACTIVE, COMPLETE = EgressStatus.EGRESS_ACTIVE, EgressStatus.EGRESS_COMPLETE


def test_an_end_is_shown_though_its_clock_is_behind() -> None:
    board = DashboardState()
    for status, updated_at in ((ACTIVE, 5), (COMPLETE, 4), (ACTIVE, 9)):
        board.update(EgressInfo(egress_id="EG_1", status=status, updated_at=updated_at))
    (shown,) = board.snapshot()["egresses"]
    assert shown["info"]["status"] == "EGRESS_COMPLETE"
