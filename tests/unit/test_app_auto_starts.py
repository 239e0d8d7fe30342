"""What is started, when, and how often."""

import asyncio
from collections.abc import Sequence

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus
from livekit.protocol.models import ParticipantInfo, Room, TrackInfo, TrackType
from livekit.protocol.webhook import WebhookEvent
from structlog.testing import capture_logs

from openegress.app.auto_starts import MAX_ATTEMPTS, AutoStarts
from openegress.app.start_budgets import MAX_KNOWN, STARTS, StartBudgets
from openegress.core.backoff import Backoff
from openegress.core.errors import Code, EgressError
from openegress.core.units import S
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.auto_start import rule_of

ROOM = Room(sid="RM_1", name="class-7")
VOICE = TrackInfo(sid="TR_1", type=TrackType.AUDIO)
CAMERA = TrackInfo(sid="TR_2", type=TrackType.VIDEO)
ANN = ParticipantInfo(sid="PA_1", identity="ann", tracks=[VOICE, CAMERA])
RULES = [rule_of(["class-*"], {"room": {}, "participant": {}, "tracks": {}})]


class World:
    """Records, a worker and a LiveKit server."""

    def __init__(self) -> None:
        self.started: list[StartEgressRequest] = []
        self.records: dict[str, EgressInfo] = {}
        self.refusals: list[EgressError] = []
        self.asked = 0
        self.answered = asyncio.Event()
        self.auto = AutoStarts(RULES, self.start, self, Backoff(first_s=0.0))

    async def start(self, request: StartEgressRequest) -> EgressInfo:
        self.asked += 1
        if self.refusals:
            raise self.refusals.pop(0)
        self.started.append(request)
        info = EgressInfo(egress_id=request.egress_id, status=EgressStatus.EGRESS_ACTIVE)
        self.records[request.egress_id] = info
        return info

    async def get(self, egress_id: str) -> EgressInfo:
        if egress_id not in self.records:
            raise EgressError(Code.NOT_FOUND, "egress does not exist")
        return self.records[egress_id]

    async def rooms(self) -> Sequence[Room]:
        return [ROOM, Room(sid="RM_2", name="meeting")]

    async def participants(self, room: str) -> Sequence[ParticipantInfo]:
        assert room == ROOM.name
        return [ANN, ParticipantInfo(sid="PA_2", identity="who only listens")]

    def kinds(self) -> list[str]:
        return [str(each.WhichOneof("request")) for each in self.started]

    def end(self, egress_id: str, status: EgressStatus, details: str = "") -> EgressInfo:
        info = EgressInfo(egress_id=egress_id, status=status, details=details)
        self.records[egress_id] = info
        return info

    async def settle(self) -> None:
        """Until nothing is on its way any more."""
        while self.auto._side_tasks._running:
            await asyncio.gather(*self.auto._side_tasks._running)


def event(name: str, track: TrackInfo | None = None, room: Room = ROOM) -> WebhookEvent:
    return WebhookEvent(event=name, room=room, participant=ANN, track=track)


async def test_each_once_whatever_is_told_how_often() -> None:
    world = World()
    for _ in range(2):
        world.auto.on_event(event("room_started"))
        world.auto.on_event(event("participant_joined"))
        await world.settle()
        world.auto.on_event(event("track_published", VOICE))
        await world.settle()
        world.auto.on_event(event("track_published", CAMERA))
        await world.settle()
    world.auto.on_event(event("room_started", room=Room(sid="RM_2", name="meeting")))
    await world.settle()
    assert world.kinds() == ["room_composite", "participant", "track", "track"]


async def test_who_publishes_ever_anew_takes_the_machine_from_nobody() -> None:
    world = World()
    with capture_logs() as logs:
        for number in range(200):
            world.auto.on_event(
                event("track_published", TrackInfo(sid=f"TR_m{number}", type=TrackType.VIDEO))
            )
        ben = ParticipantInfo(sid="PA_3", identity="ben")
        world.auto.on_event(WebhookEvent(event="track_published", room=ROOM, participant=ben, track=VOICE))
        await world.settle()
    people = [each.participant.identity for each in world.started if each.HasField("participant")]
    tracks = [each.track.track_id for each in world.started if each.HasField("track")]
    assert sorted(people) == ["ann", "ben"]
    assert len(tracks) == STARTS.burst + 1 and VOICE.sid in tracks
    assert sum("too many tracks" in each["event"] for each in logs) == 200 - STARTS.burst


