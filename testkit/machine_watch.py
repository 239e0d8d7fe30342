"""Whether this machine, which may be a virtual one, stood still while something was measured on it."""

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
"""A picture is on for 33 ms, and sound may be 40 ms from it: a longer stop is seen in what is recorded."""
STOLEN = 0.03
STOLEN_MS = 50.0
"""Less is not told from nothing: the system counts in steps of 10 ms."""
PRIORITY = 50


@dataclass(frozen=True, slots=True)
class Stillness:
    """Of the machine, in a stretch of time."""

    longest_ms: float
    """The longest stop of one of its processors; 0 where nobody may watch them in real time."""
    stolen_ms: float
    """Of its processors' time, what the host gave to others (steal time, proc_stat(5))."""
    total_ms: float
    """Its processors' time."""

    @property
    def spoils(self) -> bool:
        """Is a measurement in that time one of the host?"""
        stolen = self.stolen_ms > max(STOLEN_MS, STOLEN * self.total_ms)
        return stolen or self.longest_ms > STALL_MS

    def __str__(self) -> str:
        stolen = self.stolen_ms / self.total_ms if self.total_ms else 0.0
        return f"stood still for {self.longest_ms:.0f} ms at most, {stolen:.1%} of its time was stolen"


class MachineWatch:
    """`watch.since_last()` after each stretch of time; `close()` at the end."""

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
    """All, and what was stolen of it, in ms."""
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
            return  # it would be late for others of this machine too
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
