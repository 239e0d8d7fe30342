"""Every parser of bytes that others send, by name: what it may raise is named, all else is a find.

A target takes a few milliseconds at most; one that takes seconds is a find as well.
"""

import asyncio
import base64
import contextlib
import math
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import cache
from typing import Any

import msgspec
from aioice import Candidate
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from livekit.protocol.egress import (
    ListEgressRequest,
    RoomCompositeEgressRequest,
    StopEgressRequest,
    TrackEgressRequest,
    UpdateStreamRequest,
    WebEgressRequest,
)
from livekit.protocol.models import DataPacket
from yarl import URL

from openegress.api import room_events, wire_json
from openegress.api.auth import Unauthorized, verify
from openegress.config.load import load
from openegress.core import ipc, key_service
from openegress.core.codecs import AudioCodec, Container, VideoCodec
from openegress.core.errors import EgressError
from openegress.core.room_keys import RoomKey
from openegress.media import duration, fragment_index, mp4, plain_mp4
from openegress.output.file.finalise import finalise
from openegress.output.hls import layout, recover
from openegress.output.sidecar.conversation import Conversation
from openegress.proto import psrpc_pb2
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.psrpc import envelope
from openegress.request import auto_start, layouts, orders
from openegress.request.options import (
    HEADER,
    KEYS,
    carried,
    carry,
    layout_of_ours,
    layout_of_page,
    of_query,
    of_room_metadata,
)
from openegress.request.orders import layout_in
from openegress.request.validate import plan_of
from openegress.room.events import DataArrived
from openegress.room.frame_keys import Undecryptable
from openegress.room.rtp import packets, rtcp
from openegress.room.rtp.depacketise import MalformedPayload, has_end, join_video, opus, red
from openegress.room.rtp.frame_cipher import RoomCipher
from openegress.room.signalling import sdp
from openegress.room.transport.dtls import DtlsError, DtlsSrtp, datagrams
from openegress.room.transport.fingerprint import Fingerprint
from openegress.room.transport.ice import IceConnection
from openegress.source.room_orders import room_orders
from openegress.source.web.cdp import Splitter
from openegress.source.web.page_room import PageRoom
from openegress.storage import failures
from openegress.store import outbox
from tests.fuzz import asked_targets, left_targets, session_targets
from tests.fuzz.registry import TARGETS, in_file, pieces, recovery_memory, target
from tests.unit.test_request_auto_start import WHOLE
from tests.unit.test_request_validate import CONTEXT

__all__ = ["TARGETS", "asked_targets", "left_targets", "session_targets"]

# --- a room


class _Nowhere(asyncio.DatagramTransport):
    def sendto(self, data: bytes, addr: object = None) -> None:  # type: ignore[override]
        """Answers go nowhere."""


@cache
def _ice() -> tuple[asyncio.AbstractEventLoop, Any]:
    loop = asyncio.new_event_loop()

    async def make() -> Any:
        from openegress.room.transport.ice import _Protocol

        protocol = _Protocol(IceConnection(on_data=lambda *_: None, on_lost=lambda _: None, loopback=False))
        protocol.connection_made(_Nowhere())
        protocol.local_candidate = Candidate("1", 1, "udp", 1, "192.0.2.9", 9, "host")
        return protocol

    return loop, loop.run_until_complete(make())


@target
def stun(data: bytes) -> None:
    _, protocol = _ice()
    protocol.datagram_received(data, ("192.0.2.1", 9))


@target
def dtls(data: bytes) -> None:
    """Datagrams of a server in a handshake."""
    sent: list[bytes] = []
    client = DtlsSrtp(sent.append)
    client.start(Fingerprint("sha-256", "00"))
    with contextlib.suppress(DtlsError):
        for each in pieces(data):
            client.received(each)
    client.close()
    datagrams(data, 1200)


@target
def rtp_packet(data: bytes) -> None:
    packet = packets.parse(data)
    if packet is not None:
        packets.unwrap_rtx(packet)


@target
def rtcp_packet(data: bytes) -> None:
    rtcp.sender_reports(data)


@target
def redundant_audio(data: bytes) -> None:
    with contextlib.suppress(MalformedPayload):
        for block in red.split(data):
            opus.duration_samples(block.data)


