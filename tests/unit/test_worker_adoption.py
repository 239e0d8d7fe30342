"""What lies in the spool: whose turn it is, and what is left alone."""

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core import ipc
from openegress.core import plan as plans
from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError
from openegress.core.plan import FileOutput, Limits, Output, Plan, WebSource
from openegress.core.storages import S3Storage, StoragePlan
from openegress.handler.recording_journal import RecordingJournal
from openegress.request import naming
from openegress.storage.journal import LOCK, NAME, STARTED, Journal, mark_ended
from openegress.storage.seal import Seal
from openegress.store.leases import MemoryLeases
from openegress.worker import adoption as adoptions
from openegress.worker import paths as paths_module
from openegress.worker.adoption import BESIDE, FIRST, LATER, Adoption, Round
from openegress.worker.leftovers import Leftover
from openegress.worker.paths import Paths
from openegress.worker.supervisor import Supervisor


class Job:
    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.hurried = 0

    def stop_retrying(self) -> None:
        self.hurried += 1


class World:
    """A spool, and recoveries that end when the test says so."""

    def __init__(self, spool: Path, *egress_ids: str) -> None:
        self.spool = spool
        for egress_id in egress_ids:
            self.leave(egress_id)
        self.busy: set[str] = set()
        self.refused: dict[str, Exception] = {}
        self.on_record = True
        self.jobs: dict[str, Job] = {}
        self.leases = MemoryLeases()
        self.paths = Paths(self.leases, "NE_1", lambda _: False)
        self.begun: list[str] = []
        self.most_at_once = 0
        self.reported: list[bool] = []
        self.had_ended: list[bool] = []
        self.gone_on: list[str] = []
        self.begun_before: list[bool] = []
        self.taken: set[str] = set()
        """Another worker has gone on with these."""
        self.status = EgressStatus.EGRESS_ACTIVE
        self.adoption = Adoption(
            spool,
            self.lookup,
            cast("Supervisor", self),
            self.paths,
            self.busy.__contains__,
            self.recover,
            self.go_on,
            self.is_ours,
        )

    async def is_ours(self, left: Leftover) -> bool:
        return left.plan.egress_id not in self.taken

    def leave(self, egress_id: str, *outputs: Output, resumes: bool = False) -> Journal:
        plan = msgspec.structs.replace(of(egress_id, *outputs), resumes=resumes)
        encoded = plans.encode(plan)
        return Journal.create(self.spool, egress_id, encoded, Seal(self.spool).of(encoded))

    async def go_on(self, left: Leftover) -> None:
        self.gone_on.append(left.plan.egress_id)
        self.begun_before.append(left.has_begun)
        self.busy.add(left.plan.egress_id)

    async def lookup(self, egress_id: str) -> EgressInfo | None:
        if (error := self.refused.get(egress_id)) is not None:
            raise error
        return EgressInfo(egress_id=egress_id, status=self.status) if self.on_record else None

    def recover(self, left: Leftover, text: str, is_reported: bool) -> None:
        self.begun.append(left.plan.egress_id)
        self.reported.append(is_reported)
        self.had_ended.append(left.had_ended)
        self.jobs[left.plan.egress_id] = Job()
        running = [job for job in self.jobs.values() if not job.ended.is_set()]
        self.most_at_once = max(self.most_at_once, len(running))

    def get(self, egress_id: str) -> Job | None:
        return self.jobs.get(egress_id)

    async def wait(self, egress_id: str, timeout_s: float) -> bool:
        try:
            await asyncio.wait_for(self.jobs[egress_id].ended.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def end_all(self) -> None:
        for job in self.jobs.values():
            job.ended.set()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoptions, "ASK_AGAIN_S", 0.01)


async def look(world: World, reason: Round = LATER) -> list[str]:
    """What a round recovers when each recovery ends at once."""
    looking = asyncio.create_task(world.adoption.look(reason))
    while not looking.done():
        world.end_all()
        await asyncio.wait([looking], timeout=0.01)
    await looking
    return sorted(world.begun)


