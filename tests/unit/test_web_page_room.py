"""What a template's recorder overhears of its room."""

import base64

import pytest
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.rtc import JoinResponse, ParticipantUpdate, SignalResponse

from openegress.core.looks import Caption
from openegress.core.values import Seconds
from openegress.request.options import Options
from openegress.request.orders import AddMarker, Order, PauseOrder, SetOptions
from openegress.room.events import OwnMetadataChanged, PauseAttributeChanged
from openegress.source import Notice, OrderRequested
from openegress.source.room_orders import OwnParticipantChange, room_orders
from openegress.source.web.page_room import MAX_SOCKETS, PageRoom

OURS = "ws://livekit:7880/rtc/v1?access_token=abc&auto_subscribe=1"


class Overheard:
    def __init__(self, ws_url: str = "ws://livekit:7880") -> None:
        self.room = PageRoom(ws_url, "the-token", "EG_1")

    def opens(self, url: str, socket: str = "1") -> None:
        assert self.room.take("Network.webSocketCreated", {"requestId": socket, "url": url}) == []

    def hears(
        self, message: SignalResponse | bytes, socket: str = "1", opcode: int = 2
    ) -> list[OwnParticipantChange]:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        response = {"opcode": opcode, "payloadData": base64.b64encode(data).decode()}
        return self.room.take("Network.webSocketFrameReceived", {"requestId": socket, "response": response})


def update(metadata: str = "", paused: str = "", identity: str = "EG_1") -> SignalResponse:
    attributes = {"egress.paused": paused} if paused else {}
    info = ParticipantInfo(identity=identity, metadata=metadata, attributes=attributes)
    return SignalResponse(update=ParticipantUpdate(participants=[ParticipantInfo(identity="ann"), info]))


def test_the_recorder_hears_what_its_page_is_told_of_itself() -> None:
    heard = Overheard()
    heard.opens(OURS)
    join = SignalResponse(join=JoinResponse(participant=ParticipantInfo(identity="EG_1")))
    assert heard.hears(join) == []
    assert heard.hears(update('{"layout": "@pause"}')) == [OwnMetadataChanged('{"layout": "@pause"}')]
    assert heard.hears(update('{"layout": "@pause"}')) == []
    assert heard.hears(update('{"layout": "@pause"}', "true")) == [PauseAttributeChanged(True)]
    assert heard.hears(update("{}", identity="ben")) == []
    assert heard.hears(join) == []  # it has joined again, as somebody of whom nothing was asked
    assert heard.hears(update('{"layout": "@pause"}')) == [OwnMetadataChanged('{"layout": "@pause"}')]


@pytest.mark.parametrize(
    ("url", "is_ours"),
    [
        ("ws://livekit:7880/rtc?access_token=new", True),
        ("wss://livekit/rtc", False),
        ("ws://chat.example/rtc?access_token=abc", False),
        ("wss://eu.example/rtc?access_token=the-token", True),
        ("ws://[", False),
    ],
)
def test_only_the_server_of_the_room_is_believed(url: str, is_ours: bool) -> None:
    heard = Overheard()
    heard.opens(url)
    assert bool(heard.hears(update("x"))) is is_ours


def test_what_is_no_message_says_nothing() -> None:
    heard = Overheard()
    heard.opens(OURS)
    assert heard.hears(b"\xff" * 40) == []
    assert heard.hears(update("x"), opcode=1) == []
    assert heard.hears(update("x"), socket="2") == []
    closed = heard.room.take("Network.webSocketClosed", {"requestId": "1"})
    assert closed == [] and heard.hears(update("x")) == []


def test_a_page_that_opens_sockets_without_end_takes_no_memory() -> None:
    heard = Overheard()
    for number in range(3 * MAX_SOCKETS):
        heard.opens(OURS, str(number))
    assert len(heard.room._sockets) == MAX_SOCKETS


@pytest.mark.parametrize(
    ("layout", "order"),
    [
        ("@pause", PauseOrder.PAUSE),
        ("@marker=Part%202", AddMarker("Part 2")),
        ("mine?theme=dark", None),
        ("mine?theme=dark&max_duration=2h", SetOptions(Options(max_duration=Seconds(7200)))),
        ("mine?text=x", SetOptions(Options(text=Caption("x")))),
    ],
)
def test_orders_to_a_page(layout: str, order: Order | None) -> None:
    told = OwnMetadataChanged(f'{{"layout": "{layout}"}}')
    asked = room_orders(told, has_layout=False, of_page=True)
    assert asked.events == (() if order is None else (OrderRequested(order),))


def test_looks_of_a_room_in_a_layout_are_not_ordered_too() -> None:
    told = OwnMetadataChanged('{"layout": "?text=x&max_duration=2h"}')
    (limit,) = room_orders(told).events
    assert limit == OrderRequested(SetOptions(Options(max_duration=Seconds(7200))))
    (both,) = room_orders(told, has_layout=False).events
    assert both == OrderRequested(SetOptions(Options(max_duration=Seconds(7200), text=Caption("x"))))


def test_what_cannot_be_done_is_told() -> None:
    (notice,) = room_orders(OwnMetadataChanged('{"layout": "?txet=x"}')).events
    assert isinstance(notice, Notice) and "did you mean text?" in str(notice.fields["error"])
