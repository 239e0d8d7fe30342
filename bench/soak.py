"""Does a service grow, and does a recording lose step, in a day's work?

`python -m bench.soak [--rounds 16] [--recordings 30]`: a service that starts and stops all day. By default
480 recordings: eight hours with one a minute, without the waiting. Each is stopped as soon as it is active,
because a start and an end leave the same behind after long ones. One line a round.

`python -m bench.soak --minutes 60`: recordings of every kind at once, for this long. It prints one line for
each reading; the files are then measured against what was published.

Both exit with 1 and report what rises, is missing or has drifted.
"""

import argparse
import asyncio
import math
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

import psutil

from campaigns.account import heard, pictures
from campaigns.kinds import KINDS, Kind, World, captured_ns, start, where, world
from testkit.holdings import ResourceUsage, orphans_adopted, settled
from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.service import Service

SMALL = {"width": 320, "height": 180, "framerate": 15}

MIX = (
    *("track", "track_composite", "track", "room_composite", "track", "track_composite"),
    *("track", "room_composite", "track", "web"),
)
"""One after the other, repeatedly: a browser every tenth time."""

COLUMNS = ("MiB", "children", "threads", "files", "listening", "spool", "temporary", "displays")

RECORDING_KIB = 8
"""How much a recording may add to memory: the encoded records of ended egresses are kept for later lists, up
to a few thousand, and SQLite keeps pages of them, up to 2 MB. Measured: 5."""

MEMORY_NOISE_MIB = 0.5

HANDLER_NOISE_MIB = 1.0
"""Growth between two thirds of an hour; 0.2 MiB a minute, which has been seen, is 4."""
READINGS = 30
"""Readings of what processes hold, over the time of long recordings: ten in each third."""
STEADY_S = 15.0
"""Time after ACTIVE: until then, tracks are placed by their first reports. Drift counts from there."""
EDGE_S = 30.0
"""Length of the two stretches whose times are compared: enough for a median of 30 beeps."""
DRIFT_MS = 20.0
FROZEN_S, SILENT_S = 0.25, 0.05
""""No picture and no sound is missing": what a machine that once had to wait may show."""


class Soak:
    """Short recordings of every kind, one after the other."""

    def __init__(self, service: Service, alice: Publisher, page: str) -> None:
        self.recorded = 0
        self._service = service
        self._alice = alice
        self._page = page

    async def rounds(self, count: int) -> ResourceUsage:
        """What the service holds after this many more rounds."""
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
    config = {"queue": {"size": 4, "max_wait": "60s"}}  # for capacity on a busy machine
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
    """One value for each of COLUMNS."""

    @classmethod
    def of(cls, recorded: int, held: ResourceUsage) -> "Row":
        sizes = [
            len(value) if isinstance(value, tuple) else value
            for value in (getattr(held, name) for name in COLUMNS[1:])
        ]
        return cls(recorded, (held.rss_bytes / 2**20, *sizes))


def rising(
    rows: Sequence[Row], columns: Sequence[str] = COLUMNS, noise_mib: float = MEMORY_NOISE_MIB
) -> list[str]:
    """Columns that grew in the last third compared with the second: something kept once is not a leak, but
    growth is.

    A pool or a cache that fills up does so in the first third; one odd round does not show a trend.
    """
    third = len(rows) // 3
    if third == 0:
        raise ValueError("growth shows in three rounds or more")
    middle, last = rows[-2 * third : -third], rows[-third:]
    recordings = last[-1].recorded - middle[-1].recorded
    found = []
    for index, name in enumerate(columns):
        before, after = (statistics.median(row.values[index] for row in part) for part in (middle, last))
        allowed = max(noise_mib, recordings * RECORDING_KIB / 1024) if name.endswith("MiB") else 0
        if after > before + allowed:
            found.append(f"{name}: {before:.1f} -> {after:.1f} in {recordings} recordings")
    return found


async def run(rounds: int, recordings: int) -> list[str]:
    """Returns the columns that rise."""
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


# --- long recordings


@dataclass(frozen=True, slots=True)
class Long:
    """One long recording, compared with what was published."""

    kind: Kind
    missing: int = 0
    """Pictures between its first and its last."""
    dropped: int = 0
    """Dropped by their publisher."""
    undecodable: int = 0
    frozen_s: float = 0.0
    silent_s: float = 0.0
    short_s: float = 0.0
    drifts_ms: tuple[float, ...] = ()
    """Drift of picture and sound against the wall clock, from beginning to end."""
    error: str = ""

    def text(self) -> str:
        drifts = " and ".join(f"{each:+.1f}" for each in self.drifts_ms)
        return (
            f"{self.kind.name}: {self.missing} missing ({self.dropped} not sent), {self.undecodable} "
            f"undecodable, frozen {self.frozen_s:.2f} s, silent {self.silent_s:.2f} s, short "
            f"{self.short_s:.2f} s, drift {drifts} ms {self.error}"
        )

    def faults(self) -> list[str]:
        if self.error:
            return [f"{self.kind.name}: {self.error}"]
        bad = []
        if self.missing > self.dropped:
            bad.append(f"{self.missing} pictures missing, {self.dropped} were not sent")
        if self.undecodable:
            bad.append(f"{self.undecodable} undecodable")
        if self.frozen_s > FROZEN_S:
            bad.append(f"frozen for {self.frozen_s:.2f} s")
        if self.silent_s > SILENT_S:
            bad.append(f"silent for {self.silent_s:.2f} s")
        if self.short_s > 1.0:
            bad.append(f"{self.short_s:.1f} s short")
        drift_ms = max(map(abs, self.drifts_ms), default=0.0)
        if len(self.drifts_ms) > 1:
            drift_ms = max(drift_ms, abs(self.drifts_ms[0] - self.drifts_ms[1]))
        if drift_ms > DRIFT_MS:
            bad.append("drift of " + " and ".join(f"{each:+.0f}" for each in self.drifts_ms) + " ms")
        return [f"{self.kind.name}: {each}" for each in bad]


