"""What the README tells its readers to send is taken."""

import json
import re
from datetime import UTC
from pathlib import Path

import pytest
from google.protobuf import json_format

from openegress.core.context import Context
from openegress.core.plan import LocalStorage, StoragePlan
from openegress.core.validate import plan_of
from openegress.proto.egress_rpc_pb2 import StartEgressRequest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BODIES = {
    "StartRoomCompositeEgress": "room_composite",
    "... audio only": "room_composite",
    "StartWebEgress": "web",
    "StartParticipantEgress": "participant",
    "StartTrackCompositeEgress": "track_composite",
    "StartTrackEgress": "track",
}
SMALLEST = re.findall(r"^\| `?([^`|]+?)`? \| `(\{.*?\})` \|", README, re.MULTILINE)
CONTEXT = Context(
    now_ns=1,
    storage=StoragePlan(LocalStorage("/out")),
    ws_url="ws://localhost",
    template_base="",
    make_token=lambda egress_id, room_name: "token",
    zone=UTC,
)


def test_outputs_may_be_combined_as_shown() -> None:
    (shown,) = re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    request = StartEgressRequest(egress_id="EG_1")
    json_format.ParseDict(json.loads(shown), request.room_composite)
    assert len(plan_of(request, CONTEXT).outputs) == len(
        [name for name in json.loads(shown) if name.endswith("_outputs")]
    )


@pytest.mark.parametrize(("method", "shown"), [row for row in SMALLEST if row[0] in BODIES])
def test_the_smallest_requests_are_enough(method: str, shown: str) -> None:
    request = StartEgressRequest(egress_id="EG_1")
    json_format.ParseDict(json.loads(shown), getattr(request, BODIES[method]))
    assert plan_of(request, CONTEXT).outputs


def test_all_methods_are_shown() -> None:
    assert {method for method, _ in SMALLEST} >= set(BODIES)
