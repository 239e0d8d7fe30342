"""Converts messages to and from the JSON of LiveKit's Twirp servers.

In: field names in snake_case or lowerCamelCase, enums by name or number. Unknown names are refused if they
select what is recorded or where it goes. Others stay in the message, so that the worker can report them
(request.unknown).
Out: snake_case, every field present, 64-bit integers as strings, unset messages null, unset oneofs absent.
"""

import base64
import math
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Any, TypeVar

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from livekit.protocol.egress import EgressInfo, ListEgressResponse
from livekit.protocol.models import TokenPagination

from openegress.core import foreign_json
from openegress.core.errors import missing_or_invalid
from openegress.core.info import is_terminal
from openegress.proto import today
from openegress.request import options, unknown

M = TypeVar("M", bound=Message)


def parse(body: bytes, kind: type[M], *, has_options: bool = False) -> M:
    """Decodes a message. Raises ValueError if the body is not this message in JSON, and EgressError for
    unknown fields that must be refused. `has_options`: the body may have options in addition to the message,
    which the result carries (request.options)."""
    message = today.kind_of(kind.DESCRIPTOR.full_name)()
    try:
        value = foreign_json.loads(body.decode(), _object)
        if not isinstance(value, dict):
            raise ValueError("a message is a JSON object")
        given = value.pop(options.BODY_KEY, None) if has_options else None
        descriptor: Any = message.DESCRIPTOR
        # Unknown numbers of an enum stay in the parsed message; unknown names are lost.
        found = [each for each in unknown.in_json(value, descriptor) if not each.value.isdigit()]
        json_format.ParseDict(value, message, ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
    harmless = [each for each in found if not each.deciding]
    _refuse_deciding(found)
    data = message.SerializeToString() + (unknown.carried(harmless) if harmless else b"")
    parsed = kind.FromString(data)
    return parsed if given is None else options.carry(parsed, options.of_json(given, options.BODY_KEY))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object. Raises EgressError if a name comes twice, as it is not clear which value was meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise missing_or_invalid(f"{unknown.printable(twice)} (there twice)")
    return found


def parse_binary(body: bytes, kind: type[M]) -> M:
    """Decodes a message in protobuf. Raises DecodeError, and EgressError for unknown fields that must be
    refused."""
    message = kind.FromString(body)
    _refuse_deciding(each for each in unknown.in_message(today.today(message)) if not each.value)
    return message


def _refuse_deciding(found: Iterable[unknown.Unknown]) -> None:
    for each in found:
        if each.deciding:
            raise each.refusal


def to_dict(message: Message) -> dict[str, Any]:
    newest = today.today(message)
    return _writer(newest.DESCRIPTOR)(newest)


def dump(message: Message) -> bytes:
    if isinstance(message, ListEgressResponse):
        fields = to_dict(ListEgressResponse(next_page_token=_page_token(message)))
        fields["items"] = [
            _ended(item.SerializeToString()) if is_terminal(item) else to_dict(item) for item in message.items
        ]
        return msgspec.json.encode(fields)
    return msgspec.json.encode(to_dict(message))


@lru_cache(maxsize=4096)
def _ended(info: bytes) -> msgspec.Raw:
    """The JSON of an ended record, cached: most records of a list have ended and no longer change. Running
    ones are not cached, as each of their states would be kept."""
    return msgspec.Raw(msgspec.json.encode(to_dict(EgressInfo.FromString(info))))


def _page_token(message: ListEgressResponse) -> TokenPagination | None:
    return message.next_page_token if message.HasField("next_page_token") else None


# --- writing: one function for each message type, built once, because a list may hold a thousand messages


_Write = Callable[[Any], Any]
_FD = FieldDescriptor
_LONG = frozenset({_FD.CPPTYPE_INT64, _FD.CPPTYPE_UINT64})
_FLOAT = frozenset({_FD.CPPTYPE_DOUBLE, _FD.CPPTYPE_FLOAT})


@cache
def _writer(descriptor: Descriptor) -> Callable[[Message], dict[str, Any]]:
    if descriptor.full_name.startswith("google.protobuf."):
        return _well_known
    plain: list[str] = []
    mapped: list[tuple[str, _Write]] = []
    lists: list[tuple[str, _Write | None]] = []
    maps: list[str] = []
    messages: list[tuple[str, _Write]] = []
    choices: dict[str, dict[str, _Write | None]] = {}
    order = [field.name for field in descriptor.fields]
    for field in descriptor.fields:
        write = _value_writer(field)
        if field.containing_oneof is not None:
            choices.setdefault(field.containing_oneof.name, {})[field.name] = write
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            maps.append(field.name)
        elif isinstance(field.default_value, list):
            lists.append((field.name, write))
        elif field.message_type is not None:
            assert write is not None
            messages.append((field.name, write))
        elif write is None:
            plain.append(field.name)
        else:
            mapped.append((field.name, write))

    def to_fields(message: Message) -> dict[str, Any]:
        fields: dict[str, Any] = {name: getattr(message, name) for name in plain}
        for name, write in mapped:
            fields[name] = write(getattr(message, name))
        for name, each in lists:
            values = getattr(message, name)
            fields[name] = [each(value) for value in values] if each else list(values)
        for name in maps:
            fields[name] = dict(getattr(message, name))
        for name, write in messages:
            fields[name] = write(getattr(message, name)) if message.HasField(name) else None
        for oneof, members in choices.items():
            chosen = message.WhichOneof(oneof)
            if chosen is not None:
                write_it = members[chosen]
                value = getattr(message, chosen)
                fields[chosen] = write_it(value) if write_it else value
        return {name: fields[name] for name in order if name in fields}

    return to_fields


def _well_known(message: Message) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _value_writer(field: FieldDescriptor) -> _Write | None:
    """Returns a function that converts a value of the field to JSON; None if no conversion is needed."""
    if field.message_type is not None:
        kind = field.message_type
        return lambda message: _writer(kind)(message)
    if field.enum_type is not None:
        names = {value.number: value.name for value in field.enum_type.values}
        return lambda number: names.get(number, number)
    if field.cpp_type in _LONG:
        return str
    if field.cpp_type in _FLOAT:
        return _number
    if field.type == _FD.TYPE_BYTES:
        return lambda data: base64.b64encode(data).decode()
    return None


def _number(value: float) -> float | int | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return int(value) if value.is_integer() else value