async def test_a_plan_that_its_handler_wrote_anew_is_not_believed(tmp_path: Path) -> None:
    """What reads media may have been taken over: it would store others' files, or its own with credentials of
    others."""
    world = World(tmp_path, "EG_1", "EG_2", "EG_3", "EG_4")
    ours = {egress_id: Journal.load(tmp_path / egress_id) for egress_id in ("EG_2", "EG_3")}
    stolen = FileOutput("a.mp4", Container.MP4, StoragePlan(S3Storage("theirs", "eu")))
    theirs = plans.encode(of("EG_2", stolen))
    Journal.create(tmp_path, "EG_2", theirs, ours["EG_2"].seal)
    Journal.create(tmp_path, "EG_3", plans.encode(of("EG_3", stolen)))
    Journal.create(tmp_path, "EG_4", ours["EG_2"].plan, ours["EG_2"].seal)
    assert await look(world, FIRST) == ["EG_1"]
    assert all((tmp_path / egress_id).is_dir() for egress_id in ("EG_2", "EG_3", "EG_4"))


async def test_what_a_handler_wrote_of_whole_numbers_is_believed(tmp_path: Path) -> None:
    """Its plan came over a socket, which makes 90.0 of them."""
    world = World(tmp_path)
    plan = msgspec.structs.replace(of("EG_1"), limits=Limits(duration_s=90))
    seal = Seal(tmp_path).of(plans.encode(plan))
    sent = next(iter(ipc.Framer().feed(ipc.frame(ipc.Run(plan, seal=seal)))))
    told = msgspec.msgpack.decode(sent, type=ipc.Run)
    RecordingJournal.create(tmp_path, told.plan, told.seal).release()
    assert await look(world, FIRST) == ["EG_1"]


async def test_a_line_that_is_being_written_is_not_cut_off(tmp_path: Path) -> None:
    """Of a recording that runs here, or in a process that has outlived its worker."""
    world = World(tmp_path, "EG_1", "EG_2")
    world.busy.add("EG_1")
    halves = {}
    for egress_id in ("EG_1", "EG_2"):
        with (tmp_path / egress_id / NAME).open("ab") as journal:
            journal.write(b'{"is":"noted","key":"mark')
        halves[egress_id] = (tmp_path / egress_id / NAME).read_bytes()
    assert await look(world, FIRST) == ["EG_2"]
    assert {one: (tmp_path / one / NAME).read_bytes() for one in halves} == halves


async def test_two_at_once_and_the_others_are_held_until_their_turn(tmp_path: Path) -> None:
    world = World(tmp_path, "EG_1", "EG_2", "EG_3", "EG_4")
    looking = asyncio.create_task(world.adoption.look(FIRST))
    await until(lambda: set(world.adoption.waiting) == {"EG_3", "EG_4"})
    assert world.begun == ["EG_1", "EG_2"]
    world.jobs["EG_2"].ended.set()
    await until(lambda: len(world.begun) == 3)
    world.end_all()
    await until(lambda: len(world.begun) == 4)
    world.end_all()
    await looking
    assert not world.adoption.waiting
    assert world.most_at_once == 2


@pytest.mark.parametrize("error", [EgressError(Code.INTERNAL, "no"), ZeroDivisionError()])
async def test_a_record_that_nobody_can_tell_does_not_keep_the_others(
    tmp_path: Path, error: Exception
) -> None:
    world = World(tmp_path, "EG_1", "EG_2", "EG_3")
    world.refused["EG_1"] = error
    looking = asyncio.create_task(world.adoption.look(FIRST))
    await until(lambda: world.begun == ["EG_2", "EG_3"])
    world.refused.clear()
    while not looking.done():
        world.end_all()
        await asyncio.wait([looking], timeout=0.01)
    assert ("EG_1" in world.begun) == isinstance(error, EgressError)


