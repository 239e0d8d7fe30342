"""What comes in over a connection, message after message: a room's signalling, packets, proxies' clients."""

import asyncio
import contextlib
from collections.abc import Awaitable, Coroutine
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp.test_utils import make_mocked_request
from aioice import Candidate
from aiortc.rtcsctptransport import RTCSctpTransport
from google.protobuf.message import DecodeError
from google_crc32c import value as crc32c
from livekit.protocol.rtc import SignalResponse

from openegress.api import recordings
from openegress.core.plan import Recorded
from openegress.core.units import MS
from openegress.output.sidecar.entries import entry_of
from openegress.request.layouts import parse as parse_layout_name
from openegress.room.event_queue import EventQueue
from openegress.room.events import SpeakersChanged
from openegress.room.media_path import candidate_in
from openegress.room.rtp import packets, rtcp
from openegress.room.rtp.frame_cipher import RoomCipher
from openegress.room.server_messages import ServerMessages
from openegress.room.signalling.roster import Roster
from openegress.room.subscriptions import Subscriptions
from openegress.room.transport.sctp_packet import is_sound
from openegress.room.unix_clock import UnixClock
from openegress.source.room.composite.layout_policy import LayoutPolicy
from openegress.source.room.composite.rectangles import Size
from openegress.source.room.observed_room import ObservedRoom
from openegress.source.room.selection import NOTHING
from openegress.source.room.track_policy import RoomState
from openegress.source.web.filtering_proxy import FilteringProxy, Refused, SocksReply
from openegress.storage import gateway
from testkit.sealed_frames import AtOnce
from tests.fuzz.registry import pieces, target
from tests.unit.test_room_receiver import TYPES, Bench


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _run(what: Coroutine[Any, Any, None]) -> None:
    _loop().run_until_complete(what)


async def _nothing() -> None: ...


def _unsent(**message: object) -> Awaitable[None]:
    return _nothing()


@target
def signal(data: bytes) -> None:
    """What a server says of a room, as events, as lines of sidecars, and as a picture of the room."""
    _run(_follow(pieces(data)))


async def _follow(messages: list[bytes]) -> None:
    clock, events, cipher = UnixClock(), EventQueue(), RoomCipher([], AtOnce())
    roster = Roster("recorder")
    subscriptions = Subscriptions(roster, cipher, clock, _unsent, events.put)
    listener = ServerMessages(roster, subscriptions, cipher, events, clock, _unsent)
    for each in messages:
        with contextlib.suppress(DecodeError):
            message = SignalResponse.FromString(each)
            if message.WhichOneof("message") == "join":
                listener.on_join(message.join)
            else:
                listener.on_message(message)
    events.close()
    await listener.close()
    observed = ObservedRoom(Recorded())
    speakers: tuple[str, ...] = ()
    async for event in events.stream():
        if isinstance(event, SpeakersChanged):
            speakers = event.identities
        for told in observed.seen(event):
            if (entry := entry_of(told, 0)) is not None:
                msgspec.json.encode(entry)
    policy = LayoutPolicy(parse_layout_name("grid"), Size(640, 360), 30)
    policy.select(RoomState(roster.tracks(), roster.participants(), speakers), NOTHING)
    await subscriptions.close()


@target
def candidate(data: bytes) -> None:
    line = candidate_in(data.decode(errors="replace"))
    with contextlib.suppress(ValueError):
        Candidate.from_sdp(line.removeprefix("candidate:"))


class _Wire:
    state = "connected"
    _role = "client"

    async def _send_data(self, data: bytes) -> None:
        """Answers go nowhere."""

    def _register_data_receiver(self, receiver: object) -> None: ...

    def _unregister_data_receiver(self, receiver: object) -> None: ...


@target
def sctp(data: bytes) -> None:
    """Datagrams of data channels, with the sums and the tag that they must have."""
    _run(_associate(pieces(data)))


async def _associate(datagrams: list[bytes]) -> None:
    """Whatever aiortc raises drops a datagram (DataChannels): a find is what takes too long, or too much."""
    sctp = RTCSctpTransport(_Wire())  # type: ignore[arg-type]
    await sctp.start(None, 5000)
    tag = sctp._local_verification_tag.to_bytes(4)
    for each in datagrams:
        if len(each) < 16:
            continue
        head = each[:4] + (bytes(4) if each[12] == 1 else tag)
        sum_ = crc32c(head + bytes(4) + each[12:]).to_bytes(4, "little")
        if is_sound(packet := head + sum_ + each[12:]):
            with contextlib.suppress(Exception):
                await sctp._handle_data(packet)
    await sctp.stop()


@target
def track_packets(data: bytes) -> None:
    """Packets of one track, of each codec: the first byte says how much later each comes."""
    parts = pieces(data)
    for number in TYPES:
        bench = Bench(number)
        for each in parts:
            bench.now_ns += each[0] * MS
            packet = packets.parse(each[1:])
            if packet is not None:
                bench.receiver.rtp(packet, bench.now_ns)
            for report in rtcp.sender_reports(each[1:]):
                bench.receiver.sender_report(report, bench.now_ns)
            for due_ns in bench.wishes.due_ns[-1:]:
                bench.receiver.due(due_ns)
        bench.receiver.close()


class _DeniesAll(FilteringProxy):
    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise Refused(SocksReply.NOT_ALLOWED, f"{host}:{port}")


class _Writer:
    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...


def _reader(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(gateway.CHUNK_BYTES, _loop())
    reader.feed_data(data)
    reader.feed_eof()
    return reader


@target
def socks_request(data: bytes) -> None:
    """Of a page's browser."""
    with contextlib.suppress(OSError, EOFError):
        _run(_DeniesAll(())._serve(_reader(data), _Writer()))  # type: ignore[arg-type]


@target
def proxy_message(data: bytes) -> None:
    """The head of a storage's answer, and of a request to one."""

    async def read() -> None:
        head = await gateway._Head.read(_reader(data))
        head.forwarded(head.first, gateway.CLOSE)
        gateway._origin(urlsplit(head.first))
        assert head.status is not None

    with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, ValueError, IndexError):
        _run(read())


@target
def range_header(data: bytes) -> None:
    text = data.decode("latin-1").replace("\n", " ").replace("\r", " ")
    request = make_mocked_request("GET", "/", headers={"Range": text, "If-Range": '"1"'})
    for size in (0, 1, 10**13):
        wanted = recordings._range(request, '"1"', size)
        assert wanted is None or 0 <= wanted.start < max(wanted.stop, 1) <= max(size, 1)
