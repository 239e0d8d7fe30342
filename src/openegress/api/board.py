"""What the dashboard shows, kept current and handed to every watcher as it changes.

A watcher that reads slowly misses steps, never the latest state: changes wait for it one per egress.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from livekit.protocol.egress import EgressInfo

from openegress.api import wire_json
from openegress.core.events import Progress
from openegress.core.info import is_terminal
from openegress.store.record import rank

KEPT_ENDED = 100
"""How many ended egresses the table goes on showing."""


@dataclass(frozen=True, slots=True)
class Entry:
    info: EgressInfo
    progress: Progress | None = None
    thumbnail: str = ""
    """data: URL of a small JPEG; empty: none."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "info": wire_json.to_dict(self.info),
            "progress": msgspec.to_builtins(self.progress) if self.progress else None,
            "thumbnail": self.thumbnail or None,
        }


@dataclass(eq=False)
class _Watcher:
    waiting: dict[str, Entry] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Board:
    """Fed from the event loop's thread by whoever sees infos and progress."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._node: Callable[[], dict[str, Any]] = dict
        self._watchers: set[_Watcher] = set()
        self._closed = False

    def load(self, infos: Iterable[EgressInfo]) -> None:
        """Records of earlier, newest first."""
        for info in reversed(list(infos)):
            self.update(info)

    def update(self, info: EgressInfo) -> None:
        """An egress as it is now. One that is older than what is shown is left out."""
        shown = self._entries.get(info.egress_id)
        if shown is None:
            self._set(Entry(info))
        elif (rank(info), info.updated_at) >= (rank(shown.info), shown.info.updated_at):
            self._set(replace(shown, info=info))

    def progress(self, egress_id: str, progress: Progress) -> None:
        if shown := self._entries.get(egress_id):
            self._set(replace(shown, progress=progress))

    def thumbnail(self, egress_id: str, data_url: str) -> None:
        if shown := self._entries.get(egress_id):
            self._set(replace(shown, thumbnail=data_url))

    def node(self, look: Callable[[], dict[str, Any]]) -> None:
        """Tells of this machine (cores, load, memory, version ...) to watchers that come."""
        self._node = look

    def snapshot(self) -> dict[str, Any]:
        newest_first = sorted(self._entries.values(), key=lambda entry: -entry.info.started_at)
        return {"egresses": [entry.to_dict() for entry in newest_first], "node": self._node()}

    async def watch(self) -> AsyncGenerator[Entry]:
        """Changes from now on; ends with close()."""
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
        """Lets every watcher go."""
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