class _First(Executor):
    """Only the first thing is done, at once: a key, and none of its ratchet steps."""

    def __init__(self) -> None:
        self._is_new = True

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self._is_new:
            self._is_new = False
            future.set_result(call(*args, **kwargs))
        return future


@cache
def _cipher() -> RoomCipher:
    return RoomCipher([RoomKey(0, b"known to nobody here")], _First())


def _join(codec: VideoCodec, data: bytes) -> None:
    payloads = pieces(data)
    if payloads:
        for read in (join_video, has_end):
            with contextlib.suppress(MalformedPayload):
                read(codec, payloads)


@target
def h264(data: bytes) -> None:
    _join(VideoCodec.H264, data)


@target
def h265(data: bytes) -> None:
    _join(VideoCodec.H265, data)


@target
def vp8(data: bytes) -> None:
    _join(VideoCodec.VP8, data)


@target
def vp9(data: bytes) -> None:
    _join(VideoCodec.VP9, data)


@target
def av1(data: bytes) -> None:
    _join(VideoCodec.AV1, data)


@target
def encrypted_frame(data: bytes) -> None:
    """As of each codec, by somebody who has no key."""
    payloads = pieces(data)
    if payloads:
        for codec in VideoCodec:
            with contextlib.suppress(MalformedPayload, Undecryptable):
                _cipher().of("alice").join(codec, payloads, 0)
        with contextlib.suppress(Undecryptable):
            _cipher().of("alice").open(AudioCodec.OPUS, payloads[0], 0)


@target
def offer(data: bytes) -> None:
    with contextlib.suppress(sdp.SdpError):
        sdp.answer(sdp.parse(data.decode(errors="replace")), "u", "p", Fingerprint("sha-256", "00"))


@target
def data_packet(data: bytes) -> None:
    """What participants send by data channels: messages, one after another."""
    conversation = Conversation()
    for payload in pieces(data):
        with contextlib.suppress(DecodeError):
            packet = DataPacket.FromString(payload)
            for entry in conversation.entries(DataArrived("somebody", packet, 1)):
                msgspec.json.encode(entry)


@target
def page_socket(data: bytes) -> None:
    """What a page receives on a WebSocket to a room's server, as its recorder overhears it."""
    room = PageRoom("ws://livekit", "token", "EG_1")
    room.take("Network.webSocketCreated", {"requestId": "1", "url": "ws://livekit/rtc"})
    response = {"opcode": 2, "payloadData": base64.b64encode(data).decode()}
    for told in room.take("Network.webSocketFrameReceived", {"requestId": "1", "response": response}):
        room_orders(told, has_layout=False, of_page=True)


# --- files that were left


@target
def mp4_boxes(data: bytes) -> None:
    with in_file(data, "a.mp4") as path, contextlib.suppress(mp4.Mp4Error):
        mp4.whole_fragments_bytes(path)
        fragment_index.is_fragmented(path)
        plain_mp4.plain_copy(path, path.with_suffix(".new"))
        plain_mp4.make_plain(path)


def _finalise(data: bytes, container: Container) -> None:
    with recovery_memory(), in_file(data, f"a.{container.value}") as path:
        finalise(path, container)
        if duration.duration_ns(path) or duration.holds_media(path):
            duration.has_video(path)


@target
def mp4_recovery(data: bytes) -> None:
    _finalise(data, Container.MP4)


@target
def ogg_recovery(data: bytes) -> None:
    _finalise(data, Container.OGG)


@target
def matroska_recovery(data: bytes) -> None:
    _finalise(data, Container.MKV)


@target
def mcap_recovery(data: bytes) -> None:
    _finalise(data, Container.MCAP)


@target
def webm_recovery(data: bytes) -> None:
    _finalise(data, Container.WEBM)


@target
def playlist(data: bytes) -> None:
    text = data.decode(errors="replace")
    entries = recover.parse_entries(text)
    recover.promised(text, entries, 6)
    layout.made_bytes(text)


# --- callers, the bus, the browser, the handler


REQUESTS = (
    RoomCompositeEgressRequest,
    WebEgressRequest,
    TrackEgressRequest,
    ListEgressRequest,
    UpdateStreamRequest,
    StopEgressRequest,
)


