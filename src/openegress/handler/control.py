"""Ends or interrupts a recording independently of its source: by limits and orders, both of which may
change."""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec

from openegress.core.clip_plan import ClipStored
from openegress.core.errors import Code, EgressError, invalid
from openegress.core.events import AnyEvent, EndReason, MarkerAdded, Paused, Resumed
from openegress.core.live_state import LiveState
from openegress.core.marker import Marker
from openegress.core.pause_mode import PauseMode
from openegress.core.plan import LayoutSource, Plan
from openegress.core.render import Render
from openegress.core.units import S
from openegress.handler.media_input import MediaInput
from openegress.handler.outputs import Outputs
from openegress.handler.past import Past
from openegress.handler.pauses import Pauses
from openegress.handler.sidecars import SidecarRecorder
from openegress.handler.silence_limit import SilenceLimit
from openegress.handler.time_limits import TimeLimits
from openegress.media import FrameSink, PacketSink
from openegress.media.hearing import SoundProbe, SoundTap
from openegress.output.manifest import ClipRecord, Pause
from openegress.request import look_options, options, orders
from openegress.request.asked_options import changed_rules, refuse_unsuited
from openegress.request.live_state import as_shown, live_state
from openegress.request.look_options import LookOptions
from openegress.request.orders import AddMarker, Order, PauseOrder, SetOptions
from openegress.room.events import OwnMetadataChanged
from openegress.source import Observed

_log = logging.getLogger(__name__)

MAX_EARLY_ORDERS = 100
"""Limit for orders that wait for the first frame; the latest ones are kept."""


