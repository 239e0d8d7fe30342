"""`python -m bench.soak [--rounds 16] [--recordings 30]`: does a service grow that starts and stops all day?

By default 480 recordings: eight hours with one a minute, without the waiting. Each is stopped as soon as it
is active, because what a start and an end leave behind is the same for long ones. One line a round; exits
with 1 and names the column when one rises.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testkit.holdings import Holdings, orphans_adopted, settled
from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.service import Service

SMALL = {"width": 320, "height": 180, "framerate": 15}

MIX = (
    *("track", "track_composite", "track", "room_composite", "track", "track_composite"),
    *("track", "room_composite", "track", "web"),
)
"""One after the other, over and over: a browser every tenth time."""

COLUMNS = ("MiB", "children", "threads", "files", "listening", "spool", "temporary", "displays")

RECORDING_KIB = 8
"""How much a recording may add to memory: as written for the next who asks, ended records are kept, up to a
few thousand of them, and SQLite keeps pages of them, up to 2 MB. Measured: 5."""

MEMORY_NOISE_MIB = 0.5


class Soak:
    """Short recordings of every kind, one after the other."""

    def __init__(self, service: Service, alice: Publisher, page: str) -> None:
        self.recorded = 0
        self._service = service
        self._alice = alice
        self._page = page

    async def rounds(self, count: int) -> Holdings:
        """What the service holds after that many more."""
        for _ in range(count):
            await self._record(MIX[self.recorded % len(MIX)])
        return await settled(self._service)

    async def _record(self, kind: str) -> None:
        method, request = self._request(kind)
        info = await self._service.call(method, **request)
        await self._service.active(info["egress_id"])
        info = await self._service.finish(info["egress_id"])
        if info["status"] != "EGRESS_COMPLETE":
            raise AssertionError(f"{kind}: {info['status']} {info['error']}\n{self._service.log[-3000:]}")
        await asyncio.to_thread(Path(info["file_results"][0]["location"]).unlink)
        self.recorded += 1

    def _request(self, kind: str) -> tuple[str, dict[str, Any]]:
        room = {"room_name": self._alice.room_name}
        microphone = self._alice.sid("microphone")
        file = {"filepath": f"{kind}-{self.recorded}"}
        outputs = {"file_outputs": [file], "advanced": SMALL}
        match kind:
            case "track":
                return "StartTrackEgress", {**room, "track_id": microphone, "file": file}
            case "track_composite":
                tracks = {"audio_track_id": microphone, "video_track_id": self._alice.sid("camera")}
                return "StartTrackCompositeEgress", {**room, **tracks, **outputs}
            case "room_composite":
                return "StartRoomCompositeEgress", {**room, "layout": "grid", **outputs}
            case _:
                return "StartWebEgress", {"url": self._page, **outputs}


@asynccontextmanager
async def soaked(folder: Path) -> AsyncIterator[Soak]:
    config = {"queue": {"size": 4, "max_wait": "60s"}}  # for room on a busy machine
    camera = VideoSpec(width=320, height=180, fps=15, kbps=200)
    with orphans_adopted():
        async with (
            LivekitServer() as livekit,
            PageServer() as pages,
            Service(folder, livekit, config) as service,
            Publisher(livekit, "r", "alice", camera, AudioSpec()) as alice,
        ):
            yield Soak(service, alice, pages.url("blank"))


@dataclass(frozen=True, slots=True)
class Row:
    recorded: int
    values: tuple[float, ...]
    """One for each of COLUMNS."""

    @classmethod
    def of(cls, recorded: int, held: Holdings) -> "Row":
        sizes = [
            len(value) if isinstance(value, tuple) else value
            for value in (getattr(held, name) for name in COLUMNS[1:])
        ]
        return cls(recorded, (held.rss_bytes / 2**20, *sizes))


def rising(rows: Sequence[Row]) -> list[str]:
    """Columns of which the last third has more than the second: what is kept once is no leak, what grows is.

    A pool or a cache that fills up does so in the first third; one odd round says nothing of a trend.
    """
    third = len(rows) // 3
    if third == 0:
        raise ValueError("growth shows in three rounds or more")
    middle, last = rows[-2 * third : -third], rows[-third:]
    recordings = last[-1].recorded - middle[-1].recorded
    found = []
    for index, name in enumerate(COLUMNS):
        before, after = (statistics.median(row.values[index] for row in part) for part in (middle, last))
        allowed = max(MEMORY_NOISE_MIB, recordings * RECORDING_KIB / 1024) if name == "MiB" else 0
        if after > before + allowed:
            found.append(f"{name}: {before:.1f} -> {after:.1f} in {recordings} recordings")
    return found


async def run(rounds: int, recordings: int) -> list[str]:
    """The columns that rise."""
    print("recordings", *COLUMNS, "seconds", sep="  ")
    rows = []
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="oe-") as temporary, tempfile.TemporaryDirectory() as folder:
        os.chmod(temporary, 0o755)  # noqa: PTH101 - where root measures, browsers are somebody else
        os.environ["TMPDIR"] = tempfile.tempdir = temporary
        async with soaked(Path(folder)) as soak:
            for _ in range(rounds):
                held = await soak.rounds(recordings)
                rows.append(Row.of(soak.recorded, held))
                cells = [f"{soak.recorded:10}", f"{rows[-1].values[0]:5.1f}"]
                cells += [
                    f"{value:{len(name)}}"
                    for name, value in zip(COLUMNS[1:], rows[-1].values[1:], strict=True)
                ]
                print(*cells, f"{time.monotonic() - begun_s:7.0f}", sep="  ", flush=True)
    return rising(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--recordings", type=int, default=30, help="in a round")
    arguments = parser.parse_args()
    if found := asyncio.run(run(arguments.rounds, arguments.recordings)):
        sys.exit("rises: " + "; ".join(found))
    print("nothing rises")


if __name__ == "__main__":
    main()