async def test_one_that_waits_for_its_storage_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoptions, "_PATIENCE_S", 0.05)
    world = World(tmp_path, "EG_1", "EG_2", "EG_3")
    looking = asyncio.create_task(world.adoption.look(FIRST))
    await until(lambda: len(world.jobs) == 2 and all(job.hurried for job in world.jobs.values()))
    world.end_all()
    await until(lambda: len(world.jobs) == 3)
    await asyncio.sleep(0.15)
    assert world.jobs["EG_3"].hurried == 0  # nobody waits behind it
    world.end_all()
    await looking


async def test_what_runs_here_or_in_another_process_is_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path, "EG_running", "EG_held", "EG_left")
    world.busy.add("EG_running")
    held = os.open(tmp_path / "EG_held" / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    (tmp_path / "EG_left" / LOCK).touch()
    assert await look(world) == ["EG_left"]
    os.close(held)
    assert await look(world) == ["EG_held", "EG_left", "EG_left"]


async def test_what_was_finished_meanwhile_is_not_recovered(tmp_path: Path) -> None:
    world = World(tmp_path, "EG_1", "EG_2", "EG_3")
    looking = asyncio.create_task(world.adoption.look(LATER))
    await until(lambda: len(world.begun) == 2)
    Journal.load(tmp_path / "EG_3").finish()
    world.end_all()
    await looking
    assert world.begun == ["EG_1", "EG_2"]


@pytest.mark.parametrize(("reason", "reported"), [(FIRST, True), (LATER, False)])
async def test_a_record_that_was_forgotten_does_not_come_back(
    tmp_path: Path, reason: Round, reported: bool
) -> None:
    world = World(tmp_path, "EG_1")
    world.on_record = False
    await look(world, reason)
    assert world.reported == [reported]


async def test_what_a_worker_has_ended_is_known_to_have_ended(tmp_path: Path) -> None:
    world = World(tmp_path, "EG_1")
    await look(world, FIRST)
    mark_ended(tmp_path / "EG_1")
    await look(world, LATER)
    await look(world, FIRST)  # after a restart
    assert world.had_ended == [False, True, True]
    Journal.load(tmp_path / "EG_1").finish()
    mark_ended(tmp_path / "EG_1")  # stored meanwhile: nothing comes back
    assert not (tmp_path / "EG_1").exists()


async def test_it_looks_again_and_again_until_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoptions, "RETRY_S", 0.02)
    world, looks = World(tmp_path), 0
    look_once = world.adoption.look

    async def counted(reason: Round) -> None:
        nonlocal looks
        looks += 1
        await look_once(reason)

    monkeypatch.setattr(world.adoption, "look", counted)
    world.adoption.start()
    await until(lambda: looks > 2)
    world.leave("EG_later")  # an upload that was given up while the worker lives on
    await until(lambda: world.begun == ["EG_later"])
    await world.adoption.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}, "somebody goes on looking"


def file(path: str) -> FileOutput:
    return FileOutput(path, Container.MP4, StoragePlan(S3Storage(bucket="b")))


def of(egress_id: str, *outputs: Output) -> Plan:
    return Plan(egress_id=egress_id, source=WebSource("http://e"), outputs=outputs, video=None, audio=None)


