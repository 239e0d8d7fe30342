"""What callers ask for beside a start, names that others chose, where they are drawn and shown, and what the
servers say that a stream is sent to."""

import contextlib

from openegress.api import wire_json
from openegress.api.bodies import TooLarge, unpacked
from openegress.api.rooms import _twirp_error
from openegress.core import shown_url
from openegress.core.errors import EgressError
from openegress.media import text
from openegress.output.live.rtmp import RtmpError, amf0, login
from openegress.output.live.rtmp.chunks import MAX_CHANNELS, MAX_MESSAGE_BYTES, ChunkReader
from openegress.proto.openegress_control_pb2 import AddMarkerRequest, ClipRequest, SetOptionsRequest
from openegress.request import clips, options, orders, stream_urls
from tests.fuzz.registry import target

MAX_BODY_BYTES = 100_000


@target
def control_json(data: bytes) -> None:
    with contextlib.suppress(ValueError, EgressError):
        marker = wire_json.parse(data, AddMarkerRequest)
        assert orders.parse(str(added := orders.add_marker(marker.name, marker.ago))) == added
    with contextlib.suppress(ValueError, EgressError):
        asked = options.of_json(dict(wire_json.parse(data, SetOptionsRequest).options), "options")
        orders.parse(str(orders.set_options(asked)))
    with contextlib.suppress(ValueError, EgressError):
        clips.wish_of(wire_json.parse(data, ClipRequest))


@target
def stream_url(data: bytes) -> None:
    url = data.decode(errors="replace")
    for hide in (stream_urls.redact, shown_url.redact_endpoint, shown_url.redact_page):
        assert hide(hide(url)) == hide(url)
    with contextlib.suppress(EgressError):
        kind = stream_urls.kind_of(url)
        dialled = stream_urls.target(url, kind)
        assert stream_urls.shown_alike(dialled.url, dialled.redacted)
        if kind is stream_urls.StreamKind.WEBSOCKET:
            stream_urls.websocket(url)


@target
def packed_body(data: bytes) -> None:
    with contextlib.suppress(TooLarge, EgressError):
        assert len(unpacked(data, MAX_BODY_BYTES)) <= MAX_BODY_BYTES


@target
def drawn_name(data: bytes) -> None:
    picture = text.draw(data.decode(errors="replace"), 20, (255, 255, 255), 200)
    assert picture.width <= 400 and picture.height <= 40


@target
def livekit_answer(data: bytes) -> None:
    _twirp_error(data)


@target
def rtmp_answer(data: bytes) -> None:
    whole, pieces = ChunkReader(), ChunkReader()
    found = []
    with contextlib.suppress(RtmpError):
        found = whole.feed(data)
        assert [each for at in range(len(data)) for each in pieces.feed(data[at : at + 1])] == found
    assert all(len(each.body) <= MAX_MESSAGE_BYTES for each in found)
    assert len(whole._channels) <= MAX_CHANNELS + 1
    for each in found:
        words = amf0.decode(each.body)
        login.answer(str(words), "user:password", "live")
