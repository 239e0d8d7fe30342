"""The bytes on the bus, written out by hand from the field numbers of psrpc's internal.proto."""

import pytest
from google.protobuf.empty_pb2 import Empty

from openegress.proto.psrpc_pb2 import ClaimRequest, ClaimResponse, Request, Response
from openegress.psrpc.envelope import seal, unseal


def field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (
            ClaimRequest(request_id="REQ_1", server_id="SRV_1", affinity=0.5),
            field(1, b"REQ_1") + field(2, b"SRV_1") + bytes.fromhex("1d0000003f"),
        ),
        (ClaimResponse(request_id="REQ_1", server_id="SRV_1"), field(1, b"REQ_1") + field(2, b"SRV_1")),
        (
            Request(
                request_id="REQ_1",
                client_id="CLI_1",
                sent_at=1,
                expiry=300,
                multi=True,
                raw_request=b"\x0a\x01x",
            ),
            field(1, b"REQ_1")
            + field(2, b"CLI_1")
            + bytes.fromhex("1801 20ac02 2801")
            + field(8, b"\x0a\x01x"),
        ),
        (
            Response(request_id="REQ_1", server_id="SRV_1", sent_at=1, error="no", code="not_found"),
            field(1, b"REQ_1")
            + field(2, b"SRV_1")
            + bytes.fromhex("1801")
            + field(5, b"no")
            + field(6, b"not_found"),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bytes(message: Request | Response | ClaimRequest | ClaimResponse, body: bytes) -> None:
    type_url = b"type.googleapis.com/internal." + type(message).__name__.encode()
    assert seal(message) == field(1, type_url) + field(2, body)
    assert unseal(seal(message), type(message)) == message


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xff", b"plain text", seal(Empty()), seal(ClaimResponse(request_id="x"))[:-3]],
    ids=["empty", "not protobuf", "text", "another message", "cut short"],
)
def test_other_payloads_are_skipped(payload: bytes) -> None:
    assert unseal(payload, ClaimResponse) is None
