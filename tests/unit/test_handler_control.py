"""Orders that a recording gets."""

import asyncio
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from openegress.core.end_rules import EndRules
from openegress.core.errors import EgressError
from openegress.core.events import AnyEvent, MarkerAdded, Paused, Resumed
from openegress.core.live_state import LiveState
from openegress.core.looks import Caption, Looks, PictureName
from openegress.core.part import Part
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import LayoutSource, Plan, WebSource
from openegress.core.render import Render
from openegress.core.units import S
from openegress.core.values import Seconds
from openegress.handler.control import RecordingControl
from openegress.handler.pauses import MOST_PAUSES, Pauses
from openegress.output import Opening
from openegress.output.sidecar.entries import ASKED
from openegress.output.sidecar.log import read
from openegress.request.look_options import LookOptions
from openegress.request.options import Options
from openegress.request.orders import AddMarker, Order, PauseOrder, SetOptions
from openegress.room import OwnMetadataChanged
from openegress.source import Observed
from openegress.source.room.meeting_history import MeetingHistory, RoomChange
from openegress.storage.uploader import Uploader

PLAN = Plan("EG_1", WebSource("http://e"), (), None, None)
BEGAN_NS = 1_700_000_000 * S


class FakeInput:
    """A source of packets that is paused at once."""

    passes_through = True

    def __init__(self) -> None:
        self.paused_at_ns = BEGAN_NS
        self.unpaused = asyncio.Event()

    def formats(self) -> list[object]:
        return []

    async def change_looks(self, asked: LookOptions) -> None:
        pass

    async def change_rules(self, rules: EndRules) -> None:
        pass

    async def pause(self, mode: PauseMode) -> int:
        return self.paused_at_ns

    async def resume(self) -> int:
        await self.unpaused.wait()
        return self.paused_at_ns + S


class FakeOutputs:
    def mark(self, marker: object) -> None:
        pass

    def note_pauses(self, pauses: object) -> None:
        pass


class Changeable(FakeOutputs):
    def note_change(self, change: object) -> None:
        pass

    def change_size_limit(self, max_bytes: int) -> None:
        pass


def control(told: list[AnyEvent | LiveState]) -> RecordingControl:
    return RecordingControl(PLAN, told.append, lambda reason: None)


async def test_an_order_that_goes_wrong_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: RecordingControl, order: Order) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(RecordingControl, "_carry_out", broken)
    steered = control([])
    await steered.obey_unasked(PauseOrder.PAUSE)
    steered.record(BEGAN_NS, cast("Any", FakeInput()), cast("Any", FakeOutputs()))
    with pytest.raises(ValueError, match="no such thing"):
        await steered.obey(PauseOrder.PAUSE)
    steered.close()
    assert "an order could not be carried out" in caplog.text and "no such thing" in caplog.text


async def test_what_is_asked_in_the_room_before_the_first_frame_counts_from_it_on() -> None:
    told: list[AnyEvent | LiveState] = []
    steered, source = control(told), FakeInput()
    for order in (PauseOrder.PAUSE, PauseOrder.RESUME, AddMarker("Begin"), PauseOrder.PAUSE):
        await steered.obey_unasked(order)
    assert told == []
    source.unpaused.set()
    steered.record(BEGAN_NS, cast("Any", source), cast("Any", FakeOutputs()))
    await steered.obey(PauseOrder.PAUSE)  # waits its turn, and it is paused already
    assert [type(each) for each in told] == [Paused, Resumed, MarkerAdded, Paused]
    (pause, last) = steered.pauses_until(BEGAN_NS + 9 * S)
    assert (pause.paused_at_ns, last.resumed_at_ns) == (BEGAN_NS, BEGAN_NS + 9 * S)
    steered.close()


async def test_what_comes_while_earlier_orders_are_carried_out_follows_them() -> None:
    told: list[AnyEvent | LiveState] = []
    steered, source = control(told), FakeInput()
    for order in (PauseOrder.PAUSE, PauseOrder.RESUME):
        await steered.obey_unasked(order)
    steered.record(BEGAN_NS, cast("Any", source), cast("Any", FakeOutputs()))
    await asyncio.sleep(0)  # it resumes, which takes its time
    await steered.obey_unasked(PauseOrder.PAUSE)
    source.unpaused.set()
    await steered.obey(PauseOrder.PAUSE)
    assert [type(each) for each in told] == [Paused, Resumed, Paused]
    steered.close()


async def test_how_a_recording_looks_is_noted_for_whoever_goes_on_with_it() -> None:
    source = FakeInput()
    noted: list[object] = []

    class Outputs(FakeOutputs):
        def note_change(self, change: object) -> None:
            noted.append(change)

        def change_size_limit(self, max_bytes: int) -> None:
            pass

    steered = control([])
    steered.start()
    steered.record(BEGAN_NS, cast("Any", source), cast("Any", Outputs()))
    await steered.obey(SetOptions(Options(names=True)))
    steered.close()
    assert noted == ['{"layout": "?names=true"}', PLAN.end_rules]


async def test_of_metadata_only_the_layout_that_they_ask_for_is_noted() -> None:
    noted: list[object] = []

    class Outputs(FakeOutputs):
        def note_change(self, change: object) -> None:
            noted.append(change)

    source = LayoutSource("r", "grid", "ws://h", "t")
    steered = RecordingControl(msgspec.structs.replace(PLAN, source=source), lambda _: None, lambda _: None)
    steered.record(BEGAN_NS, cast("Any", FakeInput()), cast("Any", Outputs()))
    notes = '"notes": "' + "n" * 60_000 + '"'
    for metadata in ("m" * 60_000, f"{{{notes}}}", f'{{"layout": "speaker", {notes}}}'):
        await steered.observe(Observed(OwnMetadataChanged(metadata), BEGAN_NS))
    steered.close()
    assert noted == ['{"layout": "speaker"}']


