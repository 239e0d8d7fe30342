"""The way of a room's events into the sidecars."""

import json
from pathlib import Path

import pytest
from livekit.protocol.models import DataPacket, UserPacket

from openegress.core.codecs import Container
from openegress.core.layout_spec import LayoutSpec
from openegress.core.plan import FileOutput, LayoutSource, Plan, TracksSource
from openegress.core.render import Render
from openegress.core.sidecars import Sidecar
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.handler.sidecars import SidecarRecorder
from openegress.output import Opening
from openegress.output.sidecar.conversation import Conversation
from openegress.output.sidecar.log import read
from openegress.room.events import DataArrived, OwnMetadataChanged, ParticipantJoined
from openegress.source import Observed
from openegress.storage.uploader import Uploader
from tests.unit.test_room_recorded_people import person


async def test_an_event_that_nothing_can_be_made_of_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Conversation, arrived: DataArrived) -> None:
        raise ValueError(arrived)

    monkeypatch.setattr(Conversation, "entries", broken)
    storage = StoragePlan(LocalStorage(str(tmp_path / "out")))
    output = FileOutput("m.mkv", Container.MKV, storage)
    plan = Plan("EG_1", TracksSource("r", "", ""), (output,), None, None, sidecars=(Sidecar.EVENTS,))
    sidecars = SidecarRecorder(plan)
    sidecars.open(Opening((), 1, str(tmp_path), {}))
    for _ in range(3):
        sidecars.observe(Observed(DataArrived("ada", DataPacket(user=UserPacket(payload=b"x")), 2), 2))
    sidecars.observe(Observed(ParticipantJoined(person("ada")), 3))
    _, failed = await sidecars.finish(4, Uploader, lambda event: None)
    assert failed is None and sidecars.is_settled
    told = [json.loads(line) for line in (tmp_path / "out/m.events.jsonl").read_text().splitlines()]
    assert [(each["event"], each.get("count")) for each in told] == [
        ("recording_started", None),
        ("participant_joined", None),
        ("events_left_out", 3),
        ("recording_ended", None),
    ]


async def test_what_is_composed_later_knows_who_was_there_without_being_asked_for_events(
    tmp_path: Path,
) -> None:
    storage = StoragePlan(LocalStorage(str(tmp_path / "out")))
    output = FileOutput("m.mp4", Container.MP4, storage)
    plan = Plan("EG_1", LayoutSource("r", "grid", "", ""), (output,), None, None, render=Render.DEFERRED)
    sidecars = SidecarRecorder(plan)
    sidecars.open(Opening((), 1, str(tmp_path), {}))
    sidecars.observe(Observed(ParticipantJoined(person("ada")), 3))
    await sidecars.finish(4, Uploader, lambda event: None)
    assert "participant_joined" in [each.event for each in read(tmp_path)]


async def test_a_layout_of_the_operators_has_its_own_name_from_the_start(tmp_path: Path) -> None:
    storage = StoragePlan(LocalStorage(str(tmp_path / "out")))
    output = FileOutput("m.mp4", Container.MP4, storage)
    room = LayoutSource("r", "stage", "", "", specs=(LayoutSpec("stage", ()),))
    plan = Plan("EG_1", room, (output,), None, None, sidecars=(Sidecar.EVENTS,))
    sidecars = SidecarRecorder(plan)
    sidecars.open(Opening((), 1, str(tmp_path), {}))
    sidecars.observe(Observed(OwnMetadataChanged('{"layout": "speaker"}'), 2))
    sidecars.observe(Observed(OwnMetadataChanged('{"layout": "stage"}'), 3))
    await sidecars.finish(4, Uploader, lambda event: None)
    told = [json.loads(line) for line in (tmp_path / "out/m.events.jsonl").read_text().splitlines()]
    assert [each["layout"] for each in told if "layout" in each] == ["stage", "speaker", "stage"]
