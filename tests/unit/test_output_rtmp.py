"""What an RTMP publisher says, and what it makes of what servers say."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openegress.output.live.rtmp import RtmpError, amf0, login
from openegress.output.live.rtmp import publisher as publishers
from openegress.output.live.rtmp.chunks import (
    MAX_CHANNELS,
    MAX_MESSAGE_BYTES,
    ChunkReader,
    ChunkWriter,
    MessageKind,
    RtmpMessage,
)
from openegress.output.live.rtmp.publisher import Publisher
from openegress.output.live.rtmp.tags import FlvTags
from openegress.output.live.rtmp.wire import Wire
from openegress.request.rtmp_url import parse

VALUES = st.recursive(
    st.none() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.dictionaries(st.text(min_size=1, max_size=9), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(VALUES, max_size=4))
def test_values_come_back(values: list[amf0.Value]) -> None:
    assert amf0.decode(amf0.encode(*values)) == values


@pytest.mark.parametrize(
    "data",
    [
        b"\x02\xff\xffab",
        b"\x0a\xff\xff\xff\xff",
        b"\x03\x00\x01a" * 1000,
        b"\x08" + bytes(4) + b"\x00\x01a\x63",
        b"\x11",
    ],
    ids=["long text", "long array", "deep", "unknown inside", "AMF3"],
)
def test_what_cannot_be_read_ends_the_values(data: bytes) -> None:
    assert amf0.decode(amf0.encode("onStatus", 0, None) + data) == ["onStatus", 0.0, None]


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("code=403 need auth; authmod=adobe", "?authmod=adobe&user=us"),
        (
            "authmod=adobe ] : ?reason=needauth&user=us&salt=SALT&challenge=CHAL&opaque=OPAQ",
            "?authmod=adobe&user=us&challenge=eb9b16f3&response=AANgLfB8nX/ThR4yh//VJw==&opaque=OPAQ",
        ),
        (
            "authmod=adobe ] : ?reason=needauth&user=us&salt=SALT&challenge=CHAL",
            "?authmod=adobe&user=us&challenge=c76a12ac&response=UG6fsNPcoY0PwRzNMOuPYg==",
        ),
        (
            "authmod=llnw ] : ?reason=needauth&user=us&nonce=NONCE",
            "?authmod=llnw&user=us&nonce=NONCE&cnonce=ee79d531&nc=00000001"
            "&response=5d4937b4e17ea849dd2f46d6839e4529",
        ),
        ("authmod=adobe ] : ?reason=authfailed", None),
        ("authmod=other ] : ?reason=needauth&user=us", None),
        ("no such application", None),
    ],
    ids=["asks", "opaque", "challenge", "llnw", "refuses", "unknown", "other"],
)
def test_logins_are_those_of_ffmpeg(description: str, expected: str | None) -> None:
    """What FFmpeg 5.1 answered to the same, with the same challenge of its own."""
    ours = (expected or "").partition("challenge=")[2][:8] or (expected or "").partition("cnonce=")[2][:8]
    with patch.object(login, "token_hex", lambda _: ours):
        assert login.answer(description, "us:pw", "live") == expected


def test_credentials_are_decoded_as_those_of_any_url() -> None:
    """A password with a slash can be written in no other way."""
    asked = "authmod=adobe ] : ?reason=needauth&user=u/s&salt=SALT&challenge=CHAL"
    with patch.object(login, "token_hex", lambda _: "c76a12ac"):
        encoded, plain = (login.answer(asked, text, "live") for text in ("u%2Fs:p%2Fw%25", "u/s:p/w%25"))
        other = login.answer(asked, "u/s:p/w", "live")
    assert encoded == plain != other
    assert encoded is not None and "user=u/s&" in encoded


def test_nobody_logs_in_without_a_name() -> None:
    assert login.answer("code=403 need auth; authmod=adobe", "", "live") is None


@given(
    bodies=st.lists(st.binary(max_size=700), min_size=1, max_size=5),
    cut=st.integers(1, 300),
    chunk_bytes=st.integers(1, 300),
)
def test_messages_come_back_however_they_are_cut(bodies: list[bytes], cut: int, chunk_bytes: int) -> None:
    writer, reader = ChunkWriter(), ChunkReader()
    data = writer.encode(RtmpMessage(MessageKind.CHUNK_SIZE, chunk_bytes.to_bytes(4)))
    writer.chunk_bytes = chunk_bytes
    for number, body in enumerate(bodies):
        time_ms = 0xFFFFF0 + number * 10  # past the times that a header has room for
        data += writer.encode(RtmpMessage(MessageKind.VIDEO, body, 6, 1, time_ms))
        data += writer.encode(RtmpMessage(MessageKind.COMMAND, body, 3))
    found = [each for at in range(0, len(data), cut) for each in reader.feed(data[at : at + cut])]
    assert [each.body for each in found] == [body for each in bodies for body in (each, each)]


def test_times_are_told_by_differences_and_in_full_where_they_go_back() -> None:
    writer = ChunkWriter()
    times_ms = [5, 45, 40, 40 + 0x1000000]
    heads = [writer.encode(RtmpMessage(MessageKind.AUDIO, b"a", 4, 1, each))[:-1] for each in times_ms]
    assert [head[0] >> 6 for head in heads] == [0, 1, 0, 1]
    assert [int.from_bytes(head[1:4]) for head in heads] == [5, 40, 40, 0xFFFFFF]
    assert heads[3][-4:] == struct.pack(">I", 0x1000000)


def test_a_frame_that_is_too_large_is_said_so() -> None:
    with pytest.raises(RtmpError, match="16 MB"):
        ChunkWriter().encode(RtmpMessage(MessageKind.VIDEO, bytes(0x1000000), 6))


@pytest.mark.parametrize(
    "data",
    [
        b"\x03" + bytes(3) + (MAX_MESSAGE_BYTES + 1).to_bytes(3) + b"\x14" + bytes(4),
        b"".join(
            bytes((0, n)) + bytes(3) + (9).to_bytes(3) + b"\x14" + bytes(5) for n in range(MAX_CHANNELS + 1)
        ),
    ],
    ids=["message", "channels"],
)
def test_what_is_announced_takes_no_memory(data: bytes) -> None:
    reader = ChunkReader()
    reader.feed(b"\x02" + bytes(5) + b"\x04\x01" + bytes(4) + struct.pack(">I", 1))
    with pytest.raises(RtmpError, match="more than it has to say"):
        reader.feed(data + bytes(9))


def test_a_message_that_was_given_up_is_forgotten() -> None:
    reader = ChunkReader()
    begun = b"\x05" + bytes(3) + (200).to_bytes(3) + b"\x14" + bytes(4) + b"x" * 128
    abort = b"\x02" + bytes(5) + b"\x04\x02" + bytes(4) + struct.pack(">I", 5)
    whole = b"\x05" + bytes(3) + (3).to_bytes(3) + b"\x14" + bytes(4) + b"abc"
    assert [each.body for each in reader.feed(begun + abort + whole)] == [b"abc"]


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    wire = Wire(ours, 0.2)
    with theirs:
        yield wire, theirs
        wire.close()


def test_a_peer_that_takes_or_says_nothing_is_stuck(pair: tuple[Wire, socket.socket]) -> None:
    wire, _ = pair
    with pytest.raises(TimeoutError):
        wire.receive()
    with pytest.raises(TimeoutError):
        wire.send(bytes(16 * 2**20))


def test_a_peer_that_has_gone_is_noticed(pair: tuple[Wire, socket.socket]) -> None:
    wire, theirs = pair
    assert wire.take() == b""
    theirs.close()
    with pytest.raises(ConnectionResetError):
        wire.take()


class _Kept(Publisher):
    """What it was to send."""

    def __init__(self) -> None:
        self.tags: list[tuple[int, int, bytes]] = []

    def send(self, kind: int, time_ms: int, body: bytes) -> None:
        self.tags.append((kind, time_ms, body))


@given(st.lists(st.integers(0, 40), unique=True, max_size=8))
def test_tags_are_found_however_they_are_written(cuts: list[int]) -> None:
    tags = [(18, 0, b"meta"), (9, 0x1234567, b"picture"), (8, 40, b"")]
    data = bytes(13)
    for kind, time_ms, body in tags:
        stamp = (time_ms & 0xFFFFFF).to_bytes(3) + bytes((time_ms >> 24,))
        data += bytes((kind,)) + len(body).to_bytes(3) + stamp + bytes(3) + body + bytes(4)
    kept = _Kept()
    sink = FlvTags(kept)
    for begin, end in pairwise([0, *sorted(cuts), len(data)]):
        assert sink.write(data[begin:end]) == end - begin
    assert kept.tags == tags


def command(*values: amf0.Value) -> bytes:
    return ChunkWriter().encode(RtmpMessage(MessageKind.COMMAND, amf0.encode(*values), 3))


def shaken(theirs: socket.socket) -> None:
    hello = theirs.recv(1 + 1536, socket.MSG_WAITALL)
    theirs.sendall(b"\x03" + bytes(1536) + hello[1:])
    theirs.recv(1536, socket.MSG_WAITALL)


def served(theirs: socket.socket, serve: Callable[[socket.socket], None]) -> threading.Thread:
    thread = threading.Thread(target=serve, args=(theirs,), daemon=True)
    thread.start()
    return thread


def test_a_server_may_ask_others_for_longer_than_a_peer_may_be_stuck(
    pair: tuple[Wire, socket.socket],
) -> None:
    wire, theirs = pair

    def serve(theirs: socket.socket) -> None:
        shaken(theirs)
        threading.Event().wait(0.5)  # of which the wire takes 0.2 for stuck
        theirs.sendall(command("_result", 1, None, None))
        theirs.sendall(command("_result", 4, None, 1))
        theirs.sendall(command("onStatus", 0, None, {"code": "NetStream.Publish.Start"}))

    server = served(theirs, serve)
    Publisher(wire, parse("rtmp://host/live/key")).open()
    server.join()


def test_a_server_that_never_says_whether_it_takes_the_stream_is_given_up(
    pair: tuple[Wire, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, theirs = pair
    monkeypatch.setattr(publishers, "OPEN_S", 0.4)
    server = served(theirs, shaken)
    with pytest.raises(RtmpError, match=r"had not taken the stream after 0\.4 s"):
        Publisher(wire, parse("rtmp://host/live/key")).open()
    server.join()


class _HangsUp(Wire):
    """Has the peer gone after the first that is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        if self.sent:
            raise BrokenPipeError
        self.sent.append(data)


def test_a_server_that_hangs_up_at_the_first_word_of_the_end_has_heard_all() -> None:
    wire = _HangsUp()
    Publisher(wire, parse("rtmp://host/live/key")).close()
    assert [amf0.decode(each.body)[0] for each in ChunkReader().feed(wire.sent[0])] == [
        "FCUnpublish",
        "deleteStream",
    ]
