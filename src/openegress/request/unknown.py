"""Finds unknown parts of a request: fields and enum values of newer clients, and misspellings.

Those that select or route media, or name an output, are refused: ignoring them would record what was
excluded, or write what was not asked for. The caller is notified of all others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from openegress.core.errors import EgressError, missing_or_invalid
from openegress.core.varint import varint
from openegress.proto.today import today

_DECIDING = frozenset({"openegress.SetOptionsRequest", "openegress.AddMarkerRequest"}) | frozenset(
    f"livekit.{name}"
    for name in (
        "MediaSource",
        "ParticipantVideo",
        "VideoConfig",
        "VideoSelector",
        "AudioConfig",
        "AudioRoute",
        "DataConfig",
        "DataSelector",
        "ParticipantEgressRequest",
        "TrackCompositeEgressRequest",
        "TrackEgressRequest",
        "UpdateLayoutRequest",
        "UpdateStreamRequest",
        "Output",
        "FileOutput",
        "EncodedFileOutput",
        "DirectFileOutput",
        "SegmentedFileOutput",
        "ImageOutput",
        "StreamOutput",
        "StreamDestination",
        "StorageConfig",
        "S3Upload",
        "GCPUpload",
        "AzureBlobUpload",
        "AliOSSUpload",
    )
)
"""Messages that select or route media, name an output, or serve no other purpose."""

CARRIER = 536_870_911
"""Number of the field (protobuf's largest) in which unknown names from JSON travel in a binary request."""
OPTIONS = CARRIER - 1
"""Number of the field that carries the options given to the API (request.options)."""
_LENGTH_DELIMITED = 2
_MAX_CHARS = 64
"""Limit for the shown characters of a name, which the client made up."""
_MAX_PATH_CHARS = 4 * _MAX_CHARS
"""Limit for such a name with the messages that contain it."""
_MOST = 10
"""Limit for the names that are reported."""


class UnknownFields(StrEnum):
    """What to do about unknown fields that decide nothing."""

    REFUSE = "refuse"
    WARN = "warn"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Unknown:
    path: str
    """The path of the field in the message."""
    deciding: bool
    value: str = ""
    """The value of an enum; empty: the field itself is unknown."""

    @property
    def refusal(self) -> EgressError:
        if self.value:
            return missing_or_invalid(f"{self.path} ({self.value} is not known here)")
        return missing_or_invalid(f"{self.path} (not known here)")


def in_message(message: Message, path: str = "") -> Iterator[Unknown]:
    """Yields the unknown parts of `message`, which is of the newest class available (proto.today)."""
    deciding = message.DESCRIPTOR.full_name in _DECIDING
    fields = UnknownFieldSet(message)
    for field in (fields[number] for number in range(len(fields))):
        if field.field_number == CARRIER and field.wire_type == _LENGTH_DELIMITED:
            # Our API wrote them, unless a client did: then they may be anything.
            names = field.data.decode(errors="replace").split("\n")
            yield from (Unknown(printable(name, _MAX_PATH_CHARS), False) for name in names)
        elif field.field_number != OPTIONS:
            yield Unknown(f"{path}field {field.field_number}", deciding)
    for descriptor, value in message.ListFields():
        here = path + descriptor.name
        if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
            continue
        values = list(value) if isinstance(descriptor.default_value, list) else [value]
        for number, each in enumerate(values):
            place = f"{here}[{number}]" if len(values) > 1 else here
            if isinstance(each, Message):
                yield from in_message(each, f"{place}.")
            elif descriptor.enum_type is not None:
                yield from _in_enum(descriptor.enum_type, each, place)


def in_json(value: Mapping[str, Any], kind: Descriptor, path: str = "") -> Iterator[Unknown]:
    """Yields names in the JSON of a message that `kind` does not have. Raises EgressError for what protobuf's
    parser for Python misreads; the parser itself reports other mistakes."""
    names = {name: field for field in kind.fields for name in (field.name, field.json_name)}
    seen: set[int] = set()
    for name, inner in value.items():
        field = names.get(name)
        if inner is None:
            continue  # stands for a field that is not set
        if field is None:
            yield Unknown(f"{path}{printable(name)}", kind.full_name in _DECIDING)
        elif field.number in seen:
            raise missing_or_invalid(f"{path}{name} (there twice)")
        else:
            seen.add(field.number)
            yield from _in_field(field, inner, f"{path}{name}")


def _in_field(field: FieldDescriptor, value: Any, place: str) -> Iterator[Unknown]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return
    if isinstance(value, list) and not isinstance(field.default_value, list):
        raise missing_or_invalid(f"{place} (one value, not a list)")
    for number, each in enumerate(value if isinstance(value, list) else [value]):
        here = f"{place}[{number}]" if isinstance(value, list) and len(value) > 1 else place
        if field.message_type is not None:
            if not isinstance(each, dict):
                raise missing_or_invalid(f"{here} (a message is a JSON object)")
            yield from in_json(each, field.message_type, f"{here}.")
        elif field.enum_type is not None:
            yield from _in_enum(field.enum_type, each, here)


def _in_enum(kind: EnumDescriptor, value: object, place: str) -> Iterator[Unknown]:
    if isinstance(value, bool):
        raise missing_or_invalid(f"{place} (the name of a value, not true or false)")
    if isinstance(value, str):
        if value not in kind.values_by_name and not value.lstrip("-").isdigit():
            yield Unknown(place, True, repr(printable(value)))
    elif isinstance(value, int) and value not in kind.values_by_number:
        yield Unknown(place, True, str(value))


def carried(found: list[Unknown]) -> bytes:
    """The part of `found` that is only reported, as a field to append to a binary request."""
    return length_delimited(CARRIER, "\n".join(each.path for each in found[:_MOST]).encode())


def length_delimited(number: int, data: bytes) -> bytes:
    """A field in wire format."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(data)) + data


def notices(found: list[Unknown], manner: UnknownFields) -> tuple[str, ...]:
    """The notices for the caller. Raises EgressError for what cannot be ignored."""
    for each in found:
        if each.deciding or manner is UnknownFields.REFUSE:
            raise each.refusal
    if not found or manner is UnknownFields.IGNORE:
        return ()
    names = ", ".join(each.path for each in found[:_MOST])
    return (f"ignored, as not known here: {names}{' ...' if len(found) > _MOST else ''}",)


def told(message: Message, manner: UnknownFields) -> tuple[str, ...]:
    """The notices about a message of the wheel's class. Raises EgressError like `notices`."""
    return notices(list(in_message(today(message))), manner)


def printable(name: str, most_chars: int = _MAX_CHARS) -> str:
    """`name` as printable text on one line, of bounded length."""
    return "".join(c if c.isprintable() else "?" for c in name[:most_chars])
