"""Somebody with hundreds of tracks who changes all the time: the recorder looks at it now and then."""

import asyncio
from functools import cache
from typing import Any

import pytest
from livekit.protocol.models import ParticipantInfo, TrackInfo, TrackType
from livekit.protocol.rtc import JoinResponse, ParticipantUpdate, SignalResponse

from openegress.core.plan import Recorded
from openegress.core.units import S
from openegress.room.event_queue import EventQueue
from openegress.room.events import (
    ParticipantChanged,
    ParticipantJoined,
    RoomEvent,
    TrackMuted,
    TrackPublished,
)
from openegress.room.rtp.frame_cipher import RoomCipher
from openegress.room.server_messages import ServerMessages
from openegress.room.signalling import roster as roster_module
from openegress.room.signalling.participant_updates import CATCH_UP_PAUSE_S, COMPARED, FEW, ParticipantUpdates
from openegress.room.signalling.roster import Roster
from openegress.room.unix_clock import UnixClock
from openegress.source.room import observed_room, recorded_people
from openegress.source.room.observed_room import ObservedRoom
from testkit.sealed_frames import AtOnce

MANY = 3000
GONE = ParticipantInfo.State.DISCONNECTED


def tracks(count: int, *, muted: int = -1) -> list[TrackInfo]:
    return [
        TrackInfo(sid=f"TR_{number}", type=TrackType.AUDIO, name=f"track {number}", muted=number == muted)
        for number in range(count)
    ]


def person(identity: str, count: int, version: int = 0, **more: Any) -> ParticipantInfo:
    told: dict[str, Any] = {"sid": f"PA_{identity}", "state": ParticipantInfo.State.ACTIVE} | more
    info = ParticipantInfo(identity=identity, version=version, **told)
    info.MergeFrom(publishing(count))
    return info


@cache
def publishing(count: int) -> ParticipantInfo:
    return ParticipantInfo(tracks=tracks(count))


def test_who_has_few_tracks_is_never_kept_waiting() -> None:
    updates = ParticipantUpdates()
    for version in range(30):
        updates.take([person("mallory", MANY, version)], 0)
        (told,) = updates.take([person("ann", FEW, version)], 0)
        assert told.version == version


def test_of_many_tracks_so_many_are_compared_a_second() -> None:
    updates, compared, newest = ParticipantUpdates(), 0, 0
    for version in range(1, 200):
        now_ns = version * S // 10
        told = [*updates.take([person("mallory", MANY, version)], now_ns), *updates.due(now_ns)]
        compared += sum(len(each.tracks) for each in told)
        assert all(each.version > newest for each in told)
        newest = max([newest, *(each.version for each in told)])
    assert compared <= 20 * COMPARED.per_s + COMPARED.burst + MANY
    assert newest > 190


def spent() -> ParticipantUpdates:
    updates = ParticipantUpdates()
    while not updates.are_waiting:
        updates.take([person("mallory", MANY, 5)], 0)
    return updates


def test_who_leaves_is_gone_at_once() -> None:
    updates = spent()
    assert updates.take([person("mallory", MANY, 6, state=GONE)], 0)
    assert not updates.are_waiting


def test_what_came_too_late_takes_no_newer_news_place() -> None:
    updates = spent()
    assert not updates.take([person("mallory", MANY, 4)], 0)
    assert [each.version for each in updates.due(9 * S)] == [5]


def test_an_older_self_that_leaves_takes_no_place() -> None:
    updates = spent()
    assert updates.take([person("mallory", MANY, 9, sid="PA_older", state=GONE)], 0)
    assert [each.sid for each in updates.due(9 * S)] == ["PA_mallory"]


def test_who_comes_anew_takes_the_place_of_the_older_self() -> None:
    updates = spent()
    assert updates.take([person("mallory", 0, 1, sid="PA_newer")], 0)
    assert not updates.are_waiting and not updates.due(9 * S)


def test_those_with_few_tracks_come_first() -> None:
    updates = spent()
    updates.take([person("ben", FEW + 1, 1)], 0)
    assert [each.identity for each in updates.due(9 * S)] == ["ben", "mallory"]


class NoSubscriptions:
    def take_over(self, track: object) -> bool:
        return False

    def drop(self, sid: str) -> None: ...


async def test_the_newest_is_told_in_the_end() -> None:
    events = EventQueue()
    cipher, clock = RoomCipher([], AtOnce()), UnixClock()
    listener = ServerMessages(Roster("recorder"), NoSubscriptions(), cipher, events, clock)  # type: ignore[arg-type]
    listener.on_join(JoinResponse(other_participants=[person("mallory", MANY)]))
    for version in range(1, 40):
        told = person("mallory", MANY, version, name=f"name {version}")
        listener.on_message(SignalResponse(update=ParticipantUpdate(participants=[told])))
    names: list[str] = []
    async with asyncio.timeout(100 * CATCH_UP_PAUSE_S):
        async for event in events.stream():
            if isinstance(event, ParticipantChanged):
                names.append(event.participant.name)
            if names and names[-1] == "name 39":
                break
    await listener.close()
    assert names == sorted(names, key=lambda name: int(name.split()[1])) and len(names) < 30


def test_a_track_of_which_nothing_is_new_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read, read_track = [], roster_module._track

    def reading(info: TrackInfo, *more: Any) -> Any:
        read.append(info.sid)
        return read_track(info, *more)

    monkeypatch.setattr(roster_module, "_track", reading)
    roster = Roster("recorder")
    roster.updated([person("mallory", MANY)])
    assert len(read) == MANY
    renamed = person("mallory", MANY, name="another")
    (changed,) = roster.updated([renamed])
    assert isinstance(changed, ParticipantChanged)
    assert {track.participant.name for track in roster.tracks()} == {"another"}
    muted = ParticipantInfo(
        sid="PA_mallory", identity="mallory", name="another", tracks=tracks(MANY, muted=7)
    )
    (event,) = roster.updated([muted])
    assert isinstance(event, TrackMuted) and event.track.sid == "TR_7"
    assert read[MANY:] == ["TR_7"]


def test_a_track_that_is_somebody_elses_by_now() -> None:
    roster = Roster("recorder")
    roster.updated([person("mallory", 1)])
    roster.updated([person("ann", 1)])
    assert [track.participant.identity for track in roster.tracks()] == ["ann"]
    roster.updated([person("mallory", 0), person("ann", 0)])
    assert roster.tracks() == []


def test_one_of_many_tracks_is_observed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []

    def judging(recorded: Recorded, track: Any) -> str:
        judged.append(track.sid)
        return recorded_people.why_track(recorded, track)

    monkeypatch.setattr(observed_room, "why_track", judging)
    observed, roster = ObservedRoom(Recorded()), Roster("recorder")
    seen: list[RoomEvent] = []
    for event in roster.updated([person("mallory", MANY)]):
        seen += observed.seen(event)
    assert isinstance(seen[0], ParticipantJoined)
    assert sum(isinstance(each, TrackPublished) for each in seen) == MANY
    assert len(judged) <= 3 * MANY