async def test_another_worker_would_know_all_that_was_asked_of_it() -> None:
    told: list[AnyEvent | LiveState] = []
    source = FakeInput()
    source.unpaused.set()
    room = LayoutSource("r", "grid", "ws://h", "t")
    plan = msgspec.structs.replace(PLAN, source=room, resumes=True, part=Part(1, 0, recorded_ns=7 * S))
    steered = RecordingControl(plan, told.append, lambda _: None)
    steered.record(BEGAN_NS, cast("Any", source), cast("Any", Changeable()))
    await steered.observe(Observed(OwnMetadataChanged('{"layout": "speaker?names=true"}'), BEGAN_NS))
    await steered.obey(SetOptions(Options(stop_when_empty=Seconds(9.0))))
    await steered.obey(PauseOrder.PAUSE)
    states = [each for each in told if isinstance(each, LiveState)]
    assert [(each.layout, each.looks, each.end_rules, each.is_counting) for each in states] == [
        ("grid", Looks(), EndRules(), True),
        ("speaker", Looks(names=True), EndRules(), True),
        ("speaker", Looks(names=True), EndRules(stop_when_empty_s=9.0), True),
        ("speaker", Looks(names=True), EndRules(stop_when_empty_s=9.0), False),
    ]
    assert all(each.recorded_ns >= 7 * S for each in states)
    await steered.obey(PauseOrder.RESUME)
    assert isinstance(told[-1], LiveState) and told[-1].is_counting
    steered.close()


@pytest.mark.parametrize(("mode", "is_counting"), [(PauseMode.CUT, False), (PauseMode.HOLD, True)])
async def test_a_part_of_a_paused_egress_begins_paused(mode: PauseMode, is_counting: bool) -> None:
    told: list[AnyEvent | LiveState] = []
    plan = msgspec.structs.replace(PLAN, resumes=True, part=Part(1, 0, pause=mode), on_pause=mode)
    steered, source = RecordingControl(plan, told.append, lambda _: None), FakeInput()
    source.unpaused.set()
    steered.record(BEGAN_NS, cast("Any", source), cast("Any", FakeOutputs()))
    (state,) = told
    assert isinstance(state, LiveState) and state.is_counting == is_counting
    assert [each.paused_at_ns for each in steered.pauses_until(BEGAN_NS + S)] == [BEGAN_NS]
    await steered.obey(PauseOrder.PAUSE)
    assert told == [state], "it is paused already"
    await steered.obey(PauseOrder.RESUME)
    assert isinstance(told[1], Resumed)
    steered.close()


async def test_more_pauses_than_a_recording_may_have() -> None:
    paused, source = Pauses(PauseMode.CUT), FakeInput()
    source.unpaused.set()
    for _ in range(MOST_PAUSES):
        await paused.obey(PauseOrder.PAUSE, cast("Any", source))
        await paused.obey(PauseOrder.RESUME, cast("Any", source))
    with pytest.raises(EgressError, match="1000 pauses"):
        await paused.obey(PauseOrder.PAUSE, cast("Any", source))
    assert not paused.is_paused and len(paused.until(0)) == MOST_PAUSES


async def test_looks_of_what_is_composed_later_change_then(tmp_path: Path) -> None:
    """Its tracks come as they are, and show nothing of them."""

    class Tracks(FakeInput):
        async def change_looks(self, asked: LookOptions) -> None:
            raise AssertionError(asked)

    room = LayoutSource("r", "grid", "ws://h", "t")
    plan = Plan("EG_1", room, (), None, None, render=Render.DEFERRED)
    steered = RecordingControl(plan, lambda event: None, lambda reason: None)
    steered.sidecars.open(Opening((), BEGAN_NS, str(tmp_path), {}))
    steered.record(BEGAN_NS, cast("Any", Tracks()), cast("Any", Changeable()))
    await steered.obey(SetOptions(Options(text=Caption("Part 2"))))
    with pytest.raises(EgressError, match="logo"):
        await steered.obey(SetOptions(Options(logo=PictureName("unknown"))))
    await steered.sidecars.finish(BEGAN_NS + S, Uploader, lambda event: None)
    steered.close()
    asked = [RoomChange(0, each.event, each.fields) for each in read(tmp_path) if each.event == ASKED]
    (moment,) = MeetingHistory([]).moments(asked)
    assert moment.state.metadata == '{"layout": "?text=Part%202"}'


async def test_a_layout_of_before_the_first_frame_is_noted_with_it() -> None:
    noted: list[object] = []

    class Outputs(FakeOutputs):
        def note_change(self, change: object) -> None:
            noted.append(change)

    plan = Plan("EG_1", LayoutSource("r", "grid", "ws://h", "t"), (), None, None)
    steered = RecordingControl(plan, lambda event: None, lambda reason: None)
    for metadata in ('{"layout": "speaker"}', '{"layout": "?names=true"}'):
        await steered.observe(Observed(OwnMetadataChanged(metadata), BEGAN_NS))
    assert noted == []
    steered.record(BEGAN_NS, cast("Any", FakeInput()), cast("Any", Outputs()))
    await steered.observe(Observed(OwnMetadataChanged('{"layout": "grid"}'), BEGAN_NS))
    await steered.obey(PauseOrder.RESUME)  # what came before has been carried out
    steered.close()
    assert noted == ['{"layout": "speaker"}', '{"layout": "?names=true"}', '{"layout": "grid"}']
