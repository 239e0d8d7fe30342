"""The dashboard's table: what it shows of records that come late or twice."""

from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.api.dashboard_state import DashboardState
from openegress.core.events import ExtraFileStored, MarkerAdded, Rejoined

ACTIVE, COMPLETE = EgressStatus.EGRESS_ACTIVE, EgressStatus.EGRESS_COMPLETE


def test_an_end_is_shown_though_its_clock_is_behind() -> None:
    board = DashboardState()
    for status, updated_at in ((ACTIVE, 5), (COMPLETE, 4), (ACTIVE, 9)):
        board.update(EgressInfo(egress_id="EG_1", status=status, updated_at=updated_at))
    (shown,) = board.snapshot()["egresses"]
    assert shown["info"]["status"] == "EGRESS_COMPLETE"


async def test_who_watches_hears_that_the_room_was_joined_again() -> None:
    board = DashboardState()
    board.update(EgressInfo(egress_id="EG_1", status=ACTIVE, updated_at=5))
    before = board.entries()["EG_1"]
    board.happened("EG_1", Rejoined(7_000_000, 1.25))
    board.happened("EG_2", Rejoined(7_000_000, 1.25))  # of which nothing is shown
    told = board.entries()["EG_1"].to_dict(since=before)
    assert told["moments"] == [{"at_ms": 7, "text": "Joined the room again after 1.2 s", "mood": "busy"}]
    assert "info" not in told


async def test_markers_lie_where_their_moment_was() -> None:
    board = DashboardState()
    board.update(EgressInfo(egress_id="EG_1", status=ACTIVE, started_at=1_000_000, updated_at=5))
    board.happened("EG_1", ExtraFileStored(9_000_000, "a.events.jsonl"))
    board.happened("EG_1", MarkerAdded(8_000_000, "Budget", 3_725_900_000_000))
    board.happened("EG_1", MarkerAdded(2_000_000, "Hello", 59_999_999_999))
    moments = board.entries()["EG_1"].to_dict()["moments"]
    assert [(each["at_ms"], each["text"]) for each in moments] == [
        (1, "Requested"),
        (2, "Marker at 00:59: Hello"),
        (8, "Marker at 1:02:05: Budget"),
        (9, "Stored a.events.jsonl"),
    ]
