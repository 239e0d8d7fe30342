"""Chat, transcriptions and data: from what arrives by data channels to the files of them."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from livekit.protocol.models import (
    ChatMessage,
    DataPacket,
    DataStream,
    Transcription,
    TranscriptionSegment,
    UserPacket,
)

from openegress.core.routes import DataRoute
from openegress.core.sidecars import Sidecar
from openegress.core.units import S
from openegress.output.sidecar import entries
from openegress.output.sidecar.conversation import MAX_STREAMS, Conversation
from openegress.output.sidecar.entries import MAX_TEXT_CHARS, LogEntry
from openegress.output.sidecar.media_time import MediaTime
from openegress.output.sidecar.render import render
from openegress.output.sidecar.transcript import spans_s, transcript
from openegress.room.events import DataArrived
from tests.unit.test_output_sidecar import STARTED, ZERO_NS, at, kept

Packet = dict[str, Any]


def header(topic: str, stream: str = "s", **more: Any) -> Packet:
    text = DataStream.TextHeader(**more.pop("text_header", {}))
    return {"stream_header": DataStream.Header(stream_id=stream, topic=topic, text_header=text, **more)}


def chunk(text: str | bytes, stream: str = "s") -> Packet:
    content = text.encode() if isinstance(text, str) else text
    return {"stream_chunk": DataStream.Chunk(stream_id=stream, content=content)}


def trailer(stream: str = "s", **attributes: str) -> Packet:
    named = {f"lk.{key}": value for key, value in attributes.items()}
    return {"stream_trailer": DataStream.Trailer(stream_id=stream, attributes=named)}


def user(payload: bytes, topic: str = "") -> Packet:
    return {"user": UserPacket(payload=payload, topic=topic)}


def heard(*packets: Packet, topics: tuple[str, ...] = ()) -> list[LogEntry]:
    """From ada, one each second."""
    conversation = Conversation(topics)
    return [
        entry
        for number, packet in enumerate(packets, 1)
        for entry in conversation.entries(DataArrived("ada", DataPacket(**packet), at(number)))
    ]


def deflated(text: str) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(text.encode()) + packer.flush()


CHAT = "lk.chat"


@pytest.mark.parametrize(
    ("packets", "expected"),
    [
        ([header(CHAT), chunk("Hi "), chunk("all"), trailer()], [("s", "create", "Hi all")]),
        ([header(CHAT, inline_content=b"Hi")], [("s", "create", "Hi")]),
        ([header(CHAT, inline_content=deflated("Hi" * 99), compression=1)], [("s", "create", "Hi" * 99)]),
        (
            [header(CHAT, compression=1), chunk(deflated("ä")[:2]), chunk(deflated("ä")[2:]), trailer()],
            [("s", "create", "ä")],
        ),
        ([header(CHAT, compression=1), chunk(b"\xff\xff\xff"), trailer()], []),
        ([header(CHAT, inline_content=b"Hi", compression=9)], []),
        ([header(CHAT), chunk(b"\xc3"), chunk(b"\xa4"), trailer()], [("s", "create", "ä")]),
        ([header(CHAT, text_header={"operation_type": 2}), trailer()], [("s", "delete", "")]),
        ([header(CHAT, text_header={"operation_type": 99}), trailer()], [("s", "create", "")]),
        ([chunk("nobody began this"), trailer()], []),
        ([header(CHAT), chunk("and nobody ended this")], []),
        ([{"chat_message": ChatMessage(id="1", message="old")}], [("1", "create", "old")]),
        ([{"chat_message": ChatMessage(id="1", message="new", edit_timestamp=2)}], [("1", "update", "new")]),
        ([{"chat_message": ChatMessage(id="1", deleted=True)}], [("1", "delete", "")]),
        ([user(b'{"id": "7", "message": "json"}', "lk-chat-topic")], [("7", "create", "json")]),
        ([user(b'{"id": "\\udfff", "message": "\\ud83d"}', "lk-chat-topic")], [("?", "create", "?")]),
        ([user(b'{"id": "7", "message": "twice", "ignoreLegacy": true}', "lk-chat-topic")], []),
        (
            [
                user(b"{", "lk-chat-topic"),
                user(b"[]", "lk-chat-topic"),
                user(b'{"message": 3}', "lk-chat-topic"),
            ],
            [],
        ),
    ],
)
def test_chat(packets: list[Packet], expected: list[tuple[str, str, str]]) -> None:
    found = [entry for entry in heard(*packets) if entry.event == entries.CHAT]
    assert [(e.fields["id"], e.fields["operation"], e.fields["message"]) for e in found] == expected
    assert all(entry.fields["identity"] == "ada" for entry in found)


def test_an_agent_sends_the_pieces_of_a_stream_in_its_own_name() -> None:
    conversation = Conversation()
    said = [
        entry
        for identity, packet in (("ada", piece("s", "A")), ("agent", chunk("Hi")), ("mallory", chunk("no")))
        for entry in conversation.entries(
            DataArrived(
                identity,
                DataPacket(**packet, participant_sid="PA_m" if identity == "mallory" else "PA_agent"),
                0,
            )
        )
    ]
    assert [(each.fields["identity"], each.fields["text"]) for each in said] == [("ada", ""), ("ada", "Hi")]


def test_a_message_is_said_when_its_first_piece_arrives() -> None:
    (said,) = heard(header(CHAT), chunk("Hi"), chunk(" all"), trailer())
    assert said.at_ns == at(1)


@pytest.mark.parametrize(
    ("topics", "expected"), [((), ["a", "slides.1"]), (("slides*",), ["slides.1"]), (("x", "a"), ["a"])]
)
def test_data_of_chosen_topics(topics: tuple[str, ...], expected: list[str]) -> None:
    binary = [user(b"\xff", "a"), user(b"text", "slides.1")]
    streamed = [header("a"), chunk("b"), trailer(), header("slides.1"), trailer()]
    for packets in (binary, streamed):
        found = heard(*packets, topics=topics)
        assert [entry.fields["topic"] for entry in found] == expected


def test_what_nobody_ended_is_told_at_the_end() -> None:
    """Its sender has left, or still sends. A transcription has told its pieces already."""
    conversation = Conversation()
    packets = [header(CHAT), chunk("I thi"), header("poll", "t"), chunk("y", "t"), header("poll", "u")]
    packets += [header(CHAT, "x", compression=1), chunk(b"\xff\xff", "x"), piece("v", "A"), chunk("So", "v")]
    for packet in packets:
        conversation.entries(DataArrived("ada", DataPacket(**packet), at(1)))
    chat, data = conversation.rest()
    assert (chat.at_ns, chat.fields["message"], chat.fields["incomplete"]) == (at(1), "I thi", True)
    assert (data.fields["topic"], data.fields["text"], data.fields["incomplete"]) == ("poll", "y", True)
    assert conversation.rest() == []


def test_a_file_that_somebody_sends_is_not_kept() -> None:
    sent = DataStream.Header(stream_id="s", topic="files", byte_header=DataStream.ByteHeader(name="f"))
    assert heard({"stream_header": sent}, chunk(b"x" * 1000), trailer()) == []


def segments(*packets: Packet) -> list[tuple[float, float, str, bool]]:
    lines = [STARTED, *heard(*packets)]
    time = MediaTime.of(lines, at(60))
    return [(time.s(e.begin_ns), time.s(e.end_ns), e.text, e.final) for e in transcript(lines)]


def piece(stream: str, segment: str, final: bool = False) -> Packet:
    attributes = {"lk.segment_id": segment, "lk.transcription_final": str(final).lower()}
    return header("lk.transcription", stream, attributes=attributes)


def old(number: str, text: str, final: bool) -> Packet:
    segment = TranscriptionSegment(id=number, text=text, final=final)
    return {"transcription": Transcription(transcribed_participant_identity="ada", segments=[segment])}


@pytest.mark.parametrize(
    ("packets", "expected"),
    [
        # Of an agent that speaks: one stream that grows.
        (
            [
                piece("s", "A"),
                chunk("How "),
                chunk("are "),
                chunk("you?"),
                trailer(transcription_final="true"),
            ],
            [(1, 4, "How are you?", True)],
        ),
        # Of a person: a stream for each time that it is understood better.
        (
            [
                piece("1", "A"),
                chunk("How wa", "1"),
                trailer("1"),
                piece("2", "A", True),
                chunk("How are", "2"),
            ],
            [(1, 5, "How are", True)],
        ),
        # Interrupted before the better text came: the former one counts.
        ([piece("1", "A"), chunk("How wa", "1"), trailer("1"), piece("2", "A")], [(1, 2, "How wa", False)]),
        ([old("A", "How wa", False), old("A", "How are", True)], [(1, 2, "How are", True)]),
        ([old("A", "one", True), old("B", "two", True)], [(1, 1, "one", True), (2, 2, "two", True)]),
        ([piece("1", "A"), trailer("1")], []),
    ],
)
def test_transcripts(packets: list[Packet], expected: list[tuple[float, float, str, bool]]) -> None:
    assert segments(*packets) == expected


def test_what_came_in_one_piece_is_shown_as_long_as_it_takes_to_read() -> None:
    lines = [STARTED, *heard(old("A", "x" * 60, True), old("B", "short", True))]
    time = MediaTime.of(lines, at(30))
    assert spans_s(transcript(lines), time) == [(1, 2), (2, 3.5)]
    # The other speaks at the same time.
    other = LogEntry(at(1.5), entries.TRANSCRIPT, lines[1].fields | {"identity": "bob"})
    assert spans_s(transcript([lines[0], lines[1], other]), time) == [(1, 5), (1.5, 5.5)]
    assert spans_s(transcript(lines), MediaTime(ZERO_NS, at(2))) == [(1, 2), (2, 2)]


async def test_who_sent_words_stands_beside_whose_they_are(tmp_path: Path) -> None:
    """An agent transcribes others; so may anybody who encrypts it, as no server sees that. Nobody takes the
    place of another's words."""
    conversation = Conversation()
    joined = [
        LogEntry(at(0), "participant_joined", {"identity": who, "name": "", "participant_id": f"PA_{who}"})
        for who in ("ada", "agent", "mallory")
    ]
    packets = [
        ("ada", "PA_agent", piece("s", "A")),
        ("agent", "PA_agent", chunk("Yes")),
        ("mallory", "PA_mallory", old("A", "No", True)),
        ("agent", "PA_unseen", old("B", "So", True)),
    ]
    said = [
        entry
        for who, sid, packet in packets
        for entry in conversation.entries(DataArrived(who, DataPacket(**packet, participant_sid=sid), at(1)))
    ]
    await kept(tmp_path, STARTED, *joined, *said, LogEntry(at(9), entries.ENDED))
    path = render(tmp_path, Sidecar.TRANSCRIPT, "m", 0)[".transcript.jsonl"]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(each["identity"], each.get("sender"), each["text"]) for each in lines] == [
        ("ada", "agent", "Yes"),
        ("ada", "mallory", "No"),
        ("ada", None, "So"),  # of one who is hidden, or left out
    ]


