"""Nothing of a request is dropped in silence: what nobody knows is refused or told, and what is known has an
effect."""

import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from livekit.protocol import egress as wire

from openegress.api import wire_json
from openegress.core import info
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.core.events import Ending, EndReason
from openegress.core.passthrough import Passthrough
from openegress.core.plan import AudioRoute, FileOutput, MediaSource, Plan, TracksSource
from openegress.core.routes import DataRoute, VideoRoute
from openegress.core.sidecars import Sidecar
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.proto import today
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.proto.openegress_control_pb2 import AddMarkerRequest, SetOptionsRequest
from openegress.request.context import Context
from openegress.request.initial_info import initial
from openegress.request.unknown import UnknownFields, in_message
from openegress.request.validate import RequestKind, plan_of, request_kind

BODIES = {
    "egress": wire.StartEgressRequest,
    "room_composite": wire.RoomCompositeEgressRequest,
    "web": wire.WebEgressRequest,
    "participant": wire.ParticipantEgressRequest,
    "track_composite": wire.TrackCompositeEgressRequest,
    "track": wire.TrackEgressRequest,
}
CALLS = {
    "update_layout": wire.UpdateLayoutRequest,
    "update_stream": wire.UpdateStreamRequest,
    "list": wire.ListEgressRequest,
    "stop": wire.StopEgressRequest,
    "set_options": SetOptionsRequest,
    "add_marker": AddMarkerRequest,
}
"""What test_api_call_fields.py does with what is read here."""
READ = BODIES | CALLS
FILE = {"file_outputs": [{"filepath": "x"}]}


def planned(body: str, message: Message, manner: UnknownFields = UnknownFields.WARN) -> Plan:
    request = StartEgressRequest(egress_id="EG_1", token="t", ws_url="ws://h")
    getattr(request, body).CopyFrom(message)
    context = Context(1, StoragePlan(LocalStorage("/out")), unknown_fields=manner)
    return plan_of(request, context)


def full_name(kind: Any) -> str:
    """Of a message class."""
    return str(kind.DESCRIPTOR.full_name)


def read(body: str, fields: dict[str, Any], *, binary: bool = False) -> Any:
    """As the API takes it; `binary`: as a client sends it that knows today's protocol."""
    kind = BODIES[body]
    if not binary:
        return wire_json.parse(json.dumps(fields).encode(), kind)
    newest = today.kind_of(full_name(kind))()
    json_format.ParseDict(fields, newest)
    return wire_json.parse_binary(newest.SerializeToString(), kind)


# --- fields and values that nobody knows


