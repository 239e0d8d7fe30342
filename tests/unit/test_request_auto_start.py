"""What rules ask for."""

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from livekit.protocol.models import ParticipantInfo, Room, TrackInfo, TrackType

from openegress.core.errors import EgressError
from openegress.core.ids import check_egress_id
from openegress.proto.today import today
from openegress.request import auto_start
from openegress.request.auto_start import AutoStart, rule_of

ROOM = Room(sid="RM_1", name="class-7")
ANN = ParticipantInfo(sid="PA_1", identity="ann")
VOICE = TrackInfo(sid="TR_1", type=TrackType.AUDIO)
WHOLE = {
    "room": {"layout": "speaker", "audio_only": "true", "file_outputs": [{"filepath": "{room_name}.ogg"}]},
    "participant": {
        "preset": "H264_1080P_30",
        "segmentOutputs": [{"filenamePrefix": "{publisher_identity}"}],
    },
    "tracks": {
        "filepath": "{track_id}",
        "disable_manifest": "true",
        "s3": {"bucket": "b", "force_path_style": "true"},
    },
}


def asked(start: AutoStart) -> dict[str, Any]:
    whole = MessageToDict(start.request(), preserving_proto_field_name=True)
    del whole["egress_id"]
    return whole


def test_a_room_that_is_opened() -> None:
    (start,) = auto_start.of_room([rule_of(["class-*"], WHOLE)], ROOM)
    assert asked(start) == {
        "room_composite": {
            "room_name": "class-7",
            "layout": "speaker",
            "audio_only": True,
            "file_outputs": [{"filepath": "{room_name}.ogg"}],
        }
    }


def test_a_track_that_is_published() -> None:
    person, track = auto_start.of_track([rule_of(["class-*"], WHOLE)], ROOM, ANN, VOICE)
    assert asked(person) == {
        "participant": {
            "room_name": "class-7",
            "identity": "ann",
            "preset": "H264_1080P_30",
            "segment_outputs": [{"filename_prefix": "{publisher_identity}"}],
        }
    }
    file = {
        "filepath": "{track_id}",
        "disable_manifest": True,
        "s3": {"bucket": "b", "force_path_style": True},
    }
    assert asked(track) == {"track": {"room_name": "class-7", "track_id": "TR_1", "file": file}}


@pytest.mark.parametrize(
    ("pattern", "room", "count"),
    [("*", "any", 1), ("class-*", "Class-7", 0), ("class-?", "class-7", 1), ("class-[0-5]", "class-7", 0)],
)
def test_rooms_are_chosen_by_their_names(pattern: str, room: str, count: int) -> None:
    rules = [rule_of([pattern], {"room": {}})]
    assert len(list(auto_start.of_room(rules, Room(sid="RM", name=room)))) == count
    assert not auto_start.follows_people(rules, ROOM)


def test_what_carries_data_is_not_recorded() -> None:
    data = TrackInfo(sid="TR_2", type=TrackType.DATA)
    assert list(auto_start.of_track([rule_of(["*"], WHOLE)], ROOM, ANN, data)) == []


def test_ids_are_the_same_everywhere_and_differ_by_what_is_recorded() -> None:
    rules = [rule_of(["class-*"], WHOLE), rule_of(["*"], WHOLE)]
    other = ParticipantInfo(sid="PA_2", identity="ann")  # ann, who has joined again
    starts = [
        *auto_start.of_room(rules, ROOM),
        *auto_start.of_track(rules, ROOM, ANN, VOICE),
        *auto_start.of_track(rules, ROOM, other, TrackInfo(sid="TR_3", type=TrackType.VIDEO)),
    ]
    ids = [start.request(number).egress_id for start in starts for number in (0, 1)]
    assert len(set(ids)) == 2 * len(starts) == 20
    assert [check_egress_id(each) for each in ids] == ids
    (again, _) = auto_start.of_room([rule_of(["class-*"], WHOLE), rules[1]], ROOM)
    assert again.request().egress_id == ids[0]


@pytest.mark.parametrize(
    ("rooms", "egress", "why"),
    [
        ([], {"room": {}}, "rooms: missing"),
        (["*"], {}, "starts nothing"),
        (["*"], {"romm": {}}, 'no field named "romm"'),
        (["*"], {"room": {"file_outputs": [{"path": "x"}]}}, 'no field named "path"'),
        (["*"], {"room": {"audio_only": "perhaps"}}, "audio_only"),
        (["*"], {"tracks": "all"}, "tracks"),
        (["*"], {"tracks": None}, "starts nothing"),
        (["*"], {"room": {"preset": "99"}}, r"preset \(99 is not known here"),
        (["*"], {"room": {"file_outputs": [{"file_type": 77}]}}, r"file_type \(77 is not known here"),
        (["*"], {"participant": {"file_outputs": [{"file_type": "mp4"}]}}, "participant: .*mp4"),
        (["*"], {"room": {"file": {}, "stream": {}}}, "room: .*multiple"),
        (["*"], {"room": {"room_name": "other"}}, "room_name has no effect"),
    ],
)
def test_rules_that_say_nothing(rooms: list[str], egress: dict[str, Any], why: str) -> None:
    with pytest.raises(EgressError, match=why) as refused:
        rule_of(rooms, egress)
    assert "\n" not in refused.value.message


def test_what_is_of_todays_protocol() -> None:
    """Newer than the wheel: as a request may name it, a rule may."""
    outputs = [{"filepath": "x", "file_type": "MCAP"}]
    egress = {"room": {"layout": "tracks", "file_outputs": outputs}, "participant": {"file_outputs": outputs}}
    rules = [rule_of(["*"], egress)]
    (room,) = auto_start.of_room(rules, ROOM)
    (person,) = auto_start.of_track(rules, ROOM, ANN, VOICE)
    for body in (room.body, person.body):
        (output,) = MessageToDict(today(body), preserving_proto_field_name=True)["file_outputs"]
        assert output == outputs[0]
