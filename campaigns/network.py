"""`python -m campaigns.network [--only TEXT] [--write]`: what is recorded of a room over a bad network.

Each condition is one run: six rooms, one for each medium, are recorded as sent, at the same time, through a
relay that impairs one leg of the path. The recordings are measured against what was published.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaigns.account import Heard, Pictures, heard, out_of_step_ms, pictures, unreadable
from campaigns.page import machine, replace_rows, rows_of
from campaigns.stalls import StallWatch
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Codec, Publisher, VideoSpec
from testkit.service import Info, Refused, Service, location
from testkit.udp_relay import CLEAR, CUT, RELAY_ADDRESS, Impairment, Leg, UdpRelay

ADMITTED = {"queue": {"size": 16, "max_wait": "80s"}}
"""Six recordings and their publishers start at once; on a busy machine they wait."""
PAGE = Path(__file__).parent.parent / "docs" / "network-matrix.md"
REPORTS_S = 7.0
"""A livekit-server's first sender report takes three to six seconds; A/V sync counts from then on."""
AV_MS = 80.0
STALLED_S = 0.1
ATTEMPTS = 3
EDGE_S = 1.5
"""How much of a recording's length may be missing at its ends: joining, and packets in flight at the end."""
ACTIVE_S = 60.0
"""Joining over a path that loses every fifth packet takes several tries at the handshake."""


@dataclass(frozen=True, slots=True)
class Medium:
    name: str
    codec: Codec | None
    red: bool = False

    def video(self, leg: Leg) -> VideoSpec | None:
        if self.codec is None:
            return None
        # A picture that its publisher dropped would look like one that the network lost. On the publisher's
        # own leg, congestion control decides what it sends, and only WebRTC's encoder follows it.
        encoded = leg is not Leg.PUBLISHER
        return VideoSpec(self.codec, 640, 360, 15, 600, busy=True, encoded=encoded, catches_up=encoded)

    @property
    def ending(self) -> str:
        return {None: ".ogg", "vp8": ".webm", "vp9": ".webm"}.get(self.codec, ".mp4")


MEDIA = (
    Medium("VP8", "vp8"),
    Medium("VP9", "vp9", red=True),
    Medium("H264", "h264"),
    Medium("AV1", "av1", red=True),
    Medium("Opus", None),
    Medium("Opus RED", None, red=True),
)


@dataclass(frozen=True, slots=True)
class Change:
    """Something happens to the path `at_s` after all recordings are active."""

    at_s: float
    to: Impairment | None
    """None: the client's address changes."""


@dataclass(frozen=True, slots=True)
class Condition:
    name: str
    leg: Leg
    always: Impairment = CLEAR
    """Applies from before the recorder joins."""
    changes: tuple[Change, ...] = ()
    seconds: float = 16.0
    frozen_s: float = 0.4
    """The longest time without a new picture that counts as good."""
    silent_s: float = 0.1
    """The longest silence in a tone."""

    @property
    def key(self) -> str:
        return f"{self.leg.value}, {self.name}"


def _cut(leg: Leg, seconds: float, frozen_s: float, silent_s: float) -> Condition:
    changes = (Change(6.0, CUT), Change(6.0 + seconds, CLEAR))
    return Condition(
        f"cut of {seconds:g} s",
        leg,
        changes=changes,
        seconds=seconds + 22,
        frozen_s=frozen_s,
        silent_s=silent_s,
    )