@pytest.mark.parametrize(
    ("body", "fields", "named"),
    [
        (
            "egress",
            {"room_name": "r", "media": {"audio": {"routes": [{"omit": True}]}}},
            "media.audio.routes.omit",
        ),
        (
            "egress",
            {"room_name": "r", "media": {"audio": {"capture_all": True, "routes": [{}, {"omit": True}]}}},
            r"media.audio.routes\[1\].omit",
        ),
        ("egress", {"room_name": "r", "media": {"screen": {}}}, "media.screen"),
        ("egress", {"outputs": [{"parquet": {}}]}, "outputs.parquet"),
        ("egress", {"outputs": [{"file": {"file_type": "MKV"}}]}, "outputs.file.file_type .'MKV'"),
        ("egress", {"outputs": [{"stream": {"protocol": "WHIP"}}]}, "outputs.stream.protocol .'WHIP'"),
        (
            "room_composite",
            {"room_name": "r", "file_outputs": [{"s3": {"force_path_styl": True}}]},
            "force_path_styl",
        ),
        ("room_composite", {"room_name": "r", "preset": "H265_8K", **FILE}, "preset"),
        ("track_composite", {"room_name": "r", "audio_trackid": "TR_1", **FILE}, "audio_trackid"),
        ("participant", {"room_name": "r", "identities": ["a"], **FILE}, "identities"),
        ("track", {"room_name": "r", "track_id": "TR_1", "file": {"path": "x"}}, "file.path"),
    ],
)
def test_what_decides_is_refused(body: str, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(EgressError, match=f"request has missing or invalid field: .*{named}") as refused:
        read(body, fields)
    assert refused.value.code is Code.INVALID_ARGUMENT


def with_unknown(message: Any) -> Any:
    """The same message from a client that knows a field more, number 1000."""
    message.MergeFromString(bytes([0xC0, 0x3E, 1]))
    return message


@pytest.mark.parametrize(
    ("body", "message", "named"),
    [
        ("egress", wire.StartEgressRequest(outputs=[with_unknown(wire.Output())]), "outputs.field 1000"),
        ("participant", with_unknown(wire.ParticipantEgressRequest()), "field 1000"),
    ],
)
def test_what_decides_is_refused_in_binary_too(body: str, message: Message, named: str) -> None:
    with pytest.raises(EgressError, match=named):
        wire_json.parse_binary(message.SerializeToString(), BODIES[body])
    with pytest.raises(EgressError, match=named):
        planned(body, message)


def test_enum_numbers_that_nobody_knows_are_refused() -> None:
    for fields in ({"file_type": 77}, {"file_type": "77"}):
        message = read("web", {"url": "http://e", "file_outputs": [{"filepath": "x", **fields}]})
        with pytest.raises(EgressError, match="field: file_type"):
            planned("web", message)
    kinds = {"participant_kind": 99}
    media = read(
        "egress", {"room_name": "r", "media": {"audio": {"routes": [kinds]}}, "outputs": [{"file": {}}]}
    )
    with pytest.raises(EgressError, match="participant_kind"):
        planned("egress", media)


BY_JSON = {"url": "http://e", **FILE, "colour": "blue", "advanced": {"tune": "film"}}


def test_what_decides_nothing_is_told() -> None:
    plan = planned("web", read("web", BY_JSON))
    assert plan.notices == ("ignored, as not known here: colour, advanced.tune",)
    binary = with_unknown(read("web", {"url": "http://e", **FILE}))
    assert planned("web", binary).notices == ("ignored, as not known here: field 1000",)
    assert planned("web", read("web", BY_JSON), UnknownFields.IGNORE).notices == ()
    with pytest.raises(EgressError, match=r"field: colour \(not known here\)"):
        planned("web", read("web", BY_JSON), UnknownFields.REFUSE)


def test_it_stands_in_the_details_until_the_end_and_behind_the_reason() -> None:
    request = StartEgressRequest(egress_id="EG_1")
    request.web.CopyFrom(read("web", BY_JSON))
    plan = plan_of(request, Context(1, StoragePlan(LocalStorage("/out"))))
    begun = initial(request, plan, 1)
    assert begun.details == "ignored, as not known here: colour, advanced.tune"
    ended = info.apply(begun, Ending(EndReason.API), 2)
    assert ended.details == "End reason: StopEgress API; ignored, as not known here: colour, advanced.tune"
    # Nothing of it is in what clients get back.
    assert begun.web == today.known(begun.web)


def test_names_that_somebody_made_up_are_bounded_and_on_one_line() -> None:
    many = {"url": "http://e", **FILE, "a\nb" * 100: 1} | {f"f{n}": 1 for n in range(100)}
    (notice,) = planned("web", read("web", many)).notices
    assert "\n" not in notice and len(notice) < 300


# --- protocol v1.54.0


ROUTES = {
    "routes": [
        {"participant_identity": "bob", "exclude": True},
        {"track_name": "music", "channel": "AUDIO_CHANNEL_LEFT"},
        {"participant_identity": "eve", "track_name": "mic"},
    ],
    "capture_all": True,
}


@pytest.mark.parametrize("binary", [False, True])
def test_audio_routes_of_today(binary: bool) -> None:
    fields = {"room_name": "r", "media": {"audio": ROUTES}, "outputs": [{"file": {"filepath": "x"}}]}
    message = read("egress", fields, binary=binary)
    plan = planned("egress", message)
    assert isinstance(plan.source, MediaSource)
    assert plan.source.audio == (
        AudioRoute("participant", "bob", exclude=True),
        AudioRoute("any", "", "left", track_name="music"),
        AudioRoute("participant", "eve", track_name="mic"),
        AudioRoute("all"),
    )
    assert plan.notices == ()
    echoed = wire_json.to_dict(message)["media"]["audio"]
    assert echoed["routes"][0]["exclude"] is True
    assert echoed["routes"][1]["track_name"] == "music"


@pytest.mark.parametrize("binary", [False, True])
def test_the_channel_of_what_is_excluded_is_told(binary: bool) -> None:
    without = {"participant_identity": "bob", "exclude": True}
    for excluded, told in ((without | {"channel": "AUDIO_CHANNEL_LEFT"}, True), (without, False)):
        routes = [{"participant_identity": "ann", "channel": "AUDIO_CHANNEL_RIGHT"}, excluded]
        fields = {"room_name": "r", "media": {"audio": {"routes": routes}}, "outputs": [{"file": {}}]}
        plan = planned("egress", read("egress", fields, binary=binary))
        assert isinstance(plan.source, MediaSource)
        assert plan.source.audio == (
            AudioRoute("participant", "ann", "right"),
            AudioRoute("participant", "bob", exclude=True),
        )
        text = "the channel of an audio route with exclude has no effect: its tracks are not recorded"
        assert plan.notices == ((text,) if told else ())


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"media": {"videos": {}}}, Code.INVALID_ARGUMENT, "videos .nothing is selected"),
        (
            {"media": {"videos": {"selectors": [{"track_id": "TR_1", "exclude": True}]}}},
            Code.INVALID_ARGUMENT,
            "videos .nothing is selected",
        ),
        ({"media": {"videos": {"selectors": [{}]}}}, Code.INVALID_ARGUMENT, "videos selector match"),
        (
            {"media": {"videos": {"capture_all": True}}, "preset": "PASSTHROUGH"},
            Code.INVALID_ARGUMENT,
            "passthrough videos",
        ),
        (
            {"media": {"videos": {"capture_all": True}}, "outputs": [{"segments": {"filename_prefix": "a"}}]},
            Code.INVALID_ARGUMENT,
            "media of several tracks records to one file and takes no segments",
        ),
        (
            {
                "media": {"audio": {"capture_all": True}},
                "outputs": [{"file": {"file_type": "MCAP"}}, {"images": {"filename_prefix": "a"}}],
            },
            Code.INVALID_ARGUMENT,
            "takes no images",
        ),
        ({"media": {"audio": {"capture_all": True}, "data": {}}}, Code.INVALID_ARGUMENT, "data .nothing"),
        ({"media": {"data": {"capture_all": True}}}, Code.INVALID_ARGUMENT, "data alone goes into .* MCAP"),
        (
            {"media": {"audio": {"capture_all": True}, "data": {"selectors": [{"track_id": "DTR_1"}]}}},
            Code.UNIMPLEMENTED,
            "media.data by track_id",
        ),
        (
            {
                "media": {"audio": {"capture_all": True}, "data": {"capture_all": True}},
                "outputs": [{"stream": {"urls": ["rtmp://h/a/k"]}}],
            },
            Code.INVALID_ARGUMENT,
            "media.data: it lies beside a file or segments",
        ),
        (
            {"template": {"layout": "grid"}, "outputs": [{"file": {"file_type": "MCAP"}}]},
            Code.UNIMPLEMENTED,
            "MCAP of anything but layout tracks",
        ),
        (
            {"media": {"audio": {"routes": [{"participant_identity": "b", "exclude": True}]}}},
            Code.INVALID_ARGUMENT,
            "audio routes",
        ),
        ({"media": {"audio": {"routes": [{"exclude": True}]}}}, Code.INVALID_ARGUMENT, "audio route match"),
        (
            {
                "media": {"audio": {"routes": [{"track_id": "TR_1", "track_name": "a"}]}},
                "preset": "PASSTHROUGH",
            },
            Code.INVALID_ARGUMENT,
            "passthrough audio route track_name",
        ),
    ],
)
def test_what_of_today_cannot_be_is_refused(
    fields: dict[str, Any], code: Code, named: str, binary: bool
) -> None:
    whole = {"room_name": "r", "outputs": [{"file": {"filepath": "x"}}], **fields}
    with pytest.raises(EgressError, match=named) as refused:
        planned("egress", read("egress", whole, binary=binary))
    assert refused.value.code is code