async def run_long(kinds: Sequence[Kind], seconds: float) -> list[str]:
    """What is wrong after recordings of all kinds at once."""
    with tempfile.TemporaryDirectory(prefix="openegress-soak-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - where root measures, browsers are somebody else
        async with world(Path(folder)) as around:
            started = await asyncio.gather(*(start(around, kind, "soak") for kind in kinds))
            columns, rows = await _watched(around, kinds, [each for each, _ in started], seconds)
            stopped_s = time.time()
            infos = await asyncio.gather(*(around.service.finish(each) for each, _ in started))
            dropped = {codec: await ann.dropped() for codec, ann in around.people.items()}
            faults = rising(rows, columns, HANDLER_NOISE_MIB) if len(rows) >= 3 else []
            for kind, (_, active_s), info in zip(kinds, started, infos, strict=True):
                missed = dropped[kind.codec] if kind.codec else 0
                found = await asyncio.to_thread(_look, around, kind, info, active_s, stopped_s, missed)
                print(found.text(), flush=True)
                faults += found.faults()
    return faults


async def _watched(
    around: World, kinds: Sequence[Kind], egress_ids: Sequence[str], seconds: float
) -> tuple[list[str], list[Row]]:
    """What the service and each handler hold, READINGS times in this many seconds, by column."""
    names = [("service", around.service.pid)]
    names += [(kind.name, around.service.pid_of(each)) for kind, each in zip(kinds, egress_ids, strict=True)]
    columns = [f"{name} {what}" for name, _ in names for what in ("MiB", "files")]
    print("seconds", *columns, sep="; ")
    rows: list[Row] = []
    begun_s = time.monotonic()
    for reading in range(1, READINGS + 1):
        await asyncio.sleep(begun_s + seconds * reading / READINGS - time.monotonic())
        values = []
        for _, pid in names:
            process = psutil.Process(pid)
            values += [process.memory_info().rss / 2**20, float(process.num_fds())]
        rows.append(Row(0, tuple(values)))
        print(f"{time.monotonic() - begun_s:.0f}", *(f"{each:.1f}" for each in values), sep="; ", flush=True)
    return columns, rows


def _look(
    around: World, kind: Kind, info: dict[str, Any], active_s: float, stopped_s: float, dropped: int
) -> Long:
    if info["status"] != "EGRESS_COMPLETE":
        return Long(kind, error=f"{info['status']}: {info['error']}")
    path, zero_ns = where(info)
    drifts, shorts = [], [0.0]
    missing = undecodable = 0
    frozen_s = silent_s = 0.0
    if kind.video:
        at_ns = captured_ns(around, kind, active_s, stopped_s)
        seen = pictures(path, zero_ns, at_ns, as_sent=kind.as_sent)
        if not seen.shown:
            return Long(kind, error="no picture")
        counters = [each.counter for each in seen.shown]
        order = {counter: place for place, counter in enumerate(at_ns)}
        missing = order[counters[-1]] - order[counters[0]] + 1 - len(set(counters))
        undecodable, frozen_s = seen.undecodable, seen.frozen_s
        drifts.append(drift_ms(seen.late_ms(at_ns), active_s, stopped_s))
        shorts.append(max(0.0, seen.shown[0].wall_s - active_s) + max(0.0, stopped_s - seen.end_s))
    if kind.audio:
        listened = heard(path, zero_ns)
        silent_s = listened.silent_s
        drifts.append(
            drift_ms(list(zip(listened.beeps_s, listened.late_ms(), strict=True)), active_s, stopped_s)
        )
        shorts.append(max(0.0, listened.begin_s - active_s) + max(0.0, stopped_s - listened.end_s))
    return Long(kind, missing, dropped, undecodable, frozen_s, silent_s, max(shorts), tuple(drifts))


def drift_ms(late: Sequence[tuple[float, float]], active_s: float, stopped_s: float) -> float:
    """How much later the end is than the beginning, from (unix time, ms). Beeps repeat each second, and so do
    delays."""
    first = [ms for at_s, ms in late if 0 <= at_s - active_s - STEADY_S < EDGE_S]
    last = [ms for at_s, ms in late if at_s > stopped_s - EDGE_S]
    if not first or not last:
        return math.inf
    zero = first[0]
    begin, end = (statistics.median((ms - zero + 500) % 1000 - 500 for ms in part) for part in (first, last))
    return end - begin


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--recordings", type=int, default=30, help="in a round")
    parser.add_argument("--minutes", type=float, default=0.0, help="of long recordings instead of rounds")
    parser.add_argument("--only", default="", help="kinds of long recordings whose name contains this")
    arguments = parser.parse_args()
    if arguments.minutes:
        kinds = [kind for kind in KINDS if arguments.only in kind.name]
        if found := asyncio.run(run_long(kinds, arguments.minutes * 60)):
            sys.exit("; ".join(found))
        print("nothing rises, is missing or has drifted")
        return
    if found := asyncio.run(run(arguments.rounds, arguments.recordings)):
        sys.exit("rises: " + "; ".join(found))
    print("nothing rises")


if __name__ == "__main__":
    main()