class RecordingControl:
    """Applies limits and orders to one recording. Runs on the event loop."""

    def __init__(
        self, plan: Plan, send: Callable[[AnyEvent | LiveState], None], end: Callable[[EndReason], None]
    ) -> None:
        """`end` may be called more than once, but not after close()."""
        self._plan = plan
        self._send = send
        self._asked = plan
        """The plan, including later changes."""
        self._times = TimeLimits(plan, end)
        self._silence = SilenceLimit(partial(end, EndReason.SILENT))
        self._pauses = Pauses(plan.on_pause)
        self.sidecars = SidecarRecorder(plan)
        self._recorded: tuple[MediaInput, Outputs] | None = None
        """The current recording, if any."""
        self._is_heard = False
        self._early: deque[Order] | None = deque(maxlen=MAX_EARLY_ORDERS)
        """Orders from the room before recording starts; None once they have been carried out."""
        self._early_layouts: deque[str] = deque(maxlen=MAX_EARLY_ORDERS)
        """Layouts that were set before recording starts, noted for a handler that continues the recording."""
        self._beginning: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    def start(self) -> None:
        """Starts the time limits that apply before recording starts."""
        self._times.start()

    def listeners(self, media_input: MediaInput) -> tuple[list[PacketSink], list[FrameSink]]:
        """Sinks that get the media in addition to the outputs."""
        formats, hearing = list(media_input.formats()), self._silence.hearing
        # A source that learns its tracks later has none here.
        self._is_heard = not formats or any(form.is_sound for form in formats)
        if media_input.passes_through:
            return [SoundProbe(hearing, formats)], []
        return [], [SoundTap(hearing)]

    def record(
        self, started_at_ns: int, media_input: MediaInput, outputs: Outputs, past: Past | None = None
    ) -> None:
        """Notes that the current recording began at this unix time. `past` is what it continues."""
        self._recorded = media_input, outputs
        self._times.record(started_at_ns)
        if past is not None:
            self._go_on(past, started_at_ns)
        elif self._plan.part is not None and self._plan.part.pause is not None:
            self._begin_paused(self._plan.part.pause, started_at_ns, outputs)
        self._tell_live()
        if not self._pauses.is_paused:
            self._count_silence()
        self._beginning = asyncio.create_task(self._apply_early_orders(), name="early orders")

    def _go_on(self, past: Past, started_at_ns: int) -> None:
        self._times.go_on(past.end_ns / S, past.started_at_ns)
        self._pauses.go_on(past.pauses)
        if past.is_cut_now:
            self._times.note(Paused(started_at_ns))
        self.sidecars.note_gap(past.lost_at_ns, None if past.is_cut_now else started_at_ns)

    def _begin_paused(self, mode: PauseMode, started_at_ns: int, outputs: Outputs) -> None:
        self._pauses.go_on((Pause(started_at_ns, 0),))
        if mode is PauseMode.CUT:
            self._times.note(Paused(started_at_ns))
        self.sidecars.note(Paused(started_at_ns))
        outputs.note_pauses(self._pauses.until(0))

    def _tell_live(self) -> None:
        """Sends the live state for a worker on another machine that takes over. A worker on this machine has
        the journal."""
        if self._plan.resumes:
            counted_ns, is_counting = round(self._times.counted_s * S), self._times.is_counting
            self._send(live_state(self._asked, time.time_ns(), counted_ns, is_counting=is_counting))

    def end(self) -> None:
        """Notes that recording has ended."""
        self._recorded = None
        self._silence.stop()

    def close(self) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
        self._silence.stop()
        self._times.close()

    def pauses_until(self, ended_at_ns: int) -> tuple[Pause, ...]:
        """All pauses. An open one ends with the recording."""
        return self._pauses.until(ended_at_ns)

    async def apply_order(self, order: Order) -> None:
        """Applies an order and returns once it is carried out. Raises EgressError."""
        if self._beginning is not None:
            await asyncio.wait([self._beginning])  # earlier orders come first
        async with self._one_at_a_time:
            await self._carry_out(order)

    async def note_clip(self, clip: ClipStored, outputs: Outputs) -> None:
        record = ClipRecord(clip.filename, clip.location, clip.begin_ns, clip.end_ns, clip.presign_error)
        await asyncio.to_thread(outputs.note_clip, record)
        self.sidecars.note_clip(record)

    async def observe(self, observed: Observed) -> None:
        """Takes an event of the room."""
        self.sidecars.observe(observed)
        if not isinstance(self._plan.source, LayoutSource) or not isinstance(
            observed.event, OwnMetadataChanged
        ):
            return
        if (layout := orders.layout_in(observed.event.metadata)) is not None:
            # Keep only the layout: the rest may be long.
            self._early_layouts.append(json.dumps({"layout": layout}))
            await self._note_layouts()

    async def _note_layouts(self) -> None:
        while self._recorded is not None and self._early_layouts:
            await self._note_looks(self._early_layouts.popleft(), self._recorded[1])

    async def _note_looks(self, metadata: str, outputs: Outputs) -> None:
        await asyncio.to_thread(outputs.note_change, metadata)
        self._asked = as_shown(self._asked, metadata)
        self._tell_live()

    async def apply_room_order(self, order: Order) -> None:
        """Applies an order whose sender gets no answer: failures go to the log. An order before the recording
        starts waits for the start."""
        if self._early is not None:
            self._early.append(order)
            return
        async with self._one_at_a_time:
            await self._carry_out_logged(order)

    async def _apply_early_orders(self) -> None:
        await self._note_layouts()
        async with self._one_at_a_time:
            while self._early:
                await self._carry_out_logged(self._early.popleft())
            self._early = None

    async def _carry_out_logged(self, order: Order) -> None:
        try:
            await self._carry_out(order)
        except EgressError as error:
            _log.warning(
                "an order could not be carried out", extra={"order": str(order), "error": error.text}
            )
        except Exception:
            _log.exception("an order could not be carried out", extra={"order": str(order)})

    async def _carry_out(self, order: Order) -> None:
        if self._recorded is None:
            raise EgressError(Code.FAILED_PRECONDITION, "the egress is not recording")
        media_input, outputs = self._recorded
        match order:
            case PauseOrder():
                await self._pause(order, media_input, outputs)
            case SetOptions():
                await self._change(order, media_input, outputs)
            case AddMarker(name, ago_s):
                at_s = max(0.0, self._times.recorded_s - ago_s)
                marker = Marker(name, round(at_s * S), time.time_ns() - round(ago_s * S))
                await asyncio.to_thread(outputs.mark, marker)
                self.sidecars.mark(marker)
                self._send(MarkerAdded(marker.unix_ns, name, marker.at_ns))

    async def _pause(self, order: PauseOrder, media_input: MediaInput, outputs: Outputs) -> None:
        done = await self._pauses.apply_order(order, media_input)
        if done is None:
            return
        if self._plan.on_pause is PauseMode.CUT:
            self._times.note(done)  # a card is recorded like everything else
        self.sidecars.note(done)
        await asyncio.to_thread(outputs.note_pauses, self._pauses.until(0))
        match done:
            case Paused():
                self._silence.stop()
            case Resumed():
                self._count_silence()
        self._send(done)
        self._tell_live()

    async def _change(self, order: SetOptions, media_input: MediaInput, outputs: Outputs) -> None:
        refuse_unsuited(order.options, self._plan)
        if order.options.stop_when_silent and not self._is_heard:
            raise invalid("stop_when_silent: this egress records no sound")
        looks, _ = options.apart(order.options)
        if looks != LookOptions():
            text = f"?{options.text_of(looks)}"
            if self._plan.render is Render.DEFERRED:
                look_options.refuse_unknown_pictures(looks, self._plan.pictures)
                self.sidecars.note_looks(text)
            else:
                await media_input.change_looks(looks)
            await self._note_looks(json.dumps({"layout": text}), outputs)
        before, rules = self._asked.end_rules, changed_rules(self._asked.end_rules, order.options)
        self._asked = msgspec.structs.replace(self._asked, end_rules=rules)
        await media_input.change_rules(rules)
        outputs.change_size_limit(rules.max_size_bytes)
        self._times.change(rules)
        await asyncio.to_thread(outputs.note_change, rules)
        self._tell_live()
        if rules.stop_when_silent_s != before.stop_when_silent_s and not self._pauses.is_paused:
            self._count_silence()
        _log.info("options changed", extra={"options": str(order)})

    def _count_silence(self) -> None:
        self._silence.begin(self._asked.end_rules.stop_when_silent_s if self._is_heard else 0.0)