def _conditions(leg: Leg) -> tuple[Condition, ...]:
    return (
        Condition("no fault", leg),
        Condition("loss 1 %", leg, Impairment(loss=0.01)),
        Condition("loss 5 %", leg, Impairment(loss=0.05), frozen_s=0.6),
        Condition("loss 20 %", leg, Impairment(loss=0.2), frozen_s=2.0, silent_s=0.4),
        Condition("bursts of 10, 5 %", leg, Impairment(loss=0.05, burst=10), frozen_s=1.0, silent_s=0.4),
        Condition("5 % reordered by 50 ms", leg, Impairment(reordered=0.05, reordered_ms=50)),
        Condition("jitter 100 ms", leg, Impairment(delay_ms=20, jitter_ms=100)),
        Condition("500 kbit/s", leg, Impairment(kbps=500), frozen_s=0.6),
        # livekit-server repeats all pictures of so short a time, and 70 packets of sound: 1.4 s. A publisher
        # repeats the last second that it sent.
        _cut(leg, 5, *((1.0, 4.0) if leg is Leg.RECORDER else (8.0, 7.0))),
        *((_cut(leg, 30, frozen_s=36.0, silent_s=36.0),) if leg is Leg.RECORDER else ()),
        Condition(
            "address changes", leg, changes=(Change(6.0, None),), seconds=36, frozen_s=8.0, silent_s=8.0
        ),
    )


CONDITIONS = (
    *_conditions(Leg.RECORDER),
    *_conditions(Leg.PUBLISHER),
)
ORDER = [(each.leg.value, each.name, medium.name) for each in CONDITIONS for medium in MEDIA]


@dataclass(frozen=True, slots=True)
class Cell:
    """One medium's recording under one condition."""

    medium: Medium
    error: str = ""
    undecodable: int = 0
    short_s: float = 0.0
    """What is missing at both ends together."""
    frozen_s: float | None = None
    silent_s: float = 0.0
    late_ms: float | None = None
    """The sound that is farthest from its time on the wall clock."""
    av_ms: float | None = None
    """The worst offset."""

    def faults(self, condition: Condition) -> list[str]:
        """The respects in which it is not as it must be."""
        if self.error:
            return [self.error]
        bad = []
        if self.undecodable:
            bad.append(f"{self.undecodable} undecodable")
        if self.short_s > EDGE_S:
            bad.append(f"{self.short_s:.1f} s short")
        if self.frozen_s is not None and self.frozen_s > condition.frozen_s:
            bad.append(f"frozen for {self.frozen_s:.2f} s")
        if self.silent_s > condition.silent_s:
            bad.append(f"silent for {self.silent_s:.2f} s")
        if self.late_ms is None or (self.av_ms is None and self.medium.codec is not None):
            bad.append("no beep to measure by")
        if self.av_ms is not None and abs(self.av_ms) > AV_MS:
            bad.append(f"A/V {self.av_ms:+.0f} ms")
        return bad


@dataclass(frozen=True, slots=True)
class Run:
    cells: tuple[Cell, ...]
    stalled_s: float
    """The longest delay of the publishers' process."""


async def run(condition: Condition, media: Sequence[Medium], folder: Path) -> Run:
    """One cell for each medium, all at the same time. A result that looks like the recorder's fault while the
    machine was busy with something else is measured again, ATTEMPTS times in all."""
    for attempt in range(1, ATTEMPTS + 1):
        done = await _run(condition, media, folder / str(attempt))
        if done.stalled_s < STALLED_S or not any(cell.faults(condition) for cell in done.cells):
            break
    return done


async def _run(condition: Condition, media: Sequence[Medium], folder: Path) -> Run:
    async with (
        LivekitServer(tcp=False, announced=RELAY_ADDRESS) as livekit,
        UdpRelay(livekit.udp_port) as relay,
        Service(folder, livekit, ADMITTED) as service,
        AsyncExitStack() as people,
    ):
        published = [
            await people.enter_async_context(
                Publisher(livekit, medium.name, "ann", medium.video(condition.leg), AudioSpec(red=medium.red))
            )
            for medium in media
        ]
        await asyncio.gather(*(_sending(each) for each in published))
        relay.joining = Leg.RECORDER
        relay.impair(condition.leg, condition.always)
        ids = [
            (await service.call(method, **request))["egress_id"]
            for method, request in (
                _request(medium, ann) for medium, ann in zip(media, published, strict=True)
            )
        ]
        await asyncio.gather(*(service.wait(each, "EGRESS_ACTIVE", timeout_s=ACTIVE_S) for each in ids))
        active_s = time.time()
        stalls = await people.enter_async_context(StallWatch())
        for change in condition.changes:
            await asyncio.sleep(active_s + change.at_s - time.time())
            if change.to is None:
                await relay.change_address(condition.leg)
            else:
                relay.impair(condition.leg, change.to)
        await asyncio.sleep(max(0.0, active_s + condition.seconds - time.time()))
        stopped_s, stalled_s = time.time(), stalls.worst_s
        infos = await asyncio.gather(*(_finished(service, each) for each in ids))
        for medium, ann in zip(media, published, strict=True):
            video = medium.video(condition.leg)
            if video and video.encoded and (count := await ann.dropped()):
                print(f"{medium.name}: its publisher left out {count}", file=sys.stderr)
        cells = [
            await asyncio.to_thread(_cell, medium, ann, info, active_s, stopped_s)
            for medium, ann, info in zip(media, published, infos, strict=True)
        ]
        return Run(tuple(cells), stalled_s)


