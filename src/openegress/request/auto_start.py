"""Makes the requests of rules that start an egress when a room opens or a track is published. Pure.

A rule holds LiveKit's own RoomEgress (livekit_room.proto), which livekit-server accepts when a room is
created.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from livekit.protocol.egress import (
    DirectFileOutput,
    ParticipantEgressRequest,
    RoomCompositeEgressRequest,
    TrackEgressRequest,
)
from livekit.protocol.models import ParticipantInfo, Room, TrackInfo, TrackType
from livekit.protocol.room import RoomEgress

from openegress.core.errors import invalid
from openegress.core.ids import derived_id
from openegress.core.room_patterns import fits
from openegress.proto import egress_rpc_pb2 as rpc
from openegress.proto import today
from openegress.request import unknown
from openegress.request.unknown import printable

_FLAGS = {"true": True, "false": False}

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class AutoStartRule:
    rooms: tuple[str, ...]
    """Patterns of room names, see room_patterns."""
    egress: RoomEgress

    def __post_init__(self) -> None:
        if not any(self.egress.HasField(part) for part in ("room", "participant", "tracks")):
            raise invalid("starts nothing: it needs room, participant or tracks")


@dataclass(frozen=True, slots=True)
class AutoStart:
    """One egress that a rule asks for."""

    rule: AutoStartRule
    subject: str
    """The SID of the room, participant or track."""
    body: Message
    """The request of its kind, with the room's name."""

    def request(self, number: int = 0) -> rpc.StartEgressRequest:
        """The request, with an id that is the same wherever it is made, so that no egress starts twice.
        `number` counts new attempts."""
        seed = (
            *(pattern.encode() for pattern in self.rule.rooms),
            self.rule.egress.SerializeToString(deterministic=True),
            self.subject.encode(),
            str(number).encode(),
        )
        whole = rpc.StartEgressRequest(egress_id=derived_id("EG_", b"\0".join(seed)))
        kind = next(
            field.name
            for field in whole.DESCRIPTOR.oneofs_by_name["request"].fields
            if field.message_type is self.body.DESCRIPTOR
        )
        getattr(whole, kind).CopyFrom(self.body)
        return whole


def rule_of(rooms: Sequence[str], egress: Mapping[str, Any]) -> AutoStartRule:
    """Reads a rule from the configuration, whose scalars are text. Raises EgressError, which names the
    mistake."""
    if not rooms:
        raise invalid('rooms: missing; list patterns of room names, "*" for every room')
    message = RoomEgress()
    for name, asked in egress.items():
        if asked is None:
            continue
        field = _named(name, message.DESCRIPTOR)
        if field is None or field.message_type is None:
            raise invalid(
                f'egress: there is no field named "{printable(name)}"; write room, participant or tracks'
            )
        part = getattr(message, field.name)
        try:
            part.CopyFrom(today.in_wheel(_part(asked, field.message_type.full_name), type(part)))
        except json_format.ParseError as error:
            raise invalid(f"egress: {field.name}: {' '.join(str(error).split())}") from None
    if message.room.room_name:
        raise invalid("egress: room: room_name has no effect: it is the room that is opened; use `rooms`")
    return AutoStartRule(tuple(rooms), message)


def _part(asked: Any, kind: str) -> Message:
    """Reads a part in today's protocol. Raises ParseError, and EgressError for an unknown enum number."""
    message = today.kind_of(kind)()
    json_format.ParseDict(_typed(asked, message.DESCRIPTOR), message)
    for each in unknown.in_message(message):
        raise each.refusal
    return message


def _named(name: str, kind: Any) -> FieldDescriptor | None:
    found: FieldDescriptor | None = next((f for f in kind.fields if name in (f.name, f.json_name)), None)
    return found


def of_room(rules: Sequence[AutoStartRule], room: Room) -> Iterator[AutoStart]:
    """Yields what to start when the room opens."""
    for rule in _matching(rules, room):
        if rule.egress.HasField("room"):
            body = RoomCompositeEgressRequest()
            body.CopyFrom(rule.egress.room)
            body.room_name = room.name
            yield AutoStart(rule, room.sid, body)


def of_track(
    rules: Sequence[AutoStartRule], room: Room, participant: ParticipantInfo, track: TrackInfo
) -> Iterator[AutoStart]:
    """Yields what to start when sound or a picture is published: for the track, and for its publisher, as
    livekit-server does."""
    if track.type not in (TrackType.AUDIO, TrackType.VIDEO):
        return
    for rule in _matching(rules, room):
        if rule.egress.HasField("participant"):
            person = _with_fields_of(rule.egress.participant, ParticipantEgressRequest())
            person.room_name, person.identity = room.name, participant.identity
            yield AutoStart(rule, participant.sid, person)
        if rule.egress.HasField("tracks"):
            file = _with_fields_of(rule.egress.tracks, DirectFileOutput())
            single = TrackEgressRequest(room_name=room.name, track_id=track.sid, file=file)
            yield AutoStart(rule, track.sid, single)


def follows_people(rules: Sequence[AutoStartRule], room: Room) -> bool:
    """Whether any rule for the room depends on who publishes."""
    return any(
        rule.egress.HasField("participant") or rule.egress.HasField("tracks")
        for rule in _matching(rules, room)
    )


def _matching(rules: Sequence[AutoStartRule], room: Room) -> Iterator[AutoStartRule]:
    return (rule for rule in rules if fits(room.name, rule.rooms))


def _with_fields_of(source: Message, target: M) -> M:
    """Copies fields of the same names: LiveKit's automatic requests are parts of the requests that clients
    send."""
    newest = today.today(target)
    json_format.ParseDict(json_format.MessageToDict(today.today(source)), newest)
    return today.in_wheel(newest, type(target))


def _typed(tree: Any, kind: Any) -> Any:
    """Converts text to booleans where the message has them."""
    if not isinstance(tree, Mapping):
        return tree
    names = {name: field for field in kind.fields for name in (field.name, field.json_name)}
    return {key: _typed_value(value, names.get(key)) for key, value in tree.items()}


def _typed_value(value: Any, field: FieldDescriptor | None) -> Any:
    if field is None:
        return value
    if isinstance(value, list):
        return [_typed_value(each, field) for each in value]
    if field.type == FieldDescriptor.TYPE_BOOL and isinstance(value, str):
        return _FLAGS.get(value, value)
    return value if field.message_type is None else _typed(value, field.message_type)
