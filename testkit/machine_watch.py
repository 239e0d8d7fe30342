"""Checks whether this machine, which may be virtual, stood still during a measurement."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.005
STALL_MS = 25.0
"""A picture is shown for 33 ms, and sound may be 40 ms from it: a longer stop is visible in recordings."""
STOLEN = 0.03
STOLEN_MS = 50.0
"""Less cannot be told from nothing: the system counts in steps of 10 ms."""
PRIORITY = 50


@dataclass(frozen=True, slots=True)
class Stillness:
    """The stillness of the machine in a period."""

    longest_ms: float
    """The longest stop of one of its processors; 0 if real-time watching is not allowed."""
    stolen_ms: float
    """The time of its processors that the host gave to others (steal time, proc_stat(5))."""
    total_ms: float
    """The time of its processors."""

    @property
    def spoils(self) -> bool:
        """Whether a measurement in that period says more about the host."""
        stolen = self.stolen_ms > max(STOLEN_MS, STOLEN * self.total_ms)
        return stolen or self.longest_ms > STALL_MS

    def __str__(self) -> str:
        stolen = self.stolen_ms / self.total_ms if self.total_ms else 0.0
        return f"stood still for {self.longest_ms:.0f} ms at most, {stolen:.1%} of its time was stolen"


class MachineWatch:
    """`watch.since_last()` after each period; `close()` at the end."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "testkit.machine_watch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._times = _processor_times()

    def since_last(self) -> Stillness:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        longest_ms = float(json.loads(self._process.stdout.readline()))
        before, self._times = self._times, _processor_times()
        total_ms, stolen_ms = (now - then for now, then in zip(self._times, before, strict=True))
        return Stillness(longest_ms, stolen_ms, total_ms)

    def close(self) -> None:
        self._process.communicate()


def _processor_times() -> tuple[float, float]:
    """All time, and the stolen part of it, in ms."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    tick_ms = 1000 / os.sysconf("SC_CLK_TCK")
    return sum(ticks[:8]) * tick_ms, ticks[7] * tick_ms


class _Clock(threading.Thread):
    """On one processor, before everything else there."""

    def __init__(self, processor: int) -> None:
        super().__init__(daemon=True)
        self._processor = processor
        self.longest_s = 0.0

    def run(self) -> None:
        os.sched_setaffinity(0, {self._processor})
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        except PermissionError:
            return  # it would be late for other programs of this machine too
        while True:
            begun_s = time.monotonic()
            time.sleep(EVERY_S)
            self.longest_s = max(self.longest_s, time.monotonic() - begun_s - EVERY_S)


def main() -> None:
    clocks = [_Clock(processor) for processor in os.sched_getaffinity(0)]
    for clock in clocks:
        clock.start()
    for _ in sys.stdin:
        longest_s = max(clock.longest_s for clock in clocks)
        for clock in clocks:
            clock.longest_s = 0.0
        sys.stdout.write(f"{longest_s * 1000}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