async def _finished(service: Service, egress_id: str) -> Info:
    """Its final record, even if it had already ended."""
    try:
        return await service.finish(egress_id)
    except Refused:
        return await service.wait(egress_id)


async def _sending(ann: Publisher) -> None:
    """Waits until its encoder has begun: earlier pictures are not losses."""
    while not ann.sent["camera"] and "camera" in ann._specs:  # noqa: ASYNC110 - a thread of its own sends
        await asyncio.sleep(0.05)


def _request(medium: Medium, ann: Publisher) -> tuple[str, dict[str, Any]]:
    file = {"filepath": f"{medium.name}{medium.ending}"}
    room = {"room_name": ann.room_name}
    if medium.codec is None:
        return "StartTrackEgress", {**room, "track_id": ann.sid("microphone"), "file": file}
    tracks = {"audio_track_id": ann.sid("microphone"), "video_track_id": ann.sid("camera")}
    return "StartTrackCompositeEgress", {**room, **tracks, "file_outputs": [file]}


def _cell(medium: Medium, ann: Publisher, info: Info, active_s: float, stopped_s: float) -> Cell:
    if info["status"] != "EGRESS_COMPLETE":
        return Cell(medium, error=f"{info['status']}: {info['error']}"[:120])
    try:
        return _look(medium, ann, info, active_s, stopped_s)
    except (OSError, ValueError) as error:
        return Cell(medium, error=str(error)[:120])


def _look(medium: Medium, ann: Publisher, info: Info, active_s: float, stopped_s: float) -> Cell:
    path, zero_ns = location(info), int(info["file_results"][0]["started_at"])
    listened: Heard = heard(path, zero_ns)
    short_s = max(0.0, listened.begin_s - active_s) + max(0.0, stopped_s - listened.end_s)
    late_ms = max(listened.late_ms(), key=abs, default=None)
    if medium.codec is None:
        return Cell(medium, "", 0, short_s, None, listened.silent_s, late_ms)
    sent_ns = ann.sent_ns()
    # WebRTC's encoder leaves pictures out, and which ones, only it knows.
    as_sent = any(picture.data for picture in ann.sent["camera"])
    blurred = unreadable(medium.codec, ann.sent["camera"]) if as_sent else frozenset[int]()
    seen: Pictures = pictures(path, zero_ns, sent_ns, as_sent=as_sent, blurred=blurred)
    begin_s = seen.shown[0].wall_s if seen.shown else stopped_s
    short_s = max(short_s, max(0.0, begin_s - active_s) + max(0.0, stopped_s - seen.end_s))
    steps = [ms for at_s, ms in out_of_step_ms(seen, listened, sent_ns) if at_s > active_s + REPORTS_S]
    av_ms = max(steps, key=abs, default=None)
    return Cell(medium, "", seen.undecodable, short_s, seen.frozen_s, listened.silent_s, late_ms, av_ms)


# --- the command

COLUMNS = ("undecodable", "short s", "frozen s", "silent s", "late ms", "A/V ms", "bounds", "faults")