async def test_the_files(tmp_path: Path) -> None:
    named = LogEntry(at(0), "participant_joined", {"identity": "ada", "name": "Ada"})
    said = heard(
        header(CHAT, inline_content=b"Hi"), piece("s", "A"), chunk("So\n\nit is"), user(b"\xff", "t")
    )
    await kept(tmp_path, STARTED, named, *said, LogEntry(at(9), entries.ENDED))

    def lines(sidecar: Sidecar) -> list[Any]:
        path = render(tmp_path, sidecar, "m", 0)[f".{sidecar}.jsonl"]
        return [json.loads(line) for line in path.read_text().splitlines()]

    (chat,), (spoken,), (data,) = map(lines, (Sidecar.CHAT, Sidecar.TRANSCRIPT, Sidecar.DATA))
    assert (chat["media_s"], chat["name"], chat["message"]) == (1, "Ada", "Hi")
    assert (spoken["media_s"], spoken["end_s"], spoken["text"]) == (2, 3, "So\n\nit is")
    assert (data["topic"], data["base64"]) == ("t", "/w==")
    vtt = render(tmp_path, Sidecar.TRANSCRIPT, "m", 0)[".vtt"].read_text()
    assert vtt == "WEBVTT\n\n00:00:02.000 --> 00:00:03.500\n<v Ada>So it is\n"
    events = render(tmp_path, Sidecar.EVENTS, "m", 0)[".events.jsonl"].read_text()
    assert "Hi" not in events and "/w==" not in events


