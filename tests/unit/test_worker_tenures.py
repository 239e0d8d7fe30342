"""What a worker does with egresses that others may take over: what it offers, and tells of lost ones."""

import asyncio
import time
from typing import Any, cast

import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core.end_rules import EndRules
from openegress.core.errors import Code, EgressError
from openegress.core.events import StreamStatus, StreamUpdate
from openegress.core.live_state import LiveState
from openegress.core.live_streams import NO_STREAMS, AddedTarget, LiveStreams
from openegress.core.looks import Looks
from openegress.core.part import Part
from openegress.core.plan import Plan, StreamTarget, WebSource
from openegress.core.restart import Restart
from openegress.psrpc.client import RPCClient
from openegress.psrpc.ioinfo_client import IOInfoClient
from openegress.store.handovers import Claimed, HandoverOffer, Handovers, Holding
from openegress.worker import takeovers as takeovers_module
from openegress.worker import tenures as tenures_module
from openegress.worker.supervisor import Supervisor
from openegress.worker.takeovers import Takeovers
from openegress.worker.tenures import Tenures


def plan_of(egress_id: str = "EG_1", part: Part | None = None) -> Plan:
    return Plan(egress_id, WebSource("https://example.com"), (), None, None, resumes=True, part=part)


class Job:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.goes_on = True
        self.is_left = False
        self.active_s: float | None = time.monotonic()
        self.is_lost = False
        self.live: LiveState | None = None
        self.streams = NO_STREAMS

    def lose(self) -> None:
        self.is_lost, self.goes_on = True, False


