"""One egress on a worker, with a handler that says what the test has written for it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from google.protobuf import json_format
from livekit.protocol.egress import EgressInfo, EgressStatus, StreamInfo

from openegress.core import ipc
from openegress.core.errors import Code, EgressError
from openegress.core.events import (
    Active,
    AnyEvent,
    AwaitingStart,
    Ended,
    EndReason,
    FileUpdate,
    Rejoined,
    Restarted,
    StreamAdded,
    StreamStatus,
    StreamUpdate,
)
from openegress.core.live_streams import AddedTarget, LiveStreams
from openegress.core.plan import Plan, StreamTarget
from openegress.core.room_keys import KeyAnswer, KeyQuestion, RoomKey
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request.context import Context
from openegress.request.initial_info import initial
from openegress.request.validate import plan_of
from openegress.worker.job import EarlierStart, HandlerServices, HandlerSpawner, Job
from openegress.worker.job_keys import NO_KEYS, JobKeys
from openegress.worker.process import HandlerProcess
from openegress.worker.records import Record
from openegress.worker.unreported import Unreported

Status = EgressStatus


class Handler:
    """Says `script` in order, raises what is an exception, and lives until it is killed or has said all."""

    pid = 1
    last_words = ("its last line",)
    ran_out_of_memory = False

    def __init__(self, *script: Any, lingers: bool = False, deaf: bool = False) -> None:
        """`deaf`: somebody holds its channel, so that its end is not heard."""
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        for each in script:
            self.said.put_nowait(each)
        if not lingers:
            self.said.put_nowait(None)
        self.killed = self.reaped = self.dumped = False
        self._deaf = deaf

    @property
    def folder(self) -> Path:
        return Path("/nonexistent")

    def send(self, message: Any) -> None:
        self.heard.put_nowait(message)

    async def messages(self) -> AsyncIterator[Any]:
        while (message := await self.said.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message

    async def dump_stacks(self) -> None:
        self.dumped = not self.killed

    def kill(self) -> None:
        self.killed = True
        if not self._deaf:
            self.said.put_nowait(None)

    @property
    def alive(self) -> bool:
        return not self.killed

    async def reap(self) -> int:
        self.reaped = True
        return 0

    @property
    def ended(self) -> str:
        return "killed by SIGKILL" if self.killed else "exit status 1"


class World:
    room_is_on = True

    def __init__(
        self, folder: Path, body: dict[str, Any], room_keys: JobKeys = NO_KEYS, *, resumes: bool = False
    ) -> None:
        context = Context(
            now_ns=1, storage=StoragePlan(LocalStorage("/out")), ws_url="", template_base="", make_token=None
        )
        request = json_format.ParseDict({"egress_id": "EG_1", "web": body}, StartEgressRequest())
        plan = msgspec.structs.replace(plan_of(request, context), resumes=resumes)
        self.told: list[EgressInfo] = []
        self.asides: list[AnyEvent] = []
        record = Record(initial(request, plan, 1), self.take, Unreported(folder))
        self.job = Job(
            plan,
            "web",
            record,
            lambda egress_id, record: None,
            on_observer_event=lambda job, event: self.asides.append(event),
            services=HandlerServices(room_keys=room_keys),
        )

    async def take(self, info: EgressInfo) -> None:
        self.told.append(info)

    async def run(self, handler: Handler, recovery: Handler | None = None) -> EgressInfo:
        return await self.run_each([handler], recovery)

    async def run_each(
        self,
        handlers: list[Handler],
        recovery: Handler | None = None,
        *,
        begun: EarlierStart = EarlierStart.NOWHERE,
    ) -> EgressInfo:
        """One handler after the other, where the plan says so."""
        following = iter(handlers)

        async def is_room_on(plan: Plan) -> bool:
            return self.room_is_on

        spawns = HandlerSpawner(
            lambda: _given(next(following)), lambda: _given(recovery or Handler()), is_room_on
        )
        await self.job.run(spawns, begun)
        return self.job.record.info


async def _given(handler: Handler) -> HandlerProcess:
    return cast("HandlerProcess", handler)


FILE = {"url": "http://e", "file_outputs": [{}]}
STREAM = {"url": "http://e", "stream_outputs": [{"urls": ["rtmp://h/app/0123456789"]}]}


@pytest.mark.parametrize(
    "unreadable", [msgspec.DecodeError("truncated"), ValueError("message of 99 bytes"), KeyError("a mistake")]
)
async def test_a_handler_that_cannot_be_followed_is_killed_and_reaped(
    tmp_path: Path, unreadable: Exception
) -> None:
    world, handler = World(tmp_path, FILE), Handler(Active(5), unreadable, lingers=True)
    info = await world.run(handler)
    assert (handler.killed, handler.reaped) == (True, True)
    assert info.status == Status.EGRESS_FAILED
    assert str(unreadable) in info.error


async def test_what_was_recorded_is_recovered_when_a_handler_speaks_gibberish(tmp_path: Path) -> None:
    world, handler = World(tmp_path, FILE), Handler(Active(5), msgspec.DecodeError("truncated"), lingers=True)
    recovery = Handler(Ended(9, EndReason.FAILURE))
    info = await world.run(handler, recovery)
    assert isinstance(recovery.heard.get_nowait(), ipc.Recover)
    assert info.error == (
        "recording: the recording process ended (its messages could not be read: truncated);"
        " the recording up to then is kept"
    )


async def test_a_handler_that_was_taken_over_costs_the_service_nothing(tmp_path: Path) -> None:
    """It names a part of its file for which the record would need a trillion others."""
    world, handler = World(tmp_path, FILE), Handler(Active(5), FileUpdate(0, part=2**40), lingers=True)
    recovery = Handler(Ended(9, EndReason.FAILURE))
    info = await world.run(handler, recovery)
    assert handler.killed and isinstance(recovery.heard.get_nowait(), ipc.Recover)
    assert info.status == Status.EGRESS_FAILED and len(info.file_results) == 1
    assert "a message of part 1099511627776 of a file" in info.error


async def test_a_handler_that_was_taken_over_has_no_file_put_in_anothers_place(tmp_path: Path) -> None:
    world = World(tmp_path, FILE)
    handler = Handler(Active(5), ipc.PutFile(3, "a", "/out", "theirs.mp4"), lingers=True)
    running = asyncio.create_task(world.run(handler))
    async with asyncio.timeout(10):
        while not isinstance(put := await handler.heard.get(), ipc.FilePut):
            pass
    assert (put.call, put.code) == (3, Code.PERMISSION_DENIED)
    handler.said.put_nowait(Ended(9, EndReason.API))
    handler.said.put_nowait(None)
    assert (await running).status == Status.EGRESS_COMPLETE and not handler.killed


async def test_a_handler_that_puts_more_files_at_once_than_any_recorder_is_killed(tmp_path: Path) -> None:
    asked = [ipc.PutFile(call, "a", "/out", "a.mp4") for call in range(ipc.MAX_PUTS + 1)]
    world, handler = World(tmp_path, FILE), Handler(Active(5), *asked, lingers=True)
    info = await world.run(handler, Handler(Ended(9, EndReason.FAILURE)))
    assert handler.killed and "more files to put in their places" in info.error


async def test_a_handler_that_ends_by_itself_is_not_killed(tmp_path: Path) -> None:
    world, handler = World(tmp_path, FILE), Handler(Active(5), Ended(9, EndReason.API))
    assert (await world.run(handler)).status == Status.EGRESS_COMPLETE
    assert (handler.killed, handler.reaped) == (False, True)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ((), "Stop called before pipeline could start"),
        ((AwaitingStart(),), "Start signal not received"),
    ],
)
async def test_a_stop_before_the_start_says_what_was_waited_for(
    tmp_path: Path, script: tuple[Any, ...], error: str
) -> None:
    world, handler = World(tmp_path, FILE), Handler(*script, lingers=True)
    running = asyncio.create_task(world.run(handler))
    await handler.heard.get()
    await asyncio.sleep(0)
    world.job.stop(EndReason.API)
    stopped = world.job.record.info
    assert (stopped.status, stopped.error, stopped.error_code) == (Status.EGRESS_ABORTED, error, 412)
    handler.said.put_nowait(Ended(9, EndReason.API))
    handler.said.put_nowait(None)
    assert (await running).error == error


async def test_the_live_streams_of_a_handler_that_died_have_failed(tmp_path: Path) -> None:
    world = World(tmp_path, STREAM)
    info = await world.run(Handler(Active(5)))
    assert info.status == Status.EGRESS_FAILED
    (stream,) = info.stream_results
    assert (stream.status, stream.error) == (StreamInfo.FAILED, info.error)
    assert info.error.startswith("recording: the recording process ended (exit status 1)")


async def test_only_streams_that_the_handler_took_are_on_record(tmp_path: Path) -> None:
    world, handler = World(tmp_path, STREAM), Handler(Active(5), lingers=True)
    running = asyncio.create_task(world.run(handler))
    await handler.heard.get()
    add = tuple(StreamTarget(f"rtmp://h/app/{n}", f"rtmp://h/app/{{{n}}}", f"id{n}") for n in (1, 2))
    updating = asyncio.create_task(world.job.update_streams(add, ()))
    update = await handler.heard.get()
    assert update.add == add
    handler.said.put_nowait(StreamAdded(0, 1, add[0].redacted, add[0].id))
    handler.said.put_nowait(AddedTarget(0, 1, add[0]))
    live = StreamUpdate(0, add[0].redacted, StreamStatus.ACTIVE, stream=1)
    handler.said.put_nowait(live)
    handler.said.put_nowait(ipc.Reply(update.call, "invalid_argument", "not this one"))
    with pytest.raises(Exception, match="not this one"):
        await updating
    assert world.job.streams == LiveStreams((live,), (AddedTarget(0, 1, add[0]),))
    shown = [(stream.url, stream.id) for stream in world.job.record.info.stream_results]
    assert shown == [("rtmp://h/app/{012...789}", ""), ("rtmp://h/app/{1}", "id1")]
    handler.said.put_nowait(Ended(9, EndReason.API))
    handler.said.put_nowait(None)
    await running
    with pytest.raises(EgressError, match="is not running"):
        await world.job.update_streams(add, ())


async def test_streams_asked_for_before_there_is_a_handler_come_with_the_plan(tmp_path: Path) -> None:
    world, handler = World(tmp_path, STREAM), Handler(lingers=True)
    add = (StreamTarget("rtmp://h/app/1", "rtmp://h/app/{1}", "id1"),)
    updating = asyncio.create_task(world.job.update_streams(add, ()))
    await asyncio.sleep(0)
    running = asyncio.create_task(world.run(handler))
    assert isinstance(await handler.heard.get(), ipc.Run)
    update = await handler.heard.get()
    assert update.add == add
    handler.said.put_nowait(Active(5))
    handler.said.put_nowait(ipc.Reply(update.call))
    await updating
    handler.said.put_nowait(Ended(9, EndReason.API))
    handler.said.put_nowait(None)
    await running


async def test_a_handler_whose_end_is_not_heard_is_over_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openegress.worker.listening._SILENCE_S", 0.05)
    monkeypatch.setattr("openegress.worker.listening._LAST_CHANCE_S", 0.04)
    world, handler = World(tmp_path, FILE), Handler(Active(5), lingers=True, deaf=True)
    async with asyncio.timeout(10):
        info = await world.run(handler)
    assert info.status == Status.EGRESS_FAILED
    assert handler.dumped, "it told where it hung before it was killed"
    assert world.job.handlers.deaths[0].how == "killed by SIGKILL"
    assert world.job.handlers.last_words == ("its last line",)


async def test_a_recovery_that_fails_says_why(tmp_path: Path) -> None:
    why = "storage write: S3 upload failed: the key is not valid any more"
    recovery = Handler(Ended(9, EndReason.FAILURE, why, "permission_denied"))
    info = await World(tmp_path, FILE).run(Handler(Active(5)), recovery)
    assert info.error.endswith(f"the recording up to then could not be stored: {why}")


async def test_a_room_that_was_joined_again_passes_the_record_by(tmp_path: Path) -> None:
    world, rejoined = World(tmp_path, FILE), Rejoined(6, 1.5)
    info = await world.run(Handler(Active(5), rejoined, Ended(9, EndReason.API)))
    assert world.asides == [rejoined]
    assert (info.status, info.details) == (Status.EGRESS_COMPLETE, "End reason: StopEgress API")


async def test_a_handler_is_given_the_keys_that_it_asks_for(tmp_path: Path) -> None:
    """While a key service takes its time, whatever else the handler says is heard."""
    answered = asyncio.Event()

    async def ask(plan: Plan, question: KeyQuestion) -> KeyAnswer:
        if question.index is None:
            raise EgressError(Code.UNAVAILABLE, "it answers 503")
        await answered.wait()
        return KeyAnswer((RoomKey(question.index, b"hidden"),))

    world = World(tmp_path, FILE, JobKeys((RoomKey(0, b"configured"),), ask))
    handler = Handler(
        ipc.AskKeys(1, KeyQuestion(("ann",), 3)),
        ipc.AskKeys(2, KeyQuestion(("ann",))),
        Active(5),
        lingers=True,
    )
    running = asyncio.create_task(world.run(handler))
    order = await handler.heard.get()
    assert order.room_keys == (RoomKey(0, b"configured"),) and order.keys_from is ipc.KeysFrom.SERVICE
    assert await handler.heard.get() == ipc.KeysGiven(2, error="it answers 503")
    answered.set()
    assert await handler.heard.get() == ipc.KeysGiven(1, KeyAnswer((RoomKey(3, b"hidden"),)))
    assert world.job.active_s is not None
    handler.said.put_nowait(Ended(9, EndReason.API))
    handler.said.put_nowait(None)
    assert (await running).status == Status.EGRESS_COMPLETE


async def test_without_a_key_service_a_handler_has_what_is_configured(tmp_path: Path) -> None:
    world, handler = World(tmp_path, FILE), Handler(ipc.AskKeys(1, KeyQuestion(())), lingers=True)
    running = asyncio.create_task(world.run(handler))
    assert (await handler.heard.get()).keys_from is ipc.KeysFrom.CONFIGURATION
    assert await handler.heard.get() == ipc.KeysGiven(1, error="its room has no key service")
    handler.said.put_nowait(Ended(9, EndReason.API))
    handler.said.put_nowait(None)
    await running


AGAIN = Restarted(8, 6, 1, 2_000_000_000)


async def test_another_handler_goes_on_with_what_a_dead_one_recorded(tmp_path: Path) -> None:
    world = World(tmp_path, FILE, resumes=True)
    first, second = Handler(Active(5)), Handler(AGAIN, Ended(9, EndReason.API))
    info = await world.run_each([first, second])
    assert (first.heard.get_nowait().resumes, second.heard.get_nowait().resumes) == (False, True)
    assert info.status == Status.EGRESS_COMPLETE
    assert info.details == (
        "End reason: StopEgress API; Resumed after the recording process had died (2.0 s are missing)"
    )
    assert [each.status for each in world.told] == [
        Status.EGRESS_ACTIVE,
        Status.EGRESS_ACTIVE,
        Status.EGRESS_COMPLETE,
    ]
    assert world.asides == [AGAIN]


async def test_a_handler_that_was_taken_over_does_not_keep_the_key_service_busy(tmp_path: Path) -> None:
    asked: list[KeyQuestion] = []

    async def ask(plan: Plan, question: KeyQuestion) -> KeyAnswer:
        asked.append(question)
        return KeyAnswer()

    questions = [ipc.AskKeys(n, KeyQuestion((f"person {n}",))) for n in range(500)]
    world, handler = World(tmp_path, FILE, JobKeys((), ask)), Handler(*questions, lingers=True)
    running = asyncio.create_task(world.run(handler))
    answers = [each for _ in range(501) if isinstance(each := await handler.heard.get(), ipc.KeysGiven)]
    handler.said.put_nowait(None)
    await running
    assert len(answers) == 500 and 20 <= len(asked) < 100
    refused = [each for each in answers if each.error]
    assert {each.error for each in refused} == {"the recording asks for keys too often"}
    assert len(refused) == 500 - len(asked)


async def test_another_handler_has_the_keys_of_the_room_too(tmp_path: Path) -> None:
    async def ask(plan: Plan, question: KeyQuestion) -> KeyAnswer:
        return KeyAnswer((RoomKey(3, b"hidden"),))

    world = World(tmp_path, FILE, JobKeys((RoomKey(0, b"configured"),), ask), resumes=True)
    second = Handler(ipc.AskKeys(1, KeyQuestion(())), AGAIN, lingers=True)
    running = asyncio.create_task(world.run_each([Handler(Active(5)), second]))
    order = await second.heard.get()
    assert order.resumes and order.keys_from is ipc.KeysFrom.SERVICE
    assert order.room_keys == (RoomKey(0, b"configured"),)
    assert await second.heard.get() == ipc.KeysGiven(1, KeyAnswer((RoomKey(3, b"hidden"),)))
    for each in (Ended(9, EndReason.API), None):
        second.said.put_nowait(each)
    assert (await running).status == Status.EGRESS_COMPLETE


async def test_handlers_that_die_again_and_again_are_not_followed_without_end(tmp_path: Path) -> None:
    world = World(tmp_path, FILE, resumes=True)
    dying = [Handler(Active(5)), Handler(AGAIN), Handler(AGAIN), Handler(AGAIN)]
    info = await world.run_each(dying, Handler(Ended(9, EndReason.FAILURE)))
    assert info.status == Status.EGRESS_FAILED
    assert info.error.endswith("the recording up to then is kept")
    assert [each.heard.empty() for each in dying] == [False, False, False, True]


async def test_one_that_cannot_go_on_is_finished(tmp_path: Path) -> None:
    world = World(tmp_path, FILE, resumes=True)
    helpless = Handler(Ended(7, EndReason.FAILURE, "recovery: its journal is damaged", "internal"))
    recovery = Handler(Ended(9, EndReason.FAILURE))
    info = await world.run_each([Handler(Active(5)), helpless], recovery)
    assert isinstance(recovery.heard.get_nowait(), ipc.Recover)
    assert info.status == Status.EGRESS_FAILED
    assert "nobody could continue it: recovery: its journal is damaged; the recording up" in info.error


async def test_one_whose_room_is_over_is_finished(tmp_path: Path) -> None:
    world = World(tmp_path, FILE, resumes=True)
    world.room_is_on = False
    info = await world.run_each([], Handler(Ended(9, EndReason.FAILURE)), begun=EarlierStart.HERE)
    assert info.status == Status.EGRESS_FAILED
    assert "its room has ended; the recording up to then is kept" in info.error


async def test_one_that_is_stopped_before_another_goes_on_is_complete(tmp_path: Path) -> None:
    world = World(tmp_path, FILE, resumes=True)
    late = Handler(lingers=True)
    running = asyncio.create_task(
        world.run_each([Handler(Active(5)), late], Handler(Ended(9, EndReason.FAILURE)))
    )
    assert (await late.heard.get()).resumes
    world.job.stop(EndReason.API)
    assert isinstance(await late.heard.get(), ipc.Stop)
    for each in (Ended(8, EndReason.API), None):
        late.said.put_nowait(each)
    info = await running
    assert (info.status, info.error) == (Status.EGRESS_COMPLETE, "")
    assert "the recording process ended (exit status 1)" in info.details


async def test_one_that_recorded_nothing_is_not_gone_on_with(tmp_path: Path) -> None:
    info = await World(tmp_path, FILE, resumes=True).run(Handler())
    assert info.error.endswith("before it could record")


async def test_what_a_dead_handler_was_asked_for_is_refused_at_once(tmp_path: Path) -> None:
    """And so is what is asked for until the next one records; that one is not asked again for what the first
    was told."""
    world, first, second = World(tmp_path, STREAM, resumes=True), Handler(lingers=True), Handler(lingers=True)
    add = (StreamTarget("rtmp://h/app/1", "rtmp://h/app/{1}", "id1"),)
    early = asyncio.create_task(world.job.update_streams(add, ()))
    await asyncio.sleep(0)
    running = asyncio.create_task(world.run_each([first, second]))
    assert isinstance(await first.heard.get(), ipc.Run)
    first.said.put_nowait(Active(5))
    first.said.put_nowait(ipc.Reply((await first.heard.get()).call))
    await early
    asked = [
        asyncio.create_task(each)
        for each in (world.job.update_streams(add, ()), world.job.apply_order("@pause"))
    ]
    for _ in asked:
        await first.heard.get()
    first.said.put_nowait(None)
    assert (await second.heard.get()).resumes
    more = (world.job.update_streams(add, ()), world.job.apply_order(""))
    asked += [asyncio.create_task(each) for each in more]
    async with asyncio.timeout(1):
        refusals = await asyncio.gather(*asked, return_exceptions=True)
    assert [
        (each.code, "try again" in each.message) for each in refusals if isinstance(each, EgressError)
    ] == [(Code.UNAVAILABLE, True)] * 4
    assert second.heard.empty()
    second.said.put_nowait(AGAIN)
    while world.job.record.info.details == "":  # noqa: ASYNC110 - its event is taken within a few turns
        await asyncio.sleep(0)
    await world.job.apply_order("")
    for each in (Ended(9, EndReason.API), None):
        second.said.put_nowait(each)
    await running


@pytest.mark.parametrize("begun", [EarlierStart.ELSEWHERE, EarlierStart.ELSEWHERE_LEFT])
async def test_a_takeover_whose_handler_dies_before_it_records_is_begun_anew(
    tmp_path: Path, begun: EarlierStart
) -> None:
    """Its worker may have been started again in that moment. What the dead one left would refuse the next
    one."""
    world, recovery = World(tmp_path, FILE, resumes=True), Handler(Ended(7, EndReason.FAILURE))
    second = Handler(Active(8), Ended(9, EndReason.API))
    dead = [Handler()] if begun is EarlierStart.ELSEWHERE else []
    info = await world.run_each([*dead, second], recovery, begun=begun)
    assert isinstance(recovery.heard.get_nowait(), ipc.Recover) and recovery.heard.empty()
    assert not second.heard.get_nowait().resumes
    assert (info.status, info.error) == (Status.EGRESS_COMPLETE, "")


async def test_a_takeover_that_is_stopped_before_it_records_is_complete(tmp_path: Path) -> None:
    """What was recorded before is with the worker that is lost."""
    world, late = World(tmp_path, FILE, resumes=True), Handler(lingers=True)
    world.job.record.apply(Active(5))  # as the worker before has told
    running = asyncio.create_task(
        world.run_each([late], Handler(Ended(9, EndReason.FAILURE)), begun=EarlierStart.ELSEWHERE)
    )
    assert isinstance(await late.heard.get(), ipc.Run)
    world.job.stop(EndReason.API)
    assert isinstance(await late.heard.get(), ipc.Stop)
    for each in (Ended(8, EndReason.API), None):
        late.said.put_nowait(each)
    info = await running
    assert (info.status, info.error) == (Status.EGRESS_COMPLETE, "")
    assert "the worker that recorded this was lost" in info.details


async def test_one_that_is_left_to_the_next_start_does_not_end(tmp_path: Path) -> None:
    world, handler = World(tmp_path, FILE, resumes=True), Handler(Active(5), lingers=True)
    running = asyncio.create_task(world.run(handler))
    assert not world.job.leave(), "there is nothing yet to go on with"
    while world.job.active_s is None:  # noqa: ASYNC110 - its event is taken within a few turns
        await asyncio.sleep(0)
    assert world.job.leave()
    world.job.stop(EndReason.KILLED)
    info = await running
    assert (handler.killed, handler.reaped, world.job.is_left) == (True, True, True)
    assert (info.status, info.error, info.details) == (Status.EGRESS_ACTIVE, "", "")


async def test_one_without_the_option_is_not_left(tmp_path: Path) -> None:
    world, handler = World(tmp_path, FILE), Handler(Active(5), Ended(9, EndReason.KILLED), lingers=True)
    running = asyncio.create_task(world.run(handler))
    while world.job.active_s is None:  # noqa: ASYNC110 - its event is taken within a few turns
        await asyncio.sleep(0)
    assert not world.job.leave()
    handler.said.put_nowait(None)
    assert (await running).status == Status.EGRESS_COMPLETE
