"""How long media waits between its moment and the encoder, where drawing and encoding take too long.

The real parts run on one clock that only the tests move: a room's timeline and output, and the encoder's
queue. The compositor and the encoder are simulated: they take time, and nothing else.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openegress.core.units import MS, US, S
from openegress.media.frame_queue import FrameQueue, QueuedPicture, QueuedSound
from openegress.media.overload import LAST_PICTURES_S, MAX_WAITING_NS
from openegress.media.samples import SAMPLE_RATE
from openegress.source.cuts import BLOCK_NS
from openegress.source.room.compositor import AUDIO_PATIENCE_NS, VIDEO_PATIENCE_NS
from openegress.source.room.paced_output import PacedOutput, TimeSpent, Until
from openegress.source.room.timeline import RoomTimeline

SOUND_COST_NS = 200 * US
BLOCK = bytes(4)
FOR_EVER_NS = 1 << 62


class _Idle(Exception):
    """The encoder waits for more."""


class _Turns:
    """Takes the place of the queue's condition: who waits lets the encoder work meanwhile."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def notify_all(self) -> None: ...

    def wait(self, timeout_s: float | None = None) -> bool:
        if timeout_s is None:
            raise _Idle
        return self._machine.step(self._machine.now_ns + round(timeout_s * S))


@dataclass
class Costs:
    """What a machine takes for each picture, in turn, in ns."""

    drawing: list[int]
    encoding: list[int]
    sound_ns: int = SOUND_COST_NS
    """For each call of the encoder, however much sound it gets."""
    stalls: dict[int, int] = field(default_factory=dict)
    """By tick: for how long nothing is drawn then."""


class Machine:
    """Two threads: one draws, one encodes."""

    def __init__(self, framerate: int, costs: Costs, hold_s: float, now_ns: Callable[[], int]) -> None:
        self.now_ns = 0
        self.queue = FrameQueue(framerate, hold_s, now_ns, lambda: self.now_ns / S)
        cast("Any", self.queue)._changed = _Turns(self)
        self._drawing, self._encoding = cycle(costs.drawing), cycle(costs.encoding)
        self._busy_until_ns = 0
        self.pictures: list[tuple[int, int]] = []
        """(PTS, age) of each picture that was encoded."""
        self.sound_ns: list[int] = []
        self.sound_ages_ns: list[int] = []
        self._sound_ns = costs.sound_ns

    def draw(self) -> None:
        self.pass_until(self.now_ns + next(self._drawing))

    def pass_until(self, at_ns: int) -> None:
        while self.step(at_ns):
            pass

    def step(self, until_ns: int) -> bool:
        """The encoder takes its next item; False: it takes none until then."""
        starts_ns = max(self.now_ns, self._busy_until_ns)
        if starts_ns >= until_ns:
            self.now_ns = max(self.now_ns, until_ns)
            return False
        before_ns, self.now_ns = self.now_ns, starts_ns
        try:
            item = self.queue.take()
        except _Idle:
            item = None
        match item:
            case QueuedPicture(_, pts_ns):
                self.pictures.append((pts_ns, self.now_ns - pts_ns))
                self._busy_until_ns = self.now_ns + next(self._encoding)
            case QueuedSound(samples, pts_ns, _):
                blocks = len(samples) // len(BLOCK)
                self.sound_ns += [pts_ns + number * BLOCK_NS for number in range(blocks)]
                self.sound_ages_ns.append(self.now_ns - pts_ns)
                self._busy_until_ns = self.now_ns + self._sound_ns
            case _:
                self.now_ns = max(before_ns, until_ns if until_ns < FOR_EVER_NS else before_ns)
                return False
        return True

    def finish(self) -> None:
        """The encoder takes what is left."""
        self.queue.close()
        while self.step(FOR_EVER_NS):
            pass
        self.now_ns = max(self.now_ns, self._busy_until_ns)

    # --- FrameSink

    def video(self, frame: object, pts_ns: int) -> None:
        self.queue.put_picture(cast("Any", frame), pts_ns)

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        assert sample_rate == SAMPLE_RATE
        self.queue.put_sound(samples, pts_ns, sample_rate)


@dataclass(frozen=True)
class Silences:
    """How long before now the room's tracks were heard of last."""

    pictures_ns: int = 0
    sound_ns: int = 0
    every_ns: int = 0
    """Sound is heard again for as long, and so on; 0: it stays silent."""


