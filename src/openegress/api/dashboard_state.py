"""The state that the dashboard shows, and the feed of its changes.

For each watcher, only the latest state of each egress is queued: a slow watcher misses intermediate states
but never the last one.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from livekit.protocol.egress import EgressInfo

from openegress.api import wire_json
from openegress.api.timeline import Moment, moment_of, moments
from openegress.core.errors import Code, EgressError
from openegress.core.events import Progress, TimelineEvent
from openegress.core.info import is_terminal
from openegress.core.units import MS
from openegress.request.redact import shown
from openegress.store.record import rank

KEPT_ENDED = 100
"""Limit for the ended egresses that the page shows."""
KEPT_MOMENTS = 60
"""Limit for the timeline of an egress: a stream that is retried for hours would fill it with hundreds."""
KEPT_SAMPLES = 120
"""Number of kept progress reports: those of the last two minutes, so that graphs are not empty when a page is
opened."""


@dataclass(frozen=True, slots=True)
class Entry:
    info: EgressInfo
    progress: Progress | None = None
    thumbnail: str = ""
    """A small JPEG as a data: URL; empty: none."""
    moments: tuple[Moment, ...] = ()
    """The timeline, oldest first."""

    def to_dict(self, since: "Entry | None" = None) -> dict[str, Any]:
        """The entry as JSON for the page, without what has not changed since `since`: progress is sent every
        second, and a picture is a hundred times as large."""
        fields: dict[str, Any] = {
            "egress_id": self.info.egress_id,
            "progress": msgspec.to_builtins(self.progress) if self.progress else None,
        }
        if since is None or since.info is not self.info:
            fields["info"] = wire_json.to_dict(shown(self.info))
        if since is None or since.info is not self.info or since.moments is not self.moments:
            # Milliseconds, as a double cannot hold nanoseconds since 1970.
            fields["moments"] = [
                {"at_ms": each.at_ns // MS, "text": each.text, "mood": each.mood} for each in self.moments
            ]
        if since is None or since.thumbnail != self.thumbnail:
            fields["thumbnail"] = self.thumbnail or None
        return fields


@dataclass(eq=False)
class _Watcher:
    waiting: dict[str, Entry] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class DashboardState:
    """The state of the dashboard. All methods must be called in the event loop's thread."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._samples: dict[str, deque[Progress]] = {}
        self._node: Callable[[], dict[str, Any]] = dict
        self._watchers: set[_Watcher] = set()
        self._closed = False

    def load(self, infos: Iterable[EgressInfo]) -> None:
        """Adds records from the store, which are given newest first."""
        for info in reversed(list(infos)):
            self.update(info)

    def update(self, info: EgressInfo) -> None:
        """Shows a new state of an egress. A state that is older than the one shown is ignored."""
        shown = self._entries.get(info.egress_id)
        if shown is None:
            self._set(Entry(info, moments=tuple(moments(None, info)[-KEPT_MOMENTS:])))
        elif (rank(info), info.updated_at) >= (rank(shown.info), shown.info.updated_at):
            happened = (*shown.moments, *moments(shown.info, info))[-KEPT_MOMENTS:]
            self._set(replace(shown, info=info, moments=happened))
        if is_terminal(info):
            self._samples.pop(info.egress_id, None)

    def progress(self, egress_id: str, progress: Progress) -> None:
        if shown := self._entries.get(egress_id):
            if not is_terminal(shown.info):
                self._samples.setdefault(egress_id, deque(maxlen=KEPT_SAMPLES)).append(progress)
            self._set(replace(shown, progress=progress))

    def happened(self, egress_id: str, event: TimelineEvent) -> None:
        """Adds an event that is not part of records to the timeline."""
        if shown := self._entries.get(egress_id):
            # Sorted, as a marker may name a moment in the past.
            every = sorted((*shown.moments, moment_of(event)), key=lambda moment: moment.at_ns)
            self._set(replace(shown, moments=tuple(every)[-KEPT_MOMENTS:]))

    def thumbnail(self, egress_id: str, data_url: str) -> None:
        if shown := self._entries.get(egress_id):
            self._set(replace(shown, thumbnail=data_url))

    def node(self, look: Callable[[], dict[str, Any]]) -> None:
        """Sets `look`, which returns facts about this machine (cores, load, memory, version ...) for new
        watchers."""
        self._node = look

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON; see Dashboard.events."""
        newest_first = sorted(self._entries.values(), key=lambda entry: -entry.info.started_at)
        return {
            "egresses": [entry.to_dict() for entry in newest_first],
            "samples": {
                egress_id: msgspec.to_builtins(list(kept)) for egress_id, kept in self._samples.items()
            },
            "node": self._node(),
        }

    def entries(self) -> dict[str, Entry]:
        """The current entries by egress id."""
        return dict(self._entries)

    async def find(self, egress_id: str) -> EgressInfo:
        """The record of an egress that is shown. Raises EgressError with code NOT_FOUND."""
        if entry := self._entries.get(egress_id):
            return entry.info
        raise EgressError(Code.NOT_FOUND, "egress does not exist")

    async def watch(self) -> AsyncGenerator[Entry]:
        """Yields entries as they change from now on, until close()."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            while not self._closed:
                await watcher.woken.wait()
                watcher.woken.clear()
                while watcher.waiting:
                    yield watcher.waiting.pop(next(iter(watcher.waiting)))
        finally:
            self._watchers.discard(watcher)

    def close(self) -> None:
        """Ends the feeds of all watchers."""
        self._closed = True
        for watcher in self._watchers:
            watcher.woken.set()

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    def _set(self, entry: Entry) -> None:
        egress_id = entry.info.egress_id
        self._entries[egress_id] = entry
        self._forget_old()
        for watcher in self._watchers:
            watcher.waiting[egress_id] = entry
            watcher.woken.set()

    def _forget_old(self) -> None:
        ended = [key for key, entry in self._entries.items() if is_terminal(entry.info)]
        for key in ended[: max(0, len(ended) - KEPT_ENDED)]:
            del self._entries[key]