VIDEOS = {
    "capture_all": True,
    "selectors": [
        {"participant_identity": "bob", "exclude": True},
        {"track_name": "slides"},
        {"track_id": "TR_1"},
        {"participant_identity": "eve", "track_name": "cam"},
    ],
}
DATA = {"selectors": [{"participant_identity": "ada"}, {"track_name": "noise", "exclude": True}]}
MANY = {"videos": VIDEOS, "audio": ROUTES, "data": DATA}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("file", "container"),
    [
        ({"filepath": "x", "file_type": "MCAP"}, Container.MCAP),
        ({"filepath": "x.mcap"}, Container.MCAP),
        ({"filepath": "x.mkv"}, Container.MKV),
        ({"filepath": "x"}, Container.MKV),
    ],
)
def test_several_pictures_sounds_and_data(file: dict[str, str], container: Container, binary: bool) -> None:
    message = read("egress", {"room_name": "r", "media": MANY, "outputs": [{"file": file}]}, binary=binary)
    plan = planned("egress", message)
    (output,) = plan.outputs
    assert isinstance(output, FileOutput) and output.container is container
    assert isinstance(plan.source, TracksSource) and plan.source.chosen is not None
    assert plan.passthrough is Passthrough.ALWAYS
    assert plan.source.chosen.videos == (
        VideoRoute("participant", "bob", exclude=True),
        VideoRoute("any", track_name="slides"),
        VideoRoute("track", "TR_1"),
        VideoRoute("participant", "eve", "cam"),
        VideoRoute("all"),
    )
    assert len(plan.source.chosen.audio) == 4
    data = (DataRoute("ada"), DataRoute(topic="noise", exclude=True))
    if container is Container.MCAP:
        assert (plan.source.data, plan.sidecars) == (data, ())
    else:
        assert (plan.source.data, plan.sidecars, plan.data_routes) == ((), (Sidecar.DATA,), data)
    assert plan.notices == ("the channel of an audio route has no effect: each track is recorded for itself",)
    assert wire_json.to_dict(message)["media"]["videos"]["selectors"][0]["exclude"] is True
    request = StartEgressRequest(egress_id="EG_1", egress=message)
    assert request_kind(request) is RequestKind.ROOM_TRACKS


