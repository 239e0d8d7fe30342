"""The API's JSON against protobuf's own, for every message with every field set, each oneof in turn."""

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from livekit.protocol import egress as wire

from openegress.api import wire_json
from openegress.core.errors import EgressError
from openegress.proto import today

KINDS = [
    wire.StartEgressRequest,
    wire.RoomCompositeEgressRequest,
    wire.WebEgressRequest,
    wire.ParticipantEgressRequest,
    wire.TrackCompositeEgressRequest,
    wire.TrackEgressRequest,
    wire.UpdateLayoutRequest,
    wire.UpdateStreamRequest,
    wire.ListEgressRequest,
    wire.ListEgressResponse,
    wire.StopEgressRequest,
    wire.EgressInfo,
]


def fill(message: Message, choice: int, depth: int = 0) -> None:
    """Sets every field; of each oneof the member number `choice`."""
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is not None and oneof.fields[choice % len(oneof.fields)] is not field:
            continue
        kind: Any = field.message_type
        if is_map(kind):
            getattr(message, field.name)["key"] = "value"
        elif isinstance(field.default_value, list):
            values = getattr(message, field.name)
            for number in range(2):
                if field.message_type is not None:
                    fill(values.add(), choice + number, depth + 1)
                else:
                    values.append(value_of(field))
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), choice, depth + 1)
        else:
            setattr(message, field.name, value_of(field))


def is_map(kind: Descriptor | None) -> bool:
    return kind is not None and kind.GetOptions().map_entry


def value_of(field: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return f'{field.name} é "\n'
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return 2.5
        case FieldDescriptor.CPPTYPE_INT64:
            return -(2**62) - 1
        case _:
            return 2**31 - 1


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_protobuf_says(kind: type[Message]) -> None:
    for choice in range(8):
        newest = today.kind_of(kind.DESCRIPTOR.full_name)()
        if choice < 7:
            fill(newest, choice)
        message = today.in_wheel(newest, kind)
        own = json.loads(wire_json.dump(message))
        assert without_nulls(own) == json_format.MessageToDict(
            newest, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        assert wire_json.parse(wire_json.dump(message), kind) == message


def test_nulls_stand_for_unset_messages_only() -> None:
    found = wire_json.to_dict(
        wire.StartEgressRequest(outputs=[wire.Output(storage=wire.StorageConfig(s3=wire.S3Upload()))])
    )
    assert found["storage"] is None
    assert "template" not in found and "preset" not in found
    (output,) = found["outputs"]
    assert "file" not in output
    assert output["storage"]["s3"]["proxy"] is None
    assert output["storage"]["s3"]["metadata"] == {}


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, 0), (4.0, 4), (2.5, 2.5), (float("nan"), "NaN"), (float("-inf"), "-Infinity")]
)
def test_numbers(value: float, shown: Any) -> None:
    options = wire.EncodingOptions(key_frame_interval=value)
    assert wire_json.to_dict(options)["key_frame_interval"] == shown


def test_enums_of_a_later_version_are_numbers() -> None:
    options = wire.EncodingOptions()
    options.MergeFromString(bytes([5 << 3, 77]))
    assert wire_json.to_dict(options)["audio_codec"] == 77


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            '{"url": "http://e", "file_outputs": [{"filepath": "x", "s3": "bucket"}]}',
            "s3 .a message is a JSON object",
        ),
        ('{"url": "http://e", "file_outputs": [{"filepath": "x", "s3": []}]}', "s3 .one value, not a list"),
        ('{"url": "http://e", "file_outputs": ["ab"]}', "file_outputs .a message is"),
        ('{"url": "http://e", "advanced": 5}', "advanced .a message is"),
        ('{"url": "http://e", "preset": true}', "preset .the name of a value"),
        ('{"url": "http://e", "preset": [1]}', "preset .one value"),
        ('{"url": "http://e", "url": "http://f"}', "url .there twice"),
        ('{"url": "http://e", "audioOnly": false, "audio_only": true}', "audio_only .there twice"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused(body: str, why: str) -> None:
    with pytest.raises(EgressError, match=f"request has missing or invalid field: .*{why}"):
        wire_json.parse(body.encode(), wire.WebEgressRequest)