class Room:
    """A room of which one composite is recorded, as source.room.frames_source does it."""

    def __init__(
        self, framerate: int, costs: Costs, silences: Silences = Silences(), waited_ns: int = 0
    ) -> None:
        """`waited_ns`: for how long media came before the recording began."""
        self._silences = silences
        self._framerate = framerate
        self.timeline = RoomTimeline()
        self.machine = Machine(framerate, costs, 1.0, self._due_ns)
        self.machine.now_ns = waited_ns
        self.timeline.begin(0, waited_ns)
        self._tick_ns = min(S // 10, 3 * S // framerate)
        self.output = PacedOutput(cast("Any", self), framerate, with_audio=True, tick_ns=self._tick_ns)
        self._stalls = costs.stalls

    def _due_ns(self) -> int:
        return self.timeline.due_ns(self.machine.now_ns) - self.output.excused_ns

    def complete_ns(self, now_ns: int) -> int:
        silences = self._silences
        is_silent = not silences.every_ns or now_ns // silences.every_ns % 2
        silence_ns = max(
            min(silences.pictures_ns, VIDEO_PATIENCE_NS),
            min(silences.sound_ns, AUDIO_PATIENCE_NS) if is_silent else 0,
        )
        return now_ns - silence_ns

    def picture(self, slot_ns: int) -> object:
        self.machine.draw()
        return object()

    def sound(self, block: int) -> bytes:
        self.machine.pass_until(self.machine.now_ns + SOUND_COST_NS)
        return BLOCK

    def record(self, until_ns: int, known: Callable[[int], int] = lambda now_ns: now_ns) -> None:
        machine, tick = self.machine, 0
        began_ns = machine.now_ns
        while machine.now_ns < until_ns:
            tick += 1
            machine.pass_until(began_ns + tick * self._tick_ns + self._stalls.get(tick, 0))
            now_ns = machine.now_ns
            tick = max(tick, (now_ns - began_ns) // self._tick_ns)
            until = self.output.until(self.timeline.due_ns(now_ns), now_ns, known(now_ns), self.timeline.cuts)
            self._give(until)

    def stop(self) -> int:
        """Returns how long that takes."""
        machine, stop_ns = self.machine, self.machine.now_ns
        machine.queue.expect_end()
        self._give(self.output.until_end(stop_ns), stop_ns)
        machine.finish()
        return machine.now_ns - stop_ns

    def _give(self, until: Until, stop_ns: int = 0) -> None:
        spent = TimeSpent(lambda: self.machine.now_ns, self.machine.now_ns, stop_ns)
        cuts = self.timeline.cuts
        self.output.give(cast("Any", self.machine), until, cuts, cuts, spent)

    @property
    def left_out(self) -> int:
        return self.output.left_out + self.machine.queue.dropped


def check_ages(machine: Machine, *, grace_ns: int = 0) -> None:
    """Of what the encoder was given: it gets one picture in a second in any case."""
    before_ns = -S
    for pts_ns, age_ns in machine.pictures:
        assert age_ns <= MAX_WAITING_NS + grace_ns or pts_ns - before_ns >= S
        before_ns = pts_ns


def check_sound(machine: Machine, end_ns: int) -> None:
    """It is whole."""
    assert machine.sound_ns == [number * BLOCK_NS for number in range(end_ns // BLOCK_NS)]


RATES = st.sampled_from([1, 5, 15, 30, 60])
DRAWING = st.lists(st.integers(1 * MS, 400 * MS), min_size=1, max_size=6)
ENCODING = st.lists(st.integers(1 * MS, 600 * MS), min_size=1, max_size=6)
STALLS = st.dictionaries(st.integers(1, 40), st.integers(0, 3000 * MS), max_size=3)
COSTS = st.builds(Costs, DRAWING, ENCODING, stalls=STALLS)
SILENCES = st.builds(Silences, st.integers(0, 5 * S), st.integers(0, 5 * S), st.sampled_from([0, S, 2 * S]))


@settings(deadline=None, max_examples=80)
@given(RATES, COSTS, SILENCES, st.integers(0, 3 * S))
def test_no_picture_that_is_encoded_has_waited_for_a_second(
    framerate: int, costs: Costs, silences: Silences, held_up_ns: int
) -> None:
    """Whatever drawing and encoding take, whatever is awaited, and while the event loop is held up. The
    longer wait for lost sound comes on top."""
    room = Room(framerate, costs, silences)
    room.record(5 * S, known=lambda now_ns: max(0, now_ns - held_up_ns))
    end_ns = room.machine.now_ns
    stop_ns = room.stop()
    check_ages(room.machine, grace_ns=max(0, min(silences.sound_ns, AUDIO_PATIENCE_NS) - VIDEO_PATIENCE_NS))
    check_sound(room.machine, end_ns)
    slots = math.ceil(end_ns * framerate / S)
    assert len(room.machine.pictures) + room.left_out == slots
    # A picture that is being drawn, and one that is being encoded, cannot be left out any more.
    under_way_ns = max(costs.drawing) + 2 * max(costs.encoding)
    sound_ns = 2 * SOUND_COST_NS * (end_ns // BLOCK_NS)
    assert stop_ns <= round(LAST_PICTURES_S * S) + under_way_ns + sound_ns


def hiccups(most_ms: int) -> st.SearchStrategy[dict[int, int]]:
    """At most every second."""
    return st.dictionaries(st.integers(1, 4).map(lambda n: 20 * n), st.integers(0, most_ms * MS), max_size=2)


@settings(deadline=None, max_examples=50)
@example(15, (Silences(0, 600 * MS), {}), 0)
@example(30, (Silences(0, 900 * MS), {}), 0)
@given(
    st.sampled_from([15, 30, 60]),
    st.one_of(
        st.tuples(st.just(Silences()), hiccups(400)),
        st.tuples(SILENCES, hiccups(120)),
    ),
    st.integers(0, 2 * S),
)
def test_a_machine_that_has_time_loses_nothing(
    framerate: int, troubles: tuple[Silences, dict[int, int]], waited_ns: int
) -> None:
    """Whatever is awaited, however long a beginning took, and with a hiccup now and then."""
    silences, stalls = troubles
    room = Room(
        framerate,
        Costs([4 * MS], [12 * MS if framerate < 60 else 6 * MS], stalls=stalls),
        silences,
        waited_ns,
    )
    room.record(waited_ns + 6 * S)
    end_ns = room.machine.now_ns
    room.stop()
    assert room.left_out == 0
    check_sound(room.machine, end_ns)


@settings(deadline=None, max_examples=50)
@given(RATES, ENCODING, st.lists(st.integers(0, 2000 * MS), max_size=40))
def test_no_picture_of_a_page_has_waited_for_a_second(
    framerate: int, encoding: list[int], stalls: list[int]
) -> None:
    """Its slots are filled as soon as the machine gives time for it."""
    machine = Machine(framerate, Costs([0], encoding), 0.0, lambda: machine.now_ns)
    slot = 0
    for stall_ns in [*stalls, *([0] * framerate * 4)]:
        machine.pass_until(max(machine.now_ns, slot * S // framerate) + stall_ns)
        while slot * S // framerate <= machine.now_ns:
            machine.video(None, slot * S // framerate)
            slot += 1
    machine.queue.expect_end()
    stop_ns = machine.now_ns
    machine.finish()
    check_ages(machine)
    assert len(machine.pictures) + machine.queue.dropped == slot
    assert machine.now_ns - stop_ns <= round(LAST_PICTURES_S * S) + 2 * max(encoding)


@pytest.mark.parametrize("encoding_ms", [1500, 3000])
def test_an_encoder_that_is_far_too_slow_gets_a_picture_now_and_then(encoding_ms: int) -> None:
    room = Room(30, Costs([5 * MS], [encoding_ms * MS]))
    room.record(30 * S)
    assert len(room.machine.pictures) >= 30_000 // encoding_ms - 2


@pytest.mark.parametrize("sound_ms", [5, 15, 40])
def test_sound_does_not_pile_up_where_each_call_of_its_encoder_takes_long(sound_ms: int) -> None:
    """A call for a block takes a millisecond of CPU time on a machine that is busy with something else."""
    room = Room(30, Costs([60 * MS], [300 * MS], sound_ms * MS))
    room.record(20 * S)
    end_ns = room.machine.now_ns
    room.stop()
    check_sound(room.machine, end_ns)
    assert max(room.machine.sound_ages_ns) < 1500 * MS
