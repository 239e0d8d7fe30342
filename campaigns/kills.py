"""`python -m campaigns.kills [--kills 40] [--only TEXT] [--write]`: what `kill -9` costs a recording.

Recordings of every kind run side by side. Each is killed at a random instant after it became ACTIVE, by
killing its handler or the whole instance. The lost media is then measured against the wall clock: the counter
of the last picture tells when it was captured.
"""

import argparse
import asyncio
import bisect
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import av.error

from campaigns.account import heard, pictures
from campaigns.kinds import KINDS, Kind, World, captured_ns, start, where, world
from campaigns.page import Key, machine, replace_rows
from openegress.core.units import S
from testkit.service import Info

PAGE = Path(__file__).parent.parent / "docs" / "kills.md"
FIRST_S, LAST_S = 0.5, 30.0
"""The range of instants after ACTIVE at which recordings are killed."""
MEDIAN_S, WORST_S = 1.0, 2.0
"""What a kill may cost."""
OVER_S = 40.0
"""How long until the record of a killed recording is final: its files are made playable first."""


class Victim(Enum):
    HANDLER = "handler"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class Kill:
    kind: Kind
    victim: Victim
    after_s: float
    """Seconds after ACTIVE."""
    lost_s: float
    why: str = ""
    """If everything is lost, the reason."""


async def kill_handlers(around: World, kind: Kind, instants_s: Sequence[float]) -> list[Kill]:
    """Kills one recording after the other, each this long after it became active."""
    kills = []
    for number, after_s in enumerate(instants_s):
        egress_id, active_s = await start(around, kind, f"handler-{number}")
        pid = around.service.pid_of(egress_id)
        await asyncio.sleep(active_s + after_s - time.time())
        os.kill(pid, signal.SIGKILL)
        killed_s = time.time()
        kills.append(await _measured(around, kind, Victim.HANDLER, egress_id, active_s, killed_s))
    return kills


async def kill_instance(around: World, kinds: Sequence[Kind], instants_s: Sequence[float]) -> list[Kill]:
    """Starts all kinds at once, kills them together, and lets the next instance finish them."""
    kills: list[Kill] = []
    for number, after_s in enumerate(instants_s):
        started = await asyncio.gather(*(start(around, kind, f"instance-{number}") for kind in kinds))
        await asyncio.sleep(max(active_s for _, active_s in started) + after_s - time.time())
        killed_s = await around.service.kill_all()
        await around.service.start()
        kills += [
            await _measured(around, kind, Victim.INSTANCE, egress_id, active_s, killed_s)
            for kind, (egress_id, active_s) in zip(kinds, started, strict=True)
        ]
    return kills


async def _measured(
    around: World, kind: Kind, victim: Victim, egress_id: str, active_s: float, killed_s: float
) -> Kill:
    info = await around.service.wait(egress_id, timeout_s=OVER_S)
    try:
        lost_s = await asyncio.to_thread(_lost_s, around, kind, info, active_s, killed_s)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        return Kill(kind, victim, killed_s - active_s, killed_s - active_s, f"{info['error']}: {error}")
    return Kill(kind, victim, killed_s - active_s, lost_s)


def _lost_s(around: World, kind: Kind, info: Info, active_s: float, killed_s: float) -> float:
    """The loss of the track that lost most. Raises ValueError if there is nothing."""
    path, zero_ns = where(info)
    at_ns = captured_ns(around, kind, active_s, killed_s)
    lost = []
    if kind.video:
        seen = pictures(path, zero_ns, at_ns, as_sent=kind.as_sent)
        if not seen.shown:
            raise ValueError(f"{path} shows no picture")
        first_s, last_s = (at_ns[seen.shown[place].counter] / S for place in (0, -1))
        lost.append(max(0.0, first_s - active_s) + killed_s - last_s)
    if kind.audio:
        listened = heard(path, zero_ns)
        # Beeps of a page are on its own clock.
        late_s = statistics.median(listened.late_ms() or [0.0]) / 1000 if kind.codec else 0.0
        lost.append(max(0.0, listened.begin_s - late_s - active_s) + killed_s - (listened.end_s - late_s))
    return max(lost)