async def test_where_a_left_recording_will_be_stored_nobody_else_begins_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is recovered, and while it waits for its turn; names that its room had told included."""
    monkeypatch.setattr(paths_module, "_PAUSE_S", 0.0)
    world = World(tmp_path, "EG_1", "EG_2")
    left = world.leave("EG_left", file("{publisher_identity}/x.mp4"))
    left.note_names({"publisher_identity": "ann", naming.MARK: "EG_left"})
    world.leave("EG_plain", file("plain.mp4"))
    looking = asyncio.create_task(world.adoption.look(FIRST))
    await until(lambda: len(world.begun) == 2)
    assert set(world.adoption.waiting) == {"EG_left", "EG_plain"}
    elsewhere = Paths(world.leases, "NE_2", lambda _: False)
    for path in ("ann/x-EG_left.mp4", "plain.mp4"):
        for paths in (world.paths, elsewhere):
            assert await paths.claim(of("EG_new", file(path))) == f"s3|/b|{path}"
    assert await elsewhere.claim(of("EG_new", file("ann/x.mp4"))) is None
    Journal.load(tmp_path / "EG_plain").finish()
    world.end_all()
    await until(lambda: "EG_left" in world.begun)
    assert await elsewhere.claim(of("EG_other", file("plain.mp4"))) is None
    assert await elsewhere.claim(of("EG_third", file("ann/x-EG_left.mp4"))) is not None
    world.end_all()
    await looking
    await world.paths.release("EG_left")
    assert await elsewhere.claim(of("EG_third", file("ann/x-EG_left.mp4"))) is None


async def test_what_another_process_writes_stays_its_own(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.leave("EG_held", file("x.mp4"))
    theirs = Paths(world.leases, "NE_2", lambda _: False)
    assert await theirs.claim(of("EG_held", file("x.mp4"))) is None
    held = os.open(tmp_path / "EG_held" / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert await look(world) == []
    os.close(held)
    assert await world.leases.held() == theirs.held() == {"s3|/b|x.mp4"}


async def test_what_is_to_go_on_goes_on_before_anything_is_recovered(tmp_path: Path) -> None:
    world = World(tmp_path, "EG_1", "EG_2", "EG_3")
    world.leave("EG_4", resumes=True)
    looking = asyncio.create_task(world.adoption.look(FIRST))
    await until(lambda: len(world.begun) == 2)
    assert world.gone_on == ["EG_4"]
    while not looking.done():
        world.end_all()
        await asyncio.wait([looking], timeout=0.01)
    await looking
    assert world.gone_on == ["EG_4"] and sorted(world.begun) == ["EG_1", "EG_2", "EG_3"]


@pytest.mark.parametrize("status", [EgressStatus.EGRESS_ENDING, EgressStatus.EGRESS_FAILED])
async def test_what_was_ending_or_has_ended_does_not_go_on(tmp_path: Path, status: EgressStatus) -> None:
    world = World(tmp_path)
    world.leave("EG_1", resumes=True)
    world.status = status
    assert await look(world, FIRST) == ["EG_1"]
    assert world.gone_on == []


async def test_what_an_earlier_life_has_ended_does_not_go_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.leave("EG_1", resumes=True)
    mark_ended(tmp_path / "EG_1")
    assert await look(world) == ["EG_1"]
    assert world.gone_on == []


async def test_who_shares_the_spool_leaves_what_goes_on_to_the_service(tmp_path: Path) -> None:
    world = World(tmp_path, "EG_1")
    world.leave("EG_2", resumes=True)
    assert await look(world, BESIDE) == ["EG_1"]
    assert world.gone_on == []


async def test_it_is_known_whether_there_is_anything_to_go_on_with(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.leave("EG_1", resumes=True)
    world.leave("EG_2", resumes=True).note(STARTED, 5)
    await look(world, FIRST)
    assert dict(zip(world.gone_on, world.begun_before, strict=True)) == {"EG_1": False, "EG_2": True}


@pytest.mark.parametrize("is_taken", [False, True])
async def test_what_another_worker_has_taken_over_is_a_part_to_be_stored(
    tmp_path: Path, is_taken: bool
) -> None:
    world = World(tmp_path)
    world.leave("EG_1", resumes=True)
    if is_taken:
        world.taken.add("EG_1")
    await look(world, FIRST)
    assert (world.gone_on, world.begun) == (([], ["EG_1"]) if is_taken else (["EG_1"], []))
    assert not is_taken or (world.had_ended, world.reported) == ([True], [True])