@target
def twirp_json(data: bytes) -> None:
    for kind in REQUESTS:
        with contextlib.suppress(ValueError, EgressError):
            wire_json.dump(wire_json.parse(data, kind, has_options=True))


@target
def twirp_protobuf(data: bytes) -> None:
    for kind in REQUESTS:
        with contextlib.suppress(DecodeError, EgressError):
            wire_json.dump(wire_json.parse_binary(data, kind))
    with contextlib.suppress(DecodeError, EgressError):
        plan_of(StartEgressRequest.FromString(data), CONTEXT)


@target
def options(data: bytes) -> None:
    text = data.decode("latin-1")
    with contextlib.suppress(EgressError):
        found = of_query(text, HEADER)
        arrived = carried(carry(WebEgressRequest(), found))
        for key in KEYS:
            asked = getattr(found, key)
            assert asked is None or math.isclose(getattr(arrived, key), asked, abs_tol=1e-6)
    for take_apart in (layout_of_page, layout_of_ours):
        with contextlib.suppress(EgressError):
            assert len(take_apart(text).query) <= len(text)


@target
def token(data: bytes) -> None:
    with contextlib.suppress(Unauthorized):
        verify("Bearer " + data.decode("latin-1"), None, {"key": "secret" * 8})


@target
def bus_envelope(data: bytes) -> None:
    for kind in (psrpc_pb2.Request, psrpc_pb2.Response, psrpc_pb2.ClaimRequest, psrpc_pb2.ClaimResponse):
        envelope.unseal(data, kind)


@target
def handler_message(data: bytes) -> None:
    decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(ipc.ToWorker)
    with contextlib.suppress(ValueError):
        for message in ipc.Framer().feed(data):
            decoder.decode(message)


@target
def browser_message(data: bytes) -> None:
    from openegress.source.web.cdp import _whole_characters

    for raw in Splitter().feed(data):
        with contextlib.suppress(ValueError):
            _whole_characters(raw)


@target
def storage_answer(data: bytes) -> None:
    text = data.decode(errors="replace")
    answer = failures.read(text)
    failures.is_transient(answer)
    for status in (200, 301, 400, 501):
        answer = failures.answer_of(status, text)
        failures.region_named(answer, text)
        failures.refuses_checksums(answer, text)
        failures.asks_for_md5(answer, text)


@target
def webhook_answer(data: bytes) -> None:
    """The Location of a redirect, which a receiver gives."""
    with contextlib.suppress(ValueError):
        outbox.redirected(URL("https://hooks.example/a?b=c"), data.decode("latin-1"))


@target
def key_answer(data: bytes) -> None:
    """Of a key service. What is wrong is told in words of ours: nothing that it sent is in them."""
    try:
        answer = key_service.answer_of(data)
    except ValueError as error:
        assert error.__suppress_context__ or error.__context__ is None
        return
    assert len(answer.keys) <= key_service.MAX_KEYS
    room = RoomCipher((), _First())
    room.take(answer.keys)
    room.ring("ann")


@target
def room_event(data: bytes) -> None:
    """A webhook of LiveKit, from somebody who has its key."""
    with contextlib.suppress(json_format.ParseError, UnicodeDecodeError, RecursionError):
        event = room_events.parse(data)
        rules = [auto_start.rule_of("*", WHOLE)]
        wanted = [
            *auto_start.of_room(rules, event.room),
            *auto_start.of_track(rules, event.room, event.participant, event.track),
        ]
        for each in wanted:
            with contextlib.suppress(EgressError):
                plan_of(each.request(), CONTEXT)


@target
def own_metadata(data: bytes) -> None:
    """Of the recorder, which whoever administers the room can set."""
    name = layout_in(data.decode(errors="replace"))
    if name is not None:
        layouts.parse(name)
        orders.in_metadata(name)
    with contextlib.suppress(EgressError):
        orders.in_layout(data.decode(errors="replace"), of_page=True)


@target
def room_metadata(data: bytes) -> None:
    """Of a room, which backends of any kind write."""
    of_room_metadata(data.decode(errors="replace"))


@target
def configuration(data: bytes) -> None:
    with contextlib.suppress(EgressError):
        load(body=data.decode(errors="replace"), environ={})
