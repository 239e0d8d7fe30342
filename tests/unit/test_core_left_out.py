"""What was left out is told, in words and in the manifest."""

import json

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core import info
from openegress.core.events import Ended, EndReason
from openegress.core.left_out import LeftOut, QuickerEncoding, TrackLosses, summary
from openegress.output.manifest import Header, build

ADA = TrackLosses("TR_a", "ada", lost_packets=3, unusable_pictures=1)
BOB = TrackLosses("TR_b", "bob", lost_packets=1)
EVE = TrackLosses("TR_e", "eve", left_out_ms=15_200, left_out_why="it sends too much")
WHOLE = TrackLosses("TR_c", "cleo")
QUICKER = (QuickerEncoding("superfast", 41_700), QuickerEncoding("ultrafast", 8_000))


@pytest.mark.parametrize(
    ("left_out", "told"),
    [
        (LeftOut(), ""),
        (LeftOut((WHOLE,)), ""),
        (LeftOut((BOB, WHOLE)), "left out: 1 lost packet of TR_b (bob)"),
        (LeftOut((EVE,)), "left out: 15 s of TR_e (eve: it sends too much)"),
        (
            LeftOut((BOB,) * 22),
            f"left out: {', '.join(['1 lost packet of TR_b (bob)'] * 20)}, and of 2 more tracks",
        ),
        (
            LeftOut((ADA,), 20),
            "left out: 3 lost packets and 1 unusable picture of TR_a (ada), 20 pictures for want of time to"
            " encode them",
        ),
        (
            LeftOut(quicker=QUICKER),
            "encoded quicker for want of time: 42 s with superfast, 8 s with ultrafast",
        ),
        (
            LeftOut((BOB,), quicker=QUICKER[1:]),
            "left out: 1 lost packet of TR_b (bob); encoded quicker for want of time: 8 s with ultrafast",
        ),
    ],
)
def test_in_words(left_out: LeftOut, told: str) -> None:
    assert summary(left_out) == told


def test_the_record_says_it_behind_the_reason() -> None:
    active = EgressInfo(status=EgressStatus.EGRESS_ACTIVE)
    ended = info.apply(active, Ended(1, EndReason.API, left_out=LeftOut((BOB,))), 1)
    assert ended.details == f"End reason: {EndReason.API}; left out: 1 lost packet of TR_b (bob)"
    assert info.apply(active, Ended(1, EndReason.API), 1).details == f"End reason: {EndReason.API}"


def test_the_manifest_counts_it() -> None:
    told = json.loads(build(Header("EG_1", left_out=LeftOut((ADA, WHOLE), 2)), []))["left_out"]
    assert told == {
        "tracks": [
            {
                "track": "TR_a",
                "identity": "ada",
                "lost_packets": 3,
                "unusable_pictures": 1,
                "left_out_ms": 0,
                "left_out_why": "",
            }
        ],
        "pictures": 2,
    }
    assert "left_out" not in json.loads(build(Header("EG_1"), []))
    quicker = json.loads(build(Header("EG_1", left_out=LeftOut(quicker=QUICKER)), []))["left_out"]
    assert quicker["quicker"] == [
        {"speed": "superfast", "ms": 41_700},
        {"speed": "ultrafast", "ms": 8_000},
    ]