class World:
    """Handovers, a record keeper and the worker that has taken over, in one."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.answer: bool | None = True
        """To each beat."""
        self.is_ours = True
        self.place = Holding.OURS
        self.stored: HandoverOffer | None = None
        self.offered: list[tuple[HandoverOffer, int]] = []
        self.released: list[str] = []
        self.lost_ids: list[str] = []
        self.said: list[str] = []
        self.refusal: Code | None = None
        """Of the worker that has taken over, to be told of a part."""
        self.tenures = Tenures(
            cast("Handovers", self),
            cast("Supervisor", self),
            cast("IOInfoClient", self),
            cast("RPCClient", self),
            self.on_lost,
        )

    def __iter__(self) -> Any:
        return iter(list(self.jobs))

    def get(self, egress_id: str) -> Any:
        return next((job for job in self.jobs if job.plan.egress_id == egress_id), None)

    async def on_lost(self, egress_id: str) -> None:
        self.lost_ids.append(egress_id)

    async def offer(self, offer: HandoverOffer, number: int) -> bool:
        self.offered.append((offer, number))
        return self.is_ours

    async def beat(self, numbers: dict[str, int]) -> dict[str, bool | None]:
        return dict.fromkeys(numbers, self.answer)

    async def release(self, egress_id: str, number: int) -> bool:
        self.released.append(egress_id)
        return self.is_ours

    async def standing(self, egress_id: str, number: int | None) -> Holding:
        return self.place

    async def look(self, egress_id: str) -> HandoverOffer | None:
        return self.stored

    async def update(self, info: EgressInfo) -> None:
        self.said.append("update")

    async def add_part(self, info: EgressInfo) -> None:
        self.said.append("part to the keeper")

    async def call(self, method: object, info: EgressInfo, topic: str) -> None:
        if self.refusal is not None:
            raise EgressError(self.refusal, "not here")
        self.said.append(f"part to {topic}")


async def test_what_goes_on_is_offered_once_and_released_at_its_end() -> None:
    world = World()
    job = Job(plan_of())
    world.jobs.append(job)
    await world.tenures.beat()
    await world.tenures.beat()
    assert world.offered == [(HandoverOffer(job.plan), 0)]
    job.goes_on = False
    await world.tenures.beat()
    assert world.released == ["EG_1"] and not job.is_lost


async def test_what_is_left_to_the_next_start_is_not_released() -> None:
    world = World()
    job = Job(plan_of())
    world.jobs.append(job)
    await world.tenures.beat()
    job.goes_on, job.is_left = False, True
    await world.tenures.beat()
    assert world.released == [] and world.lost_ids == []


async def test_what_was_asked_of_it_since_is_offered_too() -> None:
    """Once each time that changes, and by the next life of its worker, which knows it from the offer."""
    world, state = World(), LiveState(5, 3, True, EndRules(max_duration_s=9.0), Looks(names=True), "speaker")
    job = Job(plan_of())
    world.jobs.append(job)
    await world.tenures.beat()
    job.live = state
    await world.tenures.beat()
    await world.tenures.beat()
    assert [offer.live for offer, _ in world.offered] == [None, state]
    again = World()
    again.stored = world.offered[-1][0]
    assert await again.tenures.keep(job.plan)
    again.jobs.append(Job(job.plan))
    await again.tenures.beat()
    assert [offer.live for offer, _ in again.offered] == [state, state]


async def test_what_it_sends_to_is_offered_with_what_others_have_sent_to() -> None:
    """A worker that has taken it over knows the URLs that were added before from the offer alone."""
    added, told = (
        AddedTarget(0, 1, StreamTarget("rtmp://b/key", "")),
        StreamUpdate(0, "", StreamStatus.ACTIVE),
    )
    world, job = World(), Job(plan_of(part=Part(1, 0)))
    world.stored, before = HandoverOffer(plan_of(), streams=LiveStreams(added=(added,))), world.offered
    world.jobs.append(job)
    await world.tenures.beat()
    job.streams = job.streams.with_update(told)
    await world.tenures.beat()
    await world.tenures.beat()
    assert [offer.streams for offer, _ in before] == [
        LiveStreams(added=(added,)),
        LiveStreams((told,), (added,)),
    ]


@pytest.mark.parametrize("ends", [False, True])
async def test_one_that_another_worker_has_is_lost(ends: bool) -> None:
    """It is told so by a beat, or when it has ended here meanwhile."""
    world = World()
    job = Job(plan_of())
    world.jobs.append(job)
    await world.tenures.beat()
    world.is_ours, world.answer, job.goes_on = False, False, not ends
    await world.tenures.beat()
    assert job.is_lost and world.lost_ids == ["EG_1"]
    await world.tenures.beat()
    assert world.lost_ids == ["EG_1"]


@pytest.mark.parametrize("ends", [False, True])
async def test_one_that_comes_back_is_offered_as_others_have_left_it(ends: bool) -> None:
    """Until its part here has begun, nobody knows more of it."""
    world = World()
    job = Job(plan_of())
    world.jobs.append(job)
    await world.tenures.beat()
    world.is_ours, world.answer, job.goes_on = False, False, not ends
    await world.tenures.beat()
    state = LiveState(5, 3, True, EndRules(max_duration_s=9.0), Looks(names=True))
    world.stored = HandoverOffer(job.plan, (Restart(1, 2, 0),), state)
    part = Job(plan_of(part=Part(2, 5, world.stored.restarts)))
    part.active_s = None
    world.jobs[:], world.is_ours, world.answer = [part], True, True
    await world.tenures.beat()
    assert world.offered[-1] == (world.stored, 2)


async def test_what_redis_has_lost_is_offered_again() -> None:
    world = World()
    world.jobs.append(Job(plan_of()))
    await world.tenures.beat()
    world.answer = None
    await world.tenures.beat()
    assert len(world.offered) == 2


async def test_a_part_offers_the_whole_and_where_it_began() -> None:
    world = World()
    whole = HandoverOffer(plan_of(), (Restart(1, 2, 0),))
    world.stored = whole
    job = Job(plan_of(part=Part(2, 5, whole.restarts)))
    job.active_s = None
    world.jobs.append(job)
    await world.tenures.beat()
    assert world.offered == [(whole, 2)]
    job.active_s = time.monotonic()
    await world.tenures.beat()
    ((_, _), (offer, number)) = world.offered
    assert (offer.plan, number) == (whole.plan, 2)
    first, second = offer.restarts
    assert first == whole.restarts[0] and second.lost_at_ns == 5
    assert second.resumed_at_ns == pytest.approx(time.time_ns(), abs=1e9)


@pytest.mark.parametrize(
    ("place", "status", "said"),
    [
        (Holding.OURS, EgressStatus.EGRESS_ACTIVE, ["update"]),
        (Holding.OURS, EgressStatus.EGRESS_COMPLETE, ["update"]),
        (Holding.TAKEN, EgressStatus.EGRESS_ENDING, []),
        (Holding.TAKEN, EgressStatus.EGRESS_COMPLETE, ["part to EG_1"]),
        (Holding.ENDED, EgressStatus.EGRESS_ACTIVE, []),
        (Holding.ENDED, EgressStatus.EGRESS_FAILED, ["part to EG_1"]),
    ],
)
async def test_the_end_of_a_part_is_never_that_of_the_egress(
    place: Holding, status: EgressStatus, said: list[str]
) -> None:
    world = World()
    world.place = place
    await world.tenures.send(EgressInfo(egress_id="EG_1", status=status))
    assert world.said == said


@pytest.mark.parametrize("place", [Holding.TAKEN, Holding.ENDED])
@pytest.mark.parametrize("refusal", [Code.UNAVAILABLE, Code.NOT_FOUND, Code.FAILED_PRECONDITION])
async def test_a_part_whose_egress_nobody_has_any_more_goes_to_the_keeper(
    place: Holding, refusal: Code
) -> None:
    world = World()
    world.place, world.refusal = place, refusal
    await world.tenures.send(EgressInfo(egress_id="EG_1", status=EgressStatus.EGRESS_FAILED))
    assert world.said == ["part to the keeper"]


async def test_a_part_that_its_worker_is_slow_to_take_goes_nowhere_else() -> None:
    world = World()
    world.place, world.refusal = Holding.TAKEN, Code.DEADLINE_EXCEEDED
    with pytest.raises(EgressError):
        await world.tenures.send(EgressInfo(egress_id="EG_1", status=EgressStatus.EGRESS_FAILED))
    assert world.said == []


async def test_nobody_is_asked_right_after_a_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.jobs.append(Job(plan_of()))
    await world.tenures.beat()
    world.place = Holding.TAKEN
    await world.tenures.send(EgressInfo(egress_id="EG_1"))
    monkeypatch.setattr(tenures_module, "SURE_S", 0.0)
    await world.tenures.send(EgressInfo(egress_id="EG_1"))
    assert world.said == ["update"]


RUNNING = EgressInfo(status=EgressStatus.EGRESS_ACTIVE)


class Others:
    """What lies in Redis of other workers' egresses, and their records."""

    def __init__(self) -> None:
        self.ids = ["EG_1"]
        self.info = RUNNING
        self.claims = 0

    async def lost(self) -> list[str]:
        return self.ids

    async def look(self, egress_id: str) -> HandoverOffer:
        return HandoverOffer(plan_of(egress_id))

    async def get(self, egress_id: str) -> EgressInfo:
        return self.info

    async def claim(self, egress_id: str) -> Claimed:
        self.claims += 1
        return Claimed(HandoverOffer(plan_of(egress_id)), 1, 0)


