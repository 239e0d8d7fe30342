"""A text of a request that is as long as a request may be keeps nobody waiting, whichever field it is in."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from livekit.protocol.egress import (
    ParticipantEgressRequest,
    RoomCompositeEgressRequest,
    TrackEgressRequest,
    WebEgressRequest,
)

from openegress.core.errors import MAX_MESSAGE_CHARS, EgressError
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request import orders
from openegress.request.validate import plan_of
from tests.unit.test_request_validate import CONTEXT

CHARS = 240_000
"""Of 256 KiB."""
PATTERNS = ("{time}", "{room_name}", "%41&", "a&", "../", "://", "max_duratio=1&", "\n", "[", "@")
WITHIN_S = 0.1
"""Of processor time. On the event loop it is what others wait for."""
BODIES: dict[str, Message] = {
    "room_composite": RoomCompositeEgressRequest(
        room_name="r", custom_base_url="http://a", layout="grid", file_outputs=[{"filepath": "x"}]
    ),
    "web": WebEgressRequest(url="http://a", file_outputs=[{"filepath": "x"}]),
    "track": TrackEgressRequest(room_name="r", track_id="TR_1"),
    "participant": ParticipantEgressRequest(room_name="r", identity="p", file_outputs=[{"filepath": "x"}]),
}

Path = tuple[Any, ...]
"""Descriptors of fields."""


def texts(of: Any, depth: int = 0) -> Iterator[Path]:
    """The way to each field of text."""
    for field in of.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (field,)
        elif field.message_type and depth < 3 and not field.message_type.GetOptions().map_entry:
            for rest in texts(field.message_type, depth + 1):
                yield (field, *rest)


def put(message: Any, path: Path, text: str) -> None:
    field, *rest = path
    value = getattr(message, field.name)
    is_repeated = not isinstance(value, Message | str)
    if rest:
        if not is_repeated:
            value.SetInParent()
        elif not value:
            value.add()
        put(value[0] if is_repeated else value, tuple(rest), text)
    elif is_repeated:
        value.append(text)
    else:
        setattr(message, field.name, text)


def cpu_s(body: str, path: Path, text: str) -> float:
    request = StartEgressRequest(egress_id="EG_abcdefghijkl")
    getattr(request, body).CopyFrom(BODIES[body])
    put(getattr(request, body), path, text)
    began_s = time.thread_time()
    try:
        plan_of(request, CONTEXT)
    except EgressError as refused:
        assert len(refused.message) <= MAX_MESSAGE_CHARS
    return time.thread_time() - began_s


@pytest.mark.parametrize("body", BODIES)
def test_each_field_of_a_request(body: str) -> None:
    slow = {
        (".".join(field.name for field in path), pattern): spent_s
        for path in texts(BODIES[body].DESCRIPTOR)
        for pattern in PATTERNS
        if (spent_s := cpu_s(body, path, pattern * (CHARS // len(pattern)))) > WITHIN_S
    }
    assert slow == {}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_query_of_a_layout(pattern: str) -> None:
    """Of a start, and of a change."""
    layout = "grid?" + pattern * (CHARS // len(pattern))
    path = tuple(each for each in RoomCompositeEgressRequest.DESCRIPTOR.fields if each.name == "layout")
    assert cpu_s("room_composite", path, layout) < WITHIN_S
    began_s = time.thread_time()
    with pytest.raises(EgressError):
        orders.in_layout(layout)
    assert time.thread_time() - began_s < WITHIN_S
