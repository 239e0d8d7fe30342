"""`python -m bench [--seconds 20] [--runs 2] [--only TEXT] [--write]`: measures the rows, prints a table."""

import argparse
import asyncio
import platform
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil

from bench import yardstick
from bench.measure import Result, combined, measure
from bench.rows import ROWS, Row

RESULTS = Path(__file__).parent / "RESULTS.md"

HEAD = """# What a recording costs

Cores (CPU seconds a second) of the whole process tree of one recording: handler, browser, display, sound
server. Measured by `make bench` on {machine}; 1280x720 at 30 frames a second. Memory is what a
recording adds to the process that handlers are forked from and those that wait: PSS of all together during
it, less that before it. Times are from the request to ACTIVE, without (cold) and with (warm, the default) a
browser that waits for it, and from StopEgress to COMPLETE. "unique" is the share of frames with a picture not
shown before; "A/V" how much later sound is than picture: least, median and most. The last column is
livekit/egress on the same kind of machine: cores, MiB, s to ACTIVE.

Shared machines are noisy, and what else they do only adds: each row was measured {runs} time(s), and cores
and times are the least of them; of the recordings themselves it is the worst. Compare within one run of the
benchmark. Yardstick of this one: our encoder alone takes {yardstick:.2f} cores for a calm picture of this
size and rate.

| recording | cores | MiB | cold s | warm s | stop s | fps | unique | A/V ms | livekit/egress |
|---|---|---|---|---|---|---|---|---|---|
"""


async def run(rows: list[Row], seconds: float, runs: int) -> list[str]:
    lines = []
    cores: dict[str, float] = {}
    for row in rows:
        colds, warms = [], []
        for _ in range(runs):
            with tempfile.TemporaryDirectory(prefix="openegress-bench-") as folder:
                colds.append(await measure(row, Path(folder) / "cold", 2.0, warm=False))
                warms.append(await measure(row, Path(folder) / "warm", seconds, warm=True))
        cold, warm = combined(colds), combined(warms)
        cores[row.name] = warm.cores
        if row.relative_to is not None and (base := cores.get(row.relative_to[0])) is not None:
            row = replace(row, target=replace(row.target, cores=round(base * row.relative_to[1], 3)))
        line = render(row, warm, cold.active_s)
        print(line, flush=True)
        lines.append(line)
    return lines


def render(row: Row, result: Result, cold_s: float) -> str:
    target = row.target
    av = "-"
    if result.av_ms is not None:
        worst_ms = max(map(abs, result.av_ms))
        av = _against(worst_ms, target.av_ms, ", ".join(f"{value:.0f}" for value in result.av_ms))
    upstream = "-" if row.upstream is None else "{:.3g}, {}, {:.2f}".format(*row.upstream)
    cells = [
        row.name,
        _against(result.cores, target.cores, "{:.3f}"),
        _against(result.mib, target.mib, "{:.0f}"),
        _against(cold_s, target.cold_s, "{:.2f}"),
        _against(result.active_s, target.warm_s, "{:.2f}"),
        _against(result.stopped_s, target.stopped_s, "{:.2f}"),
        f"{result.fps:.2f}" if result.fps else "-",
        _against(-result.unique, target.unique and -target.unique, f"{result.unique:.1%}")
        if result.fps and not row.still
        else "-",
        av,
        upstream,
    ]
    return f"| {' | '.join(cells)} |"


def _against(value: float, target: float | None, form: str) -> str:
    """The value, in bold if it misses its target."""
    text = form.format(value)
    return f"**{text}** (aim {abs(target):g})" if target is not None and value > target else text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=2, help="measurements of each row")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if arguments.only in row.name]
    machine = f"{psutil.cpu_count()} cores, {platform.system()} {platform.machine()}"
    head = HEAD.format(machine=machine, runs=arguments.runs, yardstick=yardstick.cores())
    print(head, end="", flush=True)
    lines = asyncio.run(run(rows, arguments.seconds, arguments.runs))
    if arguments.write:
        RESULTS.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