@pytest.mark.parametrize(
    ("heard_s", "is_busy", "has_room", "info", "claims"),
    [
        (1.0, False, True, RUNNING, 1),
        (0.0, False, True, RUNNING, 0),
        (1.0, True, True, RUNNING, 0),
        (1.0, False, False, RUNNING, 0),
        (1.0, False, True, EgressInfo(status=EgressStatus.EGRESS_ACTIVE, details="Paused"), 1),
        (1.0, False, True, EgressInfo(status=EgressStatus.EGRESS_ENDING), 0),
        (1.0, False, True, EgressInfo(status=EgressStatus.EGRESS_FAILED), 0),
    ],
)
async def test_what_is_claimed(
    heard_s: float,
    is_busy: bool,
    has_room: bool,
    info: EgressInfo,
    claims: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(takeovers_module, "TENURE_S", 0.5 - heard_s)
    others, begun = Others(), list[str]()
    others.info = info

    async def begin(claimed: Claimed, info: EgressInfo) -> None:
        begun.append(claimed.offer.plan.egress_id)

    takeovers = Takeovers(
        cast("Handovers", others),
        cast("IOInfoClient", others),
        lambda _: is_busy,
        lambda _: None if has_room else EgressError(Code.RESOURCE_EXHAUSTED, "full"),
        begin,
        lambda: 0.0,
    )
    await takeovers.look()
    assert (others.claims, len(begun)) == (claims, claims)


async def test_a_redis_that_stood_still_has_heard_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeovers_module, "TENURE_S", 0.05)
    monkeypatch.setattr(takeovers_module, "MAX_GAP_S", 0.1)
    others = Others()

    async def begin(claimed: Claimed, info: EgressInfo) -> None:
        pass

    takeovers = Takeovers(
        cast("Handovers", others),
        cast("IOInfoClient", others),
        lambda _: False,
        lambda _: None,
        begin,
        lambda: 0.0,
    )
    await takeovers.look()
    await asyncio.sleep(0.2)
    await takeovers.look()
    assert others.claims == 0, "it has been still for longer than a worker may be silent"
    await asyncio.sleep(0.06)
    await takeovers.look()
    assert others.claims == 1
