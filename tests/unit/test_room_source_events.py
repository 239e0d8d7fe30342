"""What a room tells its source, before and while somebody reads it."""

from dataclasses import replace

from livekit.protocol.models import DataPacket, UserPacket

from openegress.core.plan import Recorded
from openegress.room import DataArrived, ParticipantJoined
from openegress.source import Notice, Observed
from openegress.source.room.observed_room import ObservedRoom
from openegress.source.room.source_events import MOST_WAITING_BYTES, SourceEvents
from tests.unit.test_room_recorded_people import person

SENT = DataArrived("ada", DataPacket(user=UserPacket(payload=bytes(100_000))), 1)
FIT = MOST_WAITING_BYTES // 2 // 101_000 - 1
"""Of one sender: as much is left to the others."""


async def test_data_does_not_fill_the_memory_while_nobody_reads_it() -> None:
    events = SourceEvents("room")
    events.observer = ObservedRoom(Recorded())
    events.observe(ParticipantJoined(person("ada")), 1)
    for _ in range(3 * FIT):
        events.observe(SENT, 1)
    events.observe(ParticipantJoined(person("bob")), 2)
    stream = events.stream()
    waiting = [await anext(stream) for _ in range(FIT)]
    # Each that is read makes room for another.
    events.observe(SENT, 3)
    events.close()
    waiting += [event async for event in stream]
    told = [each for each in waiting if isinstance(each, Notice)]
    assert [each.text for each in told] == ["data left out: too much was sent before the recording began"]
    observed = [each.event for each in waiting if isinstance(each, Observed)]
    people = [each.participant.identity for each in observed if isinstance(each, ParticipantJoined)]
    assert people == ["ada", "bob"]
    assert FIT < len(observed) < FIT + 5


async def test_nobody_leaves_the_others_without_room_meanwhile() -> None:
    events = SourceEvents("room")
    events.observer = ObservedRoom(Recorded())
    for who in ("ada", "mallory"):
        events.observe(ParticipantJoined(person(who)), 1)
    said = DataArrived("ada", DataPacket(user=UserPacket(payload=b"hello")), 1)
    for _ in range(3 * FIT):
        events.observe(replace(SENT, identity="mallory"), 1)
    events.observe(said, 2)
    events.close()
    observed = [each.event async for each in events.stream() if isinstance(each, Observed)]
    assert observed[-1] == said and len(observed) < 3 * FIT
