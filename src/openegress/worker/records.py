"""The truth about an egress while it runs here: its EgressInfo, and the way that gets to IOInfo."""

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
from openegress.core.tasks import beside
from openegress.worker.unreported import Unreported

_log = structlog.get_logger(__name__)

_BACKOFF = Backoff(first_s=0.2, ceiling_s=5.0)
"""Between attempts while IOInfo is out of reach."""
_WARN_AT = (1, 6)
"""Attempts that failed: at once, and when it takes long."""
_HURRIED_ATTEMPTS = 4
"""Some seconds, for a worker that was told to end now."""
COUNT_EVERY_S = 5.0
"""Between two reports of how many images and segments there are: whoever looks sees them grow, and a worker
of a hundred recordings costs its store twenty writes a second."""
COUNT_AGAIN_S = 300.0
"""After one that nobody took: a livekit-server keeps the records, or the one who does is away. A report waits
for a count under way, so few are tried."""
_NOT_WORTH_RETRYING = frozenset({Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED})

Send = Callable[[EgressInfo], Awaitable[object]]
"""Delivers one update to IOInfo; raises EgressError."""
Watch = Callable[[EgressInfo], None]


class Record:
    """Applies events to an EgressInfo and reports what clients are told of, in order, until it was taken.

    Each report is a webhook to somebody: growing sizes travel with the next real change, or with a count of
    images and segments, which is reported from time to time and to no webhook.
    While the receiver is away only the newest state of each status waits. The last one waits on disk too.
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
        """`count` delivers what has been recorded so far, of an egress that is as last reported.
        `watch` sees every change at once, whether it could be reported or not. `earlier`: the results of
        parts that other workers have recorded; `info` has those of ours alone."""
        self._earlier = earlier or EgressInfo()
        self._last = info
        self.info = info = part_records.joined(self._earlier, info)
        self._send = send
        self._unreported = unreported
        self._watch = watch
        self._count = count
        self._counted = counts(info)
        self._count_at_s = 0.0
        """When the next may be sent."""
        self._told = told(info)
        self._waiting: deque[EgressInfo] = deque()
        self._changed = asyncio.Event()
        self._closing = False
        self._hurried = False
        self._reporter = asyncio.create_task(self._report(), name=f"report {info.egress_id}")

    def apply(self, event: AnyEvent) -> None:
        last = transitions.apply(self._last, event, time.time_ns())
        if last is not self._last:
            self._change(last)

    def add_part(self, part: EgressInfo) -> None:
        """What has become of a part that another worker has recorded before."""
        self._earlier = part_records.with_part(self._earlier, part)
        self._change(transitions.apply(self._last, Noticed(""), time.time_ns()))

    def _change(self, last: EgressInfo) -> None:
        self._last, self.info = last, part_records.joined(self._earlier, last)
        if self._watch is not None:
            with beside("watching a record"):
                self._watch(self.info)
        told_now = told(self.info)
        if told_now == self._told:
            if counts(self.info) != self._counted:
                self._changed.set()
            return
        self._told = told_now
        if transitions.is_terminal(self.info):
            self._unreported.keep(self.info)
        # The first in line may be on its way right now.
        if len(self._waiting) > 1 and self._waiting[-1].status == self.info.status:
            self._waiting.pop()
        self._tell(self.info)

    def notice(self, text: str) -> None:
        """Tells the caller, by its details; once, however often it is said, and not without end."""
        if text not in self.info.details and len(self.info.details) + len(text) <= MAX_MESSAGE_CHARS:
            self.apply(Noticed(text))

    def repeat(self) -> None:
        """Reports the state that an earlier life of this worker could not."""
        self._tell(self.info)

    def stop_retrying(self) -> None:
        """The worker ends now: what nobody takes within seconds waits on disk for its next start."""
        self._hurried = True

    async def close(self) -> None:
        """Returns when the last state was taken."""
        self._closing = True
        self._changed.set()
        await self._reporter

    def _tell(self, info: EgressInfo) -> None:
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
            await self._tell_counts()
            await self._changed.wait()
            self._changed.clear()

    async def _tell_counts(self) -> None:
        """Once it is time, and with nothing left to be reported: it must not say more than a report has."""
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
                _log.debug("count not taken", egress_id=self.info.egress_id, error=error.text)
                self._count_at_s = time.monotonic() + COUNT_AGAIN_S
            else:
                self._counted = now

    async def _change_within(self, seconds: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _deliver(self, info: EgressInfo) -> bool:
        """False: it was left undelivered, as the worker ends."""
        attempt = 1
        while True:
            try:
                await self._send(info)
                break
            except EgressError as error:
                if error.code in _NOT_WORTH_RETRYING:
                    _log.error("update refused", egress_id=info.egress_id, error=error.text)
                    break
                if attempt in _WARN_AT:
                    _log.warning("update not delivered yet", egress_id=info.egress_id, error=error.text)
                if self._hurried and self._closing and attempt > _HURRIED_ATTEMPTS:
                    _log.error("update left for the next start of this worker", egress_id=info.egress_id)
                    return False
            await asyncio.sleep(_BACKOFF.delay_s(attempt))
            attempt += 1
        if transitions.is_terminal(info):
            self._unreported.forget(info.egress_id)
        return True


def counts(info: EgressInfo) -> list[int]:
    """Of what is made while recording."""
    return [
        *(segments.segment_count for segments in info.segment_results),
        *(images.image_count for images in info.image_results),
    ]


def told(info: EgressInfo) -> EgressInfo:
    """The info without what only grows while recording, and without what playlists are signed with, each time
    anew."""
    still = EgressInfo()
    still.CopyFrom(info)
    still.updated_at = 0
    for file in (*still.file_results, still.file):
        file.size = file.duration = 0
    for segments in (*still.segment_results, still.segments):
        segments.size = segments.duration = segments.segment_count = 0
        segments.playlist_location = segments.playlist_location.partition("?")[0]
        segments.live_playlist_location = segments.live_playlist_location.partition("?")[0]
    for images in still.image_results:
        images.image_count = 0
    for stream in (*still.stream_results, *still.stream.info):
        stream.duration = 0
    return still