# --- the command

EDGES_S = (0.25, 0.5, 1.0, 1.5, 2.0)

HEAD = """# What a kill costs

Seconds of media that `kill -9` costs a recording: of its handler alone, or of the whole instance with all
that runs below it, at random instants between {first:g} and {last:g} s after ACTIVE. The track of a recording
that lost the most counts, at its begin (from ACTIVE on) and its end together, by the wall clock: the counter
of the last picture that is in the file says when that was captured. Made by `make kills`; recordings of all
kinds run at the same time on {machine}. The aim: {median:g} s at most in the median, {worst:g} s in the worst
case; bold where it is missed.

| kind | killed | kills | median s | worst s | {columns} |
|---|---|---|---|---|{rule}
"""


def row(kind: Kind, victim: Victim, kills: Sequence[Kill]) -> str:
    losses = sorted(kill.lost_s for kill in kills)
    median, worst = statistics.median(losses), losses[-1]
    counts = [0] * (len(EDGES_S) + 1)
    for lost_s in losses:
        counts[bisect.bisect_left(EDGES_S, lost_s)] += 1
    cells = [
        kind.name,
        victim.value,
        str(len(losses)),
        f"{median:.2f}" if median <= MEDIAN_S else f"**{median:.2f}**",
        f"{worst:.2f}" if worst <= WORST_S else f"**{worst:.2f}**",
        *(_bar(count) for count in counts),
    ]
    return f"| {' | '.join(cells)} |"


def _bar(count: int) -> str:
    return f"{'▇' * -(-count // 4)} {count}" if count else ""


def head() -> str:
    columns = [f"to {edge:g}" for edge in EDGES_S] + [f"over {EDGES_S[-1]:g}"]
    return HEAD.format(
        first=FIRST_S,
        last=LAST_S,
        machine=machine(),
        median=MEDIAN_S,
        worst=WORST_S,
        columns=" | ".join(columns),
        rule="---|" * len(columns),
    )


async def run(kinds: Sequence[Kind], victims: Sequence[Victim], kills: int, seed: int) -> list[Kill]:
    draw = random.Random(seed)

    def instants() -> list[float]:
        return [draw.uniform(FIRST_S, LAST_S) for _ in range(kills)]

    found: list[Kill] = []
    with tempfile.TemporaryDirectory(prefix="openegress-kills-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - where root measures, browsers are somebody else
        async with world(Path(folder)) as around:
            if Victim.HANDLER in victims:
                lanes = [kill_handlers(around, kind, instants()) for kind in kinds]
                found += [kill for lane in await asyncio.gather(*lanes) for kill in lane]
            if Victim.INSTANCE in victims:
                found += await kill_instance(around, kinds, instants())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m campaigns.kills")
    parser.add_argument("--kills", type=int, default=40, help="of each kind and each victim")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--victim", choices=[each.value for each in Victim], help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write the rows into docs/{PAGE.name}")
    arguments = parser.parse_args()
    kinds = [kind for kind in KINDS if arguments.only in kind.name]
    victims = [each for each in Victim if arguments.victim in (None, each.value)]
    found = asyncio.run(run(kinds, victims, arguments.kills, arguments.seed))
    rows: dict[Key, str] = {}
    for kind in kinds:
        for victim in victims:
            mine = [kill for kill in found if (kill.kind, kill.victim) == (kind, victim)]
            rows[kind.name, victim.value] = row(kind, victim, mine)
            print(rows[kind.name, victim.value], flush=True)
    for kill in found:
        if kill.lost_s > WORST_S:
            lost = f"{kill.lost_s:.2f} s of {kill.after_s:.2f}"
            print(f"{kill.kind.name}, {kill.victim.value}: {lost} {kill.why}".strip())
    if arguments.write:
        order = [(kind.name, victim.value) for kind in KINDS for victim in Victim]
        replace_rows(PAGE, head(), rows, order)


if __name__ == "__main__":
    main()
