"""Where a recording in parts writes."""

from openegress.core.codecs import Container
from openegress.core.plan import FileOutput, Plan, Split, TracksSource
from openegress.core.sidecars import Sidecar
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.request import places

STORAGE = StoragePlan(LocalStorage("/out"))


def test_the_number_of_a_part_is_no_name_that_only_the_room_can_tell() -> None:
    output = FileOutput("a/{part}.mp4", Container.MP4, STORAGE, split=Split(every_s=60.0))
    plan = Plan("EG_1", TracksSource("r", "", ""), (output,), None, None, sidecars=(Sidecar.EVENTS,))
    assert not places.has_open_names(plan)
    assert places.places_of(plan, "m") == {"local|m|/out/a/\x01.mp4", "local|m|/out/a/\x01.events.jsonl"}