def test_a_file_of_sound_takes_no_pictures() -> None:
    fields = {"room_name": "r", "media": MANY, "outputs": [{"file": {"filepath": "x.mka"}}]}
    source = planned("egress", read("egress", fields)).source
    assert isinstance(source, TracksSource) and source.chosen is not None
    assert not source.video and not source.chosen.videos and source.chosen.audio


def test_data_lies_beside_what_is_mixed() -> None:
    media = {"audio": {"capture_all": True}, "data": {"capture_all": True}}
    fields = {"room_name": "r", "media": media, "outputs": [{"file": {"filepath": "x"}}]}
    plan = planned("egress", read("egress", fields))
    assert isinstance(plan.source, MediaSource)
    assert (plan.sidecars, plan.data_routes) == ((Sidecar.DATA,), (DataRoute(),))


@pytest.mark.parametrize(
    "media",
    [
        {"video_track_id": "TR_1", "audio": {"capture_all": True}},
        {"participant_video": {"identity": "ada"}},
        {"audio": {"capture_all": True}},
        {"data": {"capture_all": True}},
    ],
)
def test_one_picture_or_none_goes_into_an_mcap_too(media: dict[str, Any]) -> None:
    file = {"filepath": "x", "file_type": "MCAP"}
    plan = planned("egress", read("egress", {"room_name": "r", "media": media, "outputs": [{"file": file}]}))
    assert isinstance(plan.source, TracksSource) and plan.source.chosen is not None
    assert plan.source.video == (plan.source.chosen.video is not None)
    assert plan.source.audio == bool(plan.source.chosen.audio) == ("audio" in media)


@pytest.mark.parametrize("binary", [False, True])
def test_an_mcap_file_of_all_tracks(binary: bool) -> None:
    """Named by the type alone, as today's SDKs do."""
    file = {"filepath": "x", "file_type": "MCAP"}
    asked: dict[str, dict[str, Any]] = {
        "room_composite": {"room_name": "r", "layout": "tracks", "file_outputs": [file]},
        "egress": {"room_name": "r", "template": {"layout": "tracks"}, "outputs": [{"file": file}]},
    }
    for body, fields in asked.items():
        plan = planned(body, read(body, fields, binary=binary))
        (output,) = plan.outputs
        assert isinstance(output, FileOutput)
        assert (output.filepath, output.container) == ("x.mcap", Container.MCAP)
        assert plan.notices == ()


