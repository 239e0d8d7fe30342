"""Reports every second how far a recording is, to its worker and for a handler that may continue it."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from openegress.core import daemon_thread
from openegress.core.events import AnyEvent, Progress

if TYPE_CHECKING:
    from openegress.handler.media_input import MediaInput
    from openegress.handler.outputs import Outputs

_PROGRESS_S = 1.0
"""Interval of reports. A report is also the sign of life by which the worker recognises a handler that
hangs."""


async def report_progress(
    send: Callable[[AnyEvent], None], recorded: "Callable[[], tuple[MediaInput, Outputs] | None]"
) -> None:
    """Runs until it is cancelled. `recorded` returns None while nothing is recorded."""
    frames, at_s = 0, time.monotonic()
    noting: Future[None] | None = None
    while True:
        await asyncio.sleep(_PROGRESS_S)
        if (found := recorded()) is None:
            send(Progress(0, 0, 0, 0, 0))
            continue
        media_input, outputs = found
        if outputs.only_sends and (noting is None or noting.done()):  # the disk may hang
            noting = daemon_thread.submit("sign of life", outputs.note_alive)
        sample, now_s = media_input.sample(), time.monotonic()
        send(
            Progress(
                media_ns=sample.media_ns + outputs.goes_on_at_ns,
                frames=sample.frames,
                unique_frames=sample.unique_frames,
                dropped_frames=sample.dropped_frames,
                size_bytes=outputs.size_bytes(),
                queue=sample.queue,
                sent_bytes=outputs.sent_bytes(),
                waiting_uploads=outputs.waiting_uploads(),
                fps=(sample.frames - frames) / (now_s - at_s),
                speed=sample.speed,
            )
        )
        frames, at_s = sample.frames, now_s
