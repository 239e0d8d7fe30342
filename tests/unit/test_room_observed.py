"""What sidecars are told of a room: all of it, but nothing of who is left out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol.models import DataPacket, DataStream, Transcription, UserPacket

from openegress.core.plan import Recorded
from openegress.core.selectors import Selectors
from openegress.room import TrackSource
from openegress.room.events import (
    ConnectionLost,
    DataArrived,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    Quality,
    QualityChanged,
    Reconnected,
    RoomEvent,
    SpeakersChanged,
    TrackMuted,
    TrackPublished,
    TrackUnpublished,
)
from openegress.source.room.observed_room import MAX_STREAMS, TRANSCRIBED_TRACK, ObservedRoom
from tests.unit.test_room_recorded_people import person, recorded, track

ADA, BOB = person("ada"), person("bob")
ADAS, BOBS = track(ADA, TrackSource.MICROPHONE), track(BOB, TrackSource.MICROPHONE)


def told(of: Recorded, *events: RoomEvent) -> list[RoomEvent]:
    observed = ObservedRoom(of)
    return [each for event in events for each in observed.seen(event)]


def test_everything_is_told_where_nobody_is_left_out() -> None:
    events: list[RoomEvent] = [
        ParticipantJoined(ADA),
        TrackPublished(ADAS),
        SpeakersChanged(("ada",)),
        QualityChanged("ada", Quality.POOR),
        TrackMuted(replace(ADAS, muted=True)),
        SpeakersChanged(()),
        TrackUnpublished(ADAS),
        ParticipantLeft(ADA),
    ]
    assert told(Recorded(), *events) == events


def test_the_same_speakers_are_told_once() -> None:
    both = [ParticipantJoined(ADA), ParticipantJoined(BOB)]
    loud, again = SpeakersChanged(("ada", "bob")), SpeakersChanged(("bob", "ada"))
    assert told(Recorded(), *both, loud, again) == [*both, loud]


def test_speakers_are_told_anew_after_a_lost_connection() -> None:
    events: list[RoomEvent] = [ParticipantJoined(ADA), SpeakersChanged(("ada",)), ConnectionLost("gone")]
    events += [Reconnected(1.0), SpeakersChanged(("ada",))]
    assert told(Recorded(), *events) == events


def test_who_opts_out_leaves_and_comes_back() -> None:
    out = replace(ADA, opts_out=True)
    joined: list[RoomEvent] = [ParticipantJoined(ADA), TrackPublished(ADAS)]
    assert told(
        Recorded(),
        *joined,
        SpeakersChanged(("ada",)),
        ParticipantChanged(out),
        TrackMuted(replace(ADAS, participant=out)),
        SpeakersChanged(("ada",)),
        ParticipantChanged(ADA),
    ) == [
        *joined,
        SpeakersChanged(("ada",)),
        SpeakersChanged(()),
        TrackUnpublished(ADAS),
        ParticipantLeft(out),
        ParticipantJoined(ADA),
        TrackPublished(replace(ADAS, participant=out)),
    ]


def test_who_is_recorded_for_a_track_joins_with_it() -> None:
    screen = track(BOB, TrackSource.SCREEN_SHARE)
    only = recorded("ada, source:screen_share")
    came: list[RoomEvent] = [ParticipantJoined(BOB), TrackPublished(BOBS)]
    assert told(only, *came, TrackPublished(screen), TrackUnpublished(screen)) == [
        ParticipantJoined(BOB),
        TrackPublished(screen),
        TrackUnpublished(screen),
        ParticipantLeft(BOB),
    ]


def said(identity: str, **packet: Any) -> DataArrived:
    return DataArrived(identity, DataPacket(**packet), 0)


def of_track(sid: str) -> dict[str, Any]:
    header = DataStream.Header(stream_id="s", attributes={"lk.transcribed_track_id": sid})
    return {"stream_header": header}


def of_person(identity: str) -> dict[str, Any]:
    return {"transcription": Transcription(transcribed_participant_identity=identity)}


@pytest.mark.parametrize(
    ("identity", "packet", "is_told"),
    [
        ("ada", {"user": UserPacket()}, True),
        ("bob", {"user": UserPacket()}, False),
        ("nobody", {"user": UserPacket()}, False),
        ("", {"user": UserPacket()}, True),
        ("ada", of_person("ada"), True),
        ("ada", of_person("bob"), False),
        ("ada", of_track(ADAS.sid), True),
        ("ada", of_track(BOBS.sid), False),
    ],
)
def test_what_is_said_by_and_of_who_is_left_out(identity: str, packet: dict[str, Any], is_told: bool) -> None:
    """Their agent may not tell what they said, either."""
    there: list[RoomEvent] = [
        ParticipantJoined(ADA),
        ParticipantJoined(BOB),
        *map(TrackPublished, (ADAS, BOBS)),
    ]
    event = said(identity, **packet)
    assert (event in told(recorded(left_out="bob"), *there, event)) is is_told


@pytest.mark.parametrize(
    ("identity", "packet", "is_told"),
    [
        ("ada", {"user": UserPacket()}, True),
        ("bob", {"user": UserPacket()}, False),
        ("agent", of_track(ADAS.sid), True),
        ("agent", of_track(BOBS.sid), False),
        ("agent", of_person("ada"), True),
        ("agent", of_person("bob"), False),
    ],
)
def test_what_is_still_on_its_way_when_its_sender_leaves(
    identity: str, packet: dict[str, Any], is_told: bool
) -> None:
    """Signals come by another connection, and may overtake it."""
    before: list[RoomEvent] = [
        *map(ParticipantJoined, (ADA, BOB, person("agent"))),
        *map(TrackPublished, (ADAS, BOBS)),
        *map(TrackUnpublished, (ADAS, BOBS)),
        *map(ParticipantLeft, (ADA, BOB)),
    ]
    event = said(identity, **packet)
    assert (event in told(recorded(left_out="bob"), *before, event)) is is_told
    back = ParticipantJoined(replace(ADA, opts_out=True))
    assert event not in told(recorded(left_out="bob"), *before, back, event)


def piece(stream: str = "s") -> DataArrived:
    return said("agent", stream_chunk=DataStream.Chunk(stream_id=stream, content=b"what I say"))


def end(stream: str = "s") -> DataArrived:
    return said("agent", stream_trailer=DataStream.Trailer(stream_id=stream))


@pytest.mark.parametrize(
    ("meanwhile", "goes_on"),
    [
        (ParticipantChanged(ADA), True),
        # Whoever has transcribed them needs a moment more.
        (ParticipantLeft(ADA), True),
        (ParticipantChanged(replace(ADA, opts_out=True)), False),
    ],
    ids=["stays", "leaves", "opts out"],
)
def test_a_text_that_is_still_being_spoken(meanwhile: RoomEvent, goes_on: bool) -> None:
    begin = said(
        "agent", stream_header=DataStream.Header(stream_id="s", attributes={TRANSCRIBED_TRACK: ADAS.sid})
    )
    before: list[RoomEvent] = [
        ParticipantJoined(person("agent")),
        ParticipantJoined(ADA),
        TrackPublished(ADAS),
    ]
    found = told(Recorded(), *before, begin, piece(), meanwhile, piece(), end(), piece())
    assert found.count(piece()) == 1 + goes_on
    assert found.count(end()) == goes_on


def test_streams_of_strangers_leave_nothing_open_for_ever() -> None:
    begins = [
        said("agent", stream_header=DataStream.Header(stream_id=str(n))) for n in range(2 * MAX_STREAMS)
    ]
    found = told(
        Recorded(), ParticipantJoined(person("agent")), *begins, piece("0"), piece(str(2 * MAX_STREAMS - 1))
    )
    assert [event for event in found if event in (piece("0"), piece(str(2 * MAX_STREAMS - 1)))] == [
        piece(str(2 * MAX_STREAMS - 1))
    ]


def test_only_what_is_named_is_recorded_of_a_server_too() -> None:
    event = said("", user=UserPacket())
    assert told(recorded("ada"), ParticipantJoined(ADA), event) == [ParticipantJoined(ADA)]


EVENTS: st.SearchStrategy[RoomEvent] = st.sampled_from(
    [
        *(
            kind(who)
            for who in (ADA, BOB)
            for kind in (ParticipantJoined, ParticipantChanged, ParticipantLeft)
        ),
        ParticipantChanged(replace(ADA, opts_out=True)),
        *(kind(each) for each in (ADAS, BOBS) for kind in (TrackPublished, TrackMuted, TrackUnpublished)),
        *(SpeakersChanged(each) for each in ((), ("ada",), ("ada", "bob"))),
        *(QualityChanged(each, Quality.POOR) for each in ("ada", "bob")),
    ]
)


def identities(event: RoomEvent) -> Sequence[str]:
    match event:
        case SpeakersChanged(speaking):
            return speaking
        case QualityChanged(identity):
            return [identity]
        case TrackPublished(each) | TrackMuted(each) | TrackUnpublished(each):
            return [each.participant.identity]
        case ParticipantJoined(who) | ParticipantLeft(who) | ParticipantChanged(who):
            return [who.identity]
    raise AssertionError(event)


@given(st.lists(EVENTS), st.sampled_from(["bob", "kind:standard", "name:B*"]))
def test_nothing_is_ever_told_of_who_is_left_out(events: list[RoomEvent], selector: str) -> None:
    found = told(Recorded(left_out=Selectors.parse(selector).each), *events)
    assert not any("bob" in identities(event) for event in found)


@given(st.lists(EVENTS))
def test_only_of_those_who_are_there_anything_is_told(events: list[RoomEvent]) -> None:
    there: set[str] = set()
    for event in told(Recorded(), *events):
        match event:
            case ParticipantJoined(who):
                assert who.identity not in there
                there.add(who.identity)
            case ParticipantLeft(who):
                there.remove(who.identity)
            case _:
                assert set(identities(event)) <= there