# --- bounds


def test_strangers_leave_nothing_open_for_ever() -> None:
    conversation = Conversation()
    for number in range(3 * MAX_STREAMS):
        packet = DataPacket(**header(CHAT, str(number)))
        conversation.entries(DataArrived("ada", packet, number * S))
    last = DataArrived("ada", DataPacket(**trailer(str(3 * MAX_STREAMS - 1))), 0)
    first = DataArrived("ada", DataPacket(**trailer("0")), 0)
    assert len(conversation.entries(last)) == 1
    assert conversation.entries(first) == []


def test_a_gigabyte_that_is_small_on_its_way() -> None:
    bomb = deflated("x" * 50_000_000)
    (said,) = heard(header(CHAT, compression=1), chunk(bomb), chunk(bomb), trailer())
    assert said.fields["message"] == "x" * MAX_TEXT_CHARS


def test_data_of_certain_people_and_topics() -> None:
    """As a media source chooses it; chat has a sidecar of its own, and stays."""
    routes = (DataRoute("ada"), DataRoute(topic="slides"), DataRoute(topic="noise", exclude=True))
    conversation = Conversation((), routes)

    def is_kept(identity: str, topic: str) -> bool:
        packet = DataPacket(user=UserPacket(payload=b"x", topic=topic))
        return bool(conversation.entries(DataArrived(identity, packet, 1)))

    assert is_kept("ada", "poll") and is_kept("bob", "slides")
    assert not is_kept("bob", "poll") and not is_kept("ada", "noise")


def test_many_streams_of_one_segment_make_no_longer_text() -> None:
    """Their pieces alternate, as nobody's do who speaks."""
    headers = [header("lk.transcription", str(n), attributes={"lk.segment_id": "1"}) for n in range(100)]
    pieces = [chunk("x" * 500, str(n)) for _ in range(10) for n in range(100)]
    (segment,) = transcript(heard(*headers, *pieces))
    assert len(segment.text) == MAX_TEXT_CHARS