def test_the_wheel_is_older_than_todays_protocol() -> None:
    """Once it is not, proto/livekit and proto.today can go."""
    assert "exclude" not in wire.AudioRoute.DESCRIPTOR.fields_by_name


# --- reading equals protobuf's own


def generated(kind: type[Message], seed: int) -> Message:
    chance = random.Random(seed)
    message = kind()
    _fill(message, chance, 0)
    return message


def _fill(message: Message, chance: random.Random, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.5 or depth > 5:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[chance.choice("abc")] = chance.choice(["", "v", "é"])
        elif field.message_type is not None and isinstance(field.default_value, list):
            for _ in range(chance.randrange(3)):
                _fill(getattr(message, field.name).add(), chance, depth + 1)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            _fill(getattr(message, field.name), chance, depth + 1)
        elif isinstance(field.default_value, list):
            getattr(message, field.name).extend(_value(field, chance) for _ in range(chance.randrange(3)))
        else:
            setattr(message, field.name, _value(field, chance))


def _value(field: Any, chance: random.Random) -> Any:
    if field.enum_type is not None:
        return chance.choice([*field.enum_type.values_by_number, 99])
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return chance.choice(["", "a", 'é"\n', "rtmp://h/a/b", "{time}"])
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return chance.choice([0.0, 2.5, -1.0, float("inf")])
        case _:
            return chance.choice([0, 1, 7, 2**31 - 1])


@pytest.mark.parametrize("body", READ)
def test_thousands_of_requests_read_as_protobuf_reads_them(body: str) -> None:
    kind = READ[body]
    newest_kind = today.kind_of(full_name(kind))
    for seed in range(500):
        newest = generated(newest_kind, seed)
        for camel in (False, True):
            text = json_format.MessageToJson(newest, preserving_proto_field_name=not camel)
            read_here = today.today(wire_json.parse(text.encode(), kind))
            assert read_here == json_format.Parse(text, newest_kind())
        assert today.today(wire_json.parse_binary(newest.SerializeToString(), kind)) == newest


FORMS: dict[type, tuple[Any, ...]] = {
    bool: (True, False, None, "true", 1, 0),
    int: (3, "3", 3.0, "3.0", 3.5, "1e1", 2**40, None, "x", ""),
    float: (2, "2.5", "NaN", "Infinity", None, True, "x"),
    str: ("a", None, 5, [], {}, "H264", "h264_main", "77", 77, 1),
    list: (None, [], {}, [None], "a"),
    dict: (None, {}, "a", 5),
}
"""In which values come, right and wrong, by what stands there: a name of an enum is a text too. Not here:
what test_api_wire_json.py has, where protobuf's parser for Python is laxer than that for Go."""


def written_otherwise(value: Any, chance: random.Random, made_up: set[str], path: str = "") -> Any:
    """The same JSON with some names and values changed; names that nobody knows are noted."""
    if chance.random() < 0.03:
        return chance.choice(FORMS[type(value)])
    if isinstance(value, list):
        many = len(value) > 1
        return [
            written_otherwise(each, chance, made_up, f"{path}[{number}]" if many else path)
            for number, each in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, each in value.items():
        here = f"{path}.{name}" if path else name
        found[name] = written_otherwise(each, chance, made_up, here)
    if chance.random() < 0.05 and not path.endswith("metadata"):
        found["colour"] = chance.choice([1, "blue", {"a": 1}])
        made_up.add(f"{path}.colour" if path else "colour")
    return found


@pytest.mark.parametrize("body", READ)
def test_values_in_any_form_are_read_as_protobuf_reads_them_or_refused(body: str) -> None:
    kind = READ[body]
    newest_kind = today.kind_of(full_name(kind))
    read_count = refused_count = 0
    # A wrong value is rare in a message that has few.
    for seed in range(700 if body in BODIES else 2000):
        made_up: set[str] = set()
        plain = json_format.MessageToDict(generated(newest_kind, seed), preserving_proto_field_name=True)
        # Of another seed: its chances must not go with those of what it changes.
        fields = written_otherwise(plain, random.Random(seed + 1_000_003), made_up)
        if not isinstance(fields, dict):
            continue
        try:
            read_here: Message = wire_json.parse(json.dumps(fields).encode(), kind)
        except (ValueError, EgressError):
            refused_count += 1
            with pytest.raises(json_format.ParseError):
                json_format.ParseDict(fields, newest_kind())
            continue
        read_count += 1
        newest = today.today(read_here)
        told = {each.path for each in in_message(newest) if not each.value}
        newest.DiscardUnknownFields()
        if not told:
            assert newest == json_format.ParseDict(fields, newest_kind())
        else:
            assert newest == json_format.ParseDict(fields, newest_kind(), ignore_unknown_fields=True)
            assert told <= made_up and (told == made_up or len(made_up) > 10)
    assert min(read_count, refused_count) > 10


# --- nothing that is set is without an effect, or a refusal, or a notice

S3 = {"bucket": "b", "access_key": "a", "secret": "s", "region": "r", "proxy": {"url": "http://p"}}
GCP = {"bucket": "b", "proxy": {"url": "http://p"}}
AZURE = {"container_name": "c", "account_name": "account", "account_key": "k"}
OSS = {"bucket": "b", "access_key": "a", "secret": "s", "endpoint": "e"}
PROVIDERS = ({"s3": S3}, {"gcp": GCP}, {"azure": AZURE}, {"aliOSS": OSS})
RTMP, WEBSOCKET = ["rtmp://h/app/key"], ["ws://h"]
ADVANCED = {"advanced": {"video_bitrate": 100}}


def bases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests that between them have every message of the API in them."""
    for body, source in {
        "room_composite": {"room_name": "r"},
        "web": {"url": "http://e"},
        "participant": {"room_name": "r", "identity": "a"},
        "track_composite": {"room_name": "r", "audio_track_id": "TR_1"},
    }.items():
        video = {"video_track_id": "TR_2"} if body == "track_composite" else {}
        for provider in PROVIDERS:
            for output in (
                {"file_outputs": [{"filepath": "x", **provider}]},
                {"segment_outputs": [{"filename_prefix": "x", **provider}]},
                {"image_outputs": [{"filename_prefix": "x", "width": 320, **provider}]},
            ):
                yield body, source | video | output
            if body != "participant":
                yield body, source | video | {"file": {"filepath": "x", **provider}}
                yield body, source | video | {"segments": {"filename_prefix": "x", **provider}}
        if body != "participant":
            yield body, source | {"stream": {"urls": RTMP, "destinations": [{"url": RTMP[0] + "2"}]}}
        yield body, source | {"stream_outputs": [{"urls": RTMP, "destinations": [{"url": RTMP[0] + "2"}]}]}
        yield body, source | video | FILE | ADVANCED
        yield body, source | FILE
    for provider in PROVIDERS:
        yield "track", {"room_name": "r", "track_id": "TR_1", "file": {"filepath": "x", **provider}}
    yield "track", {"room_name": "r", "track_id": "TR_1", "websocket_url": "ws://h"}
    template: dict[str, Any] = {"room_name": "r", "template": {}}
    media = {
        "room_name": "r",
        "media": {"participant_video": {"identity": "a"}, "audio": {"capture_all": True}},
    }
    routed = {"room_name": "r", "media": {"audio": {"routes": [{"participant_identity": "a"}]}}}
    named = {"room_name": "r", "media": {"audio": {"routes": [{"track_id": "TR_1"}]}}}
    excluded = {"room_name": "r", "media": {"audio": {"capture_all": True, "routes": [{"track_name": "a"}]}}}
    for selector in ({"track_id": "TR_1"}, {"participant_identity": "a"}, {"track_name": "a"}):
        several = {"videos": {"selectors": [selector], "capture_all": True}}
        yield "egress", {"room_name": "r", "media": several, "outputs": [{"file": {"filepath": "x"}}]}
        if "track_id" not in selector:  # unimplemented, of data
            data = {"audio": {"capture_all": True}, "data": {"selectors": [selector], "capture_all": True}}
            yield "egress", {"room_name": "r", "media": data, "outputs": [{"file": {"filepath": "x"}}]}
    sources: tuple[dict[str, Any], ...] = (
        template,
        {"web": {"url": "http://e"}},
        media,
        routed,
        named,
        excluded,
    )
    for source in sources:
        yield "egress", source | {"outputs": [{"file": {"filepath": "x"}}]}
        yield "egress", source | {"outputs": [{"file": {"filepath": "x"}}]} | ADVANCED
    outputs: list[dict[str, Any]] = [
        {"file": {"filepath": "x"}},
        {"segments": {"filename_prefix": "x"}},
        {"images": {"filename_prefix": "x", "width": 320}},
    ]
    for part in outputs:
        (name,) = part
        for provider in PROVIDERS:
            yield "egress", template | {"outputs": [part | {"storage": provider}]}
            yield "egress", template | {"outputs": [part], "storage": provider}
            if name != "file":
                with_storage = part[name] | provider
                yield "egress", template | {"outputs": [{name: with_storage}]}
    for urls in (RTMP, WEBSOCKET):
        stream = {"urls": urls, "destinations": [{"url": urls[0] + "/2"}]}
        yield "egress", template | {"outputs": [{"stream": stream}]}


ELSEWHERE = {
    "webhooks": "not of the plan: test_store_webhooks.py walks them",
    "image_codec": "JPEG is what all pictures are",
}


def leaves(message: Message, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Message, Any]]:
    """(path, owner, field) of every field that the messages which are present could have."""
    for field in message.DESCRIPTOR.fields:
        here = (*path, field.name)
        if field.name in ELSEWHERE:
            continue
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            yield here, message, field
        elif isinstance(field.default_value, list):
            for each in getattr(message, field.name):
                yield from leaves(each, here)
        elif message.HasField(field.name):
            yield from leaves(getattr(message, field.name), here)


def all_paths(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for field in kind.fields:
        if field.name in ELSEWHERE:
            continue
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            yield (*path, field.name)
        else:
            yield from all_paths(field.message_type, (*path, field.name))


SAMPLES = {"bucket": "other", "url": "http://other", "urls": "rtmp://h/app/other", "tagging": "a=b"}


def change(owner: Any, field: FieldDescriptor) -> Iterator[None]:
    """Sets the field to one value after another that it has not."""
    if field.message_type is not None:
        getattr(owner, field.name)["key"] = "value"
        yield
    elif isinstance(field.default_value, list):
        getattr(owner, field.name).append(SAMPLES.get(field.name, "other"))
        yield
    else:
        was = getattr(owner, field.name)
        values: list[Any]
        if field.enum_type is not None:
            values = list(field.enum_type.values_by_number)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            values = [SAMPLES.get(field.name, "other"), "rtmp://h/app/other", ""]
        elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            values = [not was]
        else:
            values = [16, 6, 44_100]
        for value in values:
            if value != was:
                setattr(owner, field.name, value)
                yield


def outcome(body: str, message: Message) -> object:
    kind = BODIES[body]
    try:
        plan = planned(body, today.in_wheel(message, kind))
    except EgressError as error:
        return error.message
    request = StartEgressRequest(egress_id="EG_1")
    getattr(request, body).CopyFrom(today.in_wheel(message, kind))
    return msgspec.msgpack.encode(plan)


def test_every_field_does_something_or_is_refused_or_told() -> None:
    effective: set[tuple[str, ...]] = set()
    for body, fields in bases():
        kind = today.kind_of(full_name(BODIES[body]))
        base = json_format.ParseDict(fields, kind())
        before = outcome(body, base)
        assert isinstance(before, bytes), (body, fields, before)
        paths = [path for path, _, _ in leaves(base)]
        for number, path in enumerate(paths):
            if (body, *path) in effective:
                continue
            changed = kind.FromString(base.SerializeToString())
            _, owner, field = list(leaves(changed))[number]
            for _ in change(owner, field):
                if outcome(body, changed) != before:
                    effective.add((body, *path))
                    break
    wanted = {
        (body, *path)
        for body, kind in BODIES.items()
        for path in all_paths(today.kind_of(full_name(kind)).DESCRIPTOR)
    }
    assert sorted(".".join(path) for path in wanted - effective) == []