HEAD = """# What a bad network costs a recording

A publisher with pictures of 640x360 at 15 a second (300 to 400 kbit/s; AV1: 100) and Opus,
livekit-server, and a recorder that writes down what it is sent (track composite; track for sound
alone). A relay of UDP stands in front of the server and impairs one leg of the way, in both directions,
from before the recorder joins; cuts and changes of address come 6 s after ACTIVE. VP9 and AV1 are
published together with Opus in RED. Made by `make network-matrix` on {machine}.

- undecodable: pictures that do not decode, or refer to one that is not in the file
- short: what is missing at the two ends of the recording; at most {edge:g} s
- frozen, silent: the longest time without a new picture, and without sound in a tone; at most what stands
  under "bounds"
- late: the sound that is farthest from its time on the wall clock
- A/V: how far sound is behind the picture, from {reports:g} s after ACTIVE on; at most {av:g} ms
- the worst value of each recording; "-": it has none

Whatever else the machine does shows as late sound, A/V and frozen pictures.

What is not the recorder's: on the publisher's leg WebRTC's congestion control, in the publisher,
decides what is sent, and its encoder makes pictures smaller or leaves some out. A publisher that is cut off
for 30 s publishes new tracks afterwards, so recordings of its tracks end there. On the recorder's leg
pictures are encoded beforehand, each exactly once. There, at 500 kbit/s, VP9 with RED takes all of the
path (450 kbit/s, 95 of sound, headers): what is lost cannot be sent again. The server sends a single layer
whatever the path can bring; the recorder reports no bandwidth, so no layer is chosen by it
([why](decisions.md#a-recorder-reports-no-bandwidth)).

| leg | condition | medium | {columns} |
|---|---|---|{rule}
"""


def head() -> str:
    return HEAD.format(
        machine=machine(),
        edge=EDGE_S,
        reports=REPORTS_S,
        av=AV_MS,
        columns=" | ".join(COLUMNS),
        rule="---|" * len(COLUMNS),
    )


def row(condition: Condition, cell: Cell) -> str:
    bounds = f"{condition.frozen_s:g}, {condition.silent_s:g}"
    values = ["-"] * (len(COLUMNS) - 2)
    if not cell.error:
        values = [
            str(cell.undecodable),
            f"{cell.short_s:.2f}",
            "-" if cell.frozen_s is None else f"{cell.frozen_s:.2f}",
            f"{cell.silent_s:.2f}",
            "-" if cell.late_ms is None else f"{cell.late_ms:+.0f}",
            "-" if cell.av_ms is None else f"{cell.av_ms:+.0f}",
        ]
    faults = "; ".join(cell.faults(condition)).replace("|", "/")
    faults = f"**{faults}**" if faults else ""
    cells = [condition.leg.value, condition.name, cell.medium.name, *values, bounds, faults]
    return f"| {' | '.join(cells)} |"


async def measure(conditions: Sequence[Condition], media: Sequence[Medium], *, write: bool) -> None:
    """Prints the rows of each condition as they are measured."""
    for condition in conditions:
        with tempfile.TemporaryDirectory(prefix="openegress-network-") as folder:
            done = await run(condition, media, Path(folder))
        text = "\n".join(row(condition, cell) for cell in done.cells)
        print(text, flush=True)
        if done.stalled_s > STALLED_S:
            print(f"held up for {done.stalled_s:.2f} s", file=sys.stderr, flush=True)
        if write:
            replace_rows(PAGE, head(), rows_of(text, len(ORDER[0])), ORDER)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m campaigns.network")
    parser.add_argument("--only", default="", help="conditions whose leg and name contain this")
    parser.add_argument("--medium", default="", help="media whose name contains this")
    parser.add_argument("--write", action="store_true", help=f"write the rows into docs/{PAGE.name}")
    arguments = parser.parse_args()
    media = [each for each in MEDIA if arguments.medium in each.name]
    conditions = [each for each in CONDITIONS if arguments.only in each.key]
    asyncio.run(measure(conditions, media, write=arguments.write))


if __name__ == "__main__":
    main()