def test_a_budget_fills_again_and_is_forgotten() -> None:
    budgets = StartBudgets()
    assert [budgets.spend("r", "ann", 0) for _ in range(21)] == [True] * 20 + [False]
    assert not budgets.spend("r", "ann", 29 * S) and budgets.spend("r", "ann", 31 * S)
    for number in range(MAX_KNOWN):
        assert budgets.spend("r", str(number), 31 * S)
    assert len(budgets._budgets) == MAX_KNOWN


async def test_a_start_without_room_for_it_is_tried_again() -> None:
    world = World()
    world.refusals = [EgressError(Code.UNAVAILABLE, "no room")] * 2
    world.auto.on_event(event("room_started"))
    await world.settle()
    assert (world.asked, world.kinds()) == (3, ["room_composite"])


@pytest.mark.parametrize(
    ("code", "asked"),
    [(Code.UNAVAILABLE, MAX_ATTEMPTS), (Code.INVALID_ARGUMENT, 1), (Code.ALREADY_EXISTS, 1)],
)
async def test_a_start_that_is_refused_for_good(code: Code, asked: int) -> None:
    world = World()
    world.refusals = [EgressError(code, "no")] * 10
    with capture_logs() as logs:
        world.auto.on_event(event("room_started"))
        await world.settle()
    assert (world.asked, world.started) == (asked, [])
    assert any("refused" in each["event"] for each in logs) is (code is not Code.ALREADY_EXISTS)


async def test_after_a_restart_what_is_on_is_recorded_once() -> None:
    world = World()
    world.auto.scan_rooms(world)
    await world.settle()
    assert world.kinds() == ["room_composite", "participant", "track", "track"]
    world.auto.scan_rooms(world)
    world.auto.on_event(event("room_started"))
    await world.settle()
    assert len(world.started) == 4


@pytest.mark.parametrize(
    ("status", "details", "is_anew"),
    [
        (EgressStatus.EGRESS_FAILED, "", True),
        (EgressStatus.EGRESS_ABORTED, "", True),
        (EgressStatus.EGRESS_COMPLETE, "End reason: Process killed", True),
        (EgressStatus.EGRESS_COMPLETE, "End reason: StopEgress API", False),
        (EgressStatus.EGRESS_LIMIT_REACHED, "", False),
    ],
)
@pytest.mark.parametrize("seen_running", [False, True])
async def test_what_ended_with_the_process_is_recorded_anew(
    status: EgressStatus, details: str, is_anew: bool, seen_running: bool
) -> None:
    world = World()
    world.auto.scan_rooms(world)
    await world.settle()
    first = world.started[0].egress_id
    if seen_running:  # what a killed process left is told to have ended a moment later
        world.auto.scan_rooms(world)
        await world.settle()
        world.auto.on_record(world.end(first, status, details))
    else:
        world.end(first, status, details)
        world.auto.scan_rooms(world)
    await world.settle()
    assert len(world.started) == (5 if is_anew else 4)
    if is_anew:
        assert world.started[-1].egress_id != first
        assert world.started[-1].room_composite == world.started[0].room_composite


async def test_a_server_that_does_not_answer_is_asked_again() -> None:
    world = World()
    answer = world.rooms
    calls: list[int] = []

    async def rooms() -> Sequence[Room]:
        calls.append(1)
        if len(calls) < 3:
            raise EgressError(Code.UNAVAILABLE, "it cannot be asked")
        return await answer()

    world.rooms = rooms  # type: ignore[method-assign]
    with capture_logs() as logs:
        world.auto.scan_rooms(world)
        await world.settle()
    assert len(calls) == 3 and world.kinds()[0] == "room_composite"
    assert any(each.get("error") == "it cannot be asked" for each in logs)


async def test_closing_ends_what_is_on_its_way() -> None:
    world = World()
    world.auto = AutoStarts(RULES, world.start, world, Backoff(first_s=60.0))
    world.refusals = [EgressError(Code.UNAVAILABLE, "no room")]
    world.auto.on_event(event("room_started"))
    while not world.asked:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await world.auto.close()
    assert world.started == []
