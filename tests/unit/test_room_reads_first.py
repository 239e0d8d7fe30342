"""What has arrived of media is taken before what the server says of them, which comes another way."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.rtc import (
    LeaveRequest,
    ParticipantUpdate,
    SessionDescription,
    SignalResponse,
)

from openegress.room.connection import RoomConnection, SessionOptions

OFFER = (Path(__file__).parent / "data/sdp/unpublished.sdp").read_text()


class Heard:
    """A path on which packets wait to be read, and a listener to what the server says."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.transport = SimpleNamespace(drain=lambda: self.steps.append("read"))

    def is_restarted_by(self, _: object) -> bool:
        return False

    async def answer(self, *_: object) -> None:
        self.steps.append("answered")

    async def close(self) -> None:
        self.steps.append("closed")

    is_up = False

    def on_offer(self, _: object) -> None:
        self.steps.append("offered")

    def on_message(self, _: object) -> None:
        self.steps.append("told")


def connection(heard: Heard) -> RoomConnection:
    made = RoomConnection("ws://127.0.0.1:1", cast(Any, None), cast(Any, heard), options=SessionOptions())
    made._path = cast(Any, heard)
    return made


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        (SignalResponse(offer=SessionDescription(type="offer", sdp=OFFER)), ["read", "offered", "answered"]),
        (
            SignalResponse(update=ParticipantUpdate(participants=[ParticipantInfo(sid="PA")])),
            ["read", "told"],
        ),
        (SignalResponse(leave=LeaveRequest()), ["read"]),
    ],
    ids=["tracks", "participants", "leave"],
)
async def test_what_came_before_the_server_ended_a_track_is_read(
    said: SignalResponse, steps: list[str]
) -> None:
    heard = Heard()
    made = connection(heard)
    await made._handle(said)
    assert heard.steps == steps
    await made.close()


async def test_what_came_before_the_connection_ended_is_read() -> None:
    heard = Heard()
    await connection(heard).close()
    assert heard.steps == ["read", "closed"]
