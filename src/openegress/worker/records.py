"""Keeps the EgressInfo of an egress that runs on this worker, and delivers it to IOInfo."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable

import structlog
from livekit.protocol.egress import EgressInfo

from openegress.core import info as transitions
from openegress.core import part_records
from openegress.core.backoff import Backoff
from openegress.core.errors import MAX_MESSAGE_CHARS, Code, EgressError
from openegress.core.events import AnyEvent, Noticed
from openegress.core.tasks import non_fatal
from openegress.core.token_bucket import RefillRate, TokenBucket
from openegress.worker.unreported import Unreported

_log = structlog.get_logger(__name__)

_BACKOFF = Backoff(first_s=0.2, ceiling_s=5.0)
"""Pauses between attempts while IOInfo cannot be reached."""
_WARN_AT = (1, 6)
"""The numbers of failed attempts that are logged: the first one, and one after a long time."""
_LAST_ATTEMPTS = 4
"""Attempts when the worker has to end now: some seconds."""
COUNT_EVERY_S = 5.0
"""Interval of reports of the numbers of images and segments. With a hundred recordings, a worker writes to
its store twenty times a second."""
COUNT_AGAIN_S = 300.0
"""Pause after a count that was not accepted: a livekit-server keeps the records, or the store is unreachable.
Other reports wait for a count in progress, so counts are rarely retried."""
_REPORTS = RefillRate(5.0, 50)
"""Rate of the reports of one record: per second, and at once. A handler under an attacker's control could
otherwise cause a webhook with each of its messages. Changes in the meantime are reported together."""
_PERMANENT_CODES = frozenset({Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED})

Send = Callable[[EgressInfo], Awaitable[object]]
"""Delivers one update to IOInfo; raises EgressError."""
Watch = Callable[[EgressInfo], None]


class Record:
    """Applies events to an EgressInfo and reports changes in order, each until it is accepted.

    Each report causes a webhook. Growing sizes are therefore reported with the next other change, or with a
    count of images and segments, which causes no webhook. While the receiver is unreachable, only the newest
    state of each status waits. The final state is also kept on disk.
    """

    def __init__(
        self,
        info: EgressInfo,
        send: Send,
        unreported: Unreported,
        watch: Watch | None = None,
        count: Send | None = None,
        earlier: EgressInfo | None = None,
    ) -> None:
        """`count` delivers the numbers of images and segments when there is no other change to report.
        `watch` is called with every change at once, before it is reported. `earlier` has the results of parts
        that other workers recorded."""
        self._earlier = earlier or EgressInfo()
        self._last = info
        self.info = info = part_records.joined(self._earlier, info)
        self._send = _paced(send)
        self._unreported = unreported
        self._watch = watch
        self._count = count
        self._counted = counts(info)
        self._count_at_s = 0.0
        """Monotonic time at which the next count may be sent."""
        self._reported = reported_part(info)
        self._waiting: deque[EgressInfo] = deque()
        self._changed = asyncio.Event()
        self._closing = False
        self._stops_retrying = False
        self._reporter = asyncio.create_task(self._report(), name=f"report {info.egress_id}")

    def apply(self, event: AnyEvent) -> None:
        last = transitions.apply(self._last, event, time.time_ns())
        if last is not self._last:
            self._change(last)

    def add_part(self, part: EgressInfo) -> None:
        """Adds the result of a part that another worker recorded before."""
        self._earlier = part_records.with_part(self._earlier, part)
        self._change(transitions.apply(self._last, Noticed(""), time.time_ns()))

    def _change(self, last: EgressInfo) -> None:
        self._last, self.info = last, part_records.joined(self._earlier, last)
        if self._watch is not None:
            with non_fatal("watching a record"):
                self._watch(self.info)
        reported = reported_part(self.info)
        if reported == self._reported:
            if counts(self.info) != self._counted:
                self._changed.set()
            return
        self._reported = reported
        if transitions.is_terminal(self.info):
            self._unreported.keep(self.info)
        # Keep the first one, which may be in delivery right now.
        if len(self._waiting) > 1 and self._waiting[-1].status == self.info.status:
            self._waiting.pop()
        self._enqueue(self.info)

    def notice(self, text: str) -> None:
        """Adds a text to the details, once and up to MAX_MESSAGE_CHARS in all."""
        if text not in self.info.details and len(self.info.details) + len(text) <= MAX_MESSAGE_CHARS:
            self.apply(Noticed(text))

    def repeat(self) -> None:
        """Reports the state that this worker could not deliver before its restart."""
        self._enqueue(self.info)

    def stop_retrying(self) -> None:
        """Gives up retries soon, because the worker ends now: a final state that is not accepted within
        seconds stays on disk for its next start."""
        self._stops_retrying = True

    async def close(self) -> None:
        """Returns when the last state was accepted, or left for the next start."""
        self._closing = True
        self._changed.set()
        await self._reporter

    def _enqueue(self, info: EgressInfo) -> None:
        self._waiting.append(info)
        self._changed.set()

    async def _report(self) -> None:
        while True:
            while self._waiting:
                if not await self._deliver(self._waiting[0]):
                    return
                self._waiting.popleft()
            if self._closing:
                return
            await self._report_counts()
            await self._changed.wait()
            self._changed.clear()

    async def _report_counts(self) -> None:
        """Reports counts when they are due and no other report waits, as a count must not come before it."""
        if self._count is None:
            return
        while not self._waiting and not self._closing and (now := counts(self.info)) != self._counted:
            left_s = self._count_at_s - time.monotonic()
            if left_s > 0:
                await self._change_within(left_s)
                continue
            self._count_at_s = time.monotonic() + COUNT_EVERY_S
            try:
                await self._count(self.info)
            except EgressError as error:
                _log.debug("count not accepted", egress_id=self.info.egress_id, error=error.text)
                self._count_at_s = time.monotonic() + COUNT_AGAIN_S
            else:
                self._counted = now

    async def _change_within(self, seconds: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _deliver(self, info: EgressInfo) -> bool:
        """Delivers a state. Returns False if it was not delivered because the worker ends."""
        attempt = 1
        while True:
            try:
                await self._send(info)
                break
            except EgressError as error:
                if error.code in _PERMANENT_CODES:
                    _log.error("update refused", egress_id=info.egress_id, error=error.text)
                    break
                if attempt in _WARN_AT:
                    _log.warning("update not delivered yet", egress_id=info.egress_id, error=error.text)
                if self._stops_retrying and self._closing and attempt > _LAST_ATTEMPTS:
                    _log.error("update left for the next start of this worker", egress_id=info.egress_id)
                    return False
            await asyncio.sleep(_BACKOFF.delay_s(attempt))
            attempt += 1
        if transitions.is_terminal(info):
            self._unreported.forget(info.egress_id)
        return True


def _paced(send: Send) -> Send:
    """Limits the rate of reports. The report of an end never waits."""
    reports = TokenBucket(_REPORTS)

    async def send_in_turn(info: EgressInfo) -> object:
        now_ns = time.monotonic_ns()
        if not reports.spend(1, now_ns) and not transitions.is_terminal(info):
            await asyncio.sleep(reports.wait_s(0, now_ns))
        return await send(info)

    return send_in_turn


def counts(info: EgressInfo) -> list[int]:
    """The numbers of segments and images of each output."""
    return [
        *(segments.segment_count for segments in info.segment_results),
        *(images.image_count for images in info.image_results),
    ]


def reported_part(info: EgressInfo) -> EgressInfo:
    """A copy of the info whose changes are reported: without values that only grow while recording, and
    without the signatures of playlist URLs, which change each time."""
    part = EgressInfo()
    part.CopyFrom(info)
    part.updated_at = 0
    for file in (*part.file_results, part.file):
        file.size = file.duration = 0
    for segments in (*part.segment_results, part.segments):
        segments.size = segments.duration = segments.segment_count = 0
        segments.playlist_location = segments.playlist_location.partition("?")[0]
        segments.live_playlist_location = segments.live_playlist_location.partition("?")[0]
    for images in part.image_results:
        images.image_count = 0
    for stream in (*part.stream_results, *part.stream.info):
        stream.duration = 0
    return part
