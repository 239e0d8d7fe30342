"""`make profile ROW="room composite, calm"`: where the CPU time of a row goes, by thread and by function.

The time of each thread is the kernel's own count. The time of a function is its share of a thread's count, by
the stacks that py-spy sampled. A thread of a library (an encoder's, a browser's) has no Python stacks, and is
only in the first table.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.measure import SETTLE_S, scene, settled
from bench.rows import ROWS, Row
from testkit.service import Service

RATE_HZ = 100
SHOWN = 25
WAITS = ("PyThread_acquire_lock_timed", "select_epoll_poll", "take_gil", "time_sleep")
"""A thread that waits there uses no CPU, though py-spy may see it on its way in or out."""
_NEAR_THE_END = 4
"""The number of frames of a stack in which a wait is looked for: below it are only those of the C library."""
_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A sampled stack of a thread, from its beginning down to the running function."""

    tid: int
    thread: str
    frames: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class ThreadTime:
    process: str
    tid: int
    name: str
    cpu_s: float


def stacks_of(raw: str) -> list[Stack]:
    """`raw`: lines of `py-spy record --threads --format raw`, "thread (TID): NAME;FRAME;... COUNT"."""
    found = []
    for line in raw.splitlines():
        text, _, count = line.rpartition(" ")
        head, *frames = text.split(";")
        tid, _, thread = head.removeprefix("thread (").partition("): ")
        if frames and tid.isdigit():
            found.append(Stack(int(tid), thread, tuple(frames), int(count)))
    return found


def seconds_by_frame(
    stacks: Iterable[Stack], cpu_s: dict[int, float], frames: Callable[[Stack], Iterable[str]]
) -> list[tuple[str, float]]:
    """CPU seconds of frames, the largest first. `cpu_s` is by thread; `frames` says which frames of a stack
    count."""
    every = list(stacks)
    # Libraries without symbols sleep at the same address of the C library as Python does.
    asleep = {stack.frames[-1] for stack in every if _waits(stack) and _has_no_name(stack.frames[-1])}
    busy = [stack for stack in every if not _waits(stack) and stack.frames[-1] not in asleep]
    seen: dict[int, int] = {}
    for stack in busy:
        seen[stack.tid] = seen.get(stack.tid, 0) + stack.count
    found: dict[str, float] = {}
    for stack in busy:
        share_s = cpu_s.get(stack.tid, 0.0) * stack.count / seen[stack.tid]
        for frame in set(frames(stack)):
            found[frame] = found.get(frame, 0.0) + share_s
    return sorted(found.items(), key=lambda each: -each[1])


def _waits(stack: Stack) -> bool:
    return any(wait in frame for frame in stack.frames[-_NEAR_THE_END:] for wait in WAITS)


def _has_no_name(frame: str) -> bool:
    return frame.startswith("0x")


def where_it_was(stack: Stack) -> tuple[str, ...]:
    """A library without symbols counts as one place."""
    last = stack.frames[-1]
    return (f"somewhere in {last.partition(' (')[2].rstrip(')')}" if _has_no_name(last) else last,)


def functions_of_ours(stack: Stack) -> tuple[str, ...]:
    """By function, whatever its line."""
    return tuple(frame.rpartition(":")[0] + ")" for frame in stack.frames if "openegress/" in frame)


async def profile(row: Row, seconds: float) -> tuple[list[ThreadTime], list[Stack]]:
    """Records the row, and samples for `seconds` once it has settled."""
    with tempfile.TemporaryDirectory(prefix="openegress-profile-") as name:
        folder = Path(name)
        async with scene(row) as (server, setting):
            config = {"prewarmed_browsers": 1, "deny_networks": []}
            async with Service(folder / "service", server, config) as service:
                await settled(service)
                egress_id = (await service.call(row.method, **row.request(setting)))["egress_id"]
                await service.active(egress_id)
                await asyncio.sleep(SETTLE_S)
                pid = service.handler_pid()
                before = {(each.process, each.tid): each.cpu_s for each in _threads(pid)}
                raw = await _sampled(pid, seconds, folder / "stacks")
                after = _threads(pid)
                await service.finish(egress_id)
    times = [
        ThreadTime(each.process, each.tid, each.name, each.cpu_s - before.get((each.process, each.tid), 0.0))
        for each in after
    ]
    return sorted(times, key=lambda each: -each.cpu_s), stacks_of(raw)


def _threads(pid: int) -> list[ThreadTime]:
    """The threads of the process and all below it, with their CPU time since they began."""
    found = []
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        try:
            for thread in process.threads():
                comm = Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text().strip()
                label = f"{process.name()} {process.pid}"
                found.append(ThreadTime(label, thread.id, comm, thread.user_time + thread.system_time))
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue  # it has ended meanwhile
    return found


async def _sampled(pid: int, seconds: float, path: Path) -> str:
    """The output of py-spy for the process."""
    spy_path = str(Path(sys.executable).parent / "py-spy")
    command = [spy_path, "record", "--native", "--threads", "--format", "raw", "--output", str(path)]
    command += ["--pid", str(pid), "--rate", str(RATE_HZ), "--duration", f"{max(1, round(seconds))}"]
    spy = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(seconds + _WITHIN_S):
            said, _ = await spy.communicate()
    finally:
        if spy.returncode is None:
            spy.kill()
            await spy.wait()
    if spy.returncode:
        raise SystemExit(f"py-spy failed; it needs root or CAP_SYS_PTRACE: {said.decode().strip()}")
    return await asyncio.to_thread(path.read_text)


def render(row: Row, seconds: float, times: list[ThreadTime], stacks: list[Stack]) -> str:
    whole_s = sum(each.cpu_s for each in times) or 1.0
    names = {stack.tid: stack.thread for stack in stacks}
    cpu_s = {each.tid: each.cpu_s for each in times}

    def table(title: str, rows: Iterable[tuple[str, float]]) -> list[str]:
        shown = [(text, taken_s) for text, taken_s in rows if taken_s / whole_s >= 0.001][:SHOWN]
        lines = [f"{taken_s / seconds:7.3f} {taken_s / whole_s:6.1%}  {text}" for text, taken_s in shown]
        return ["", title, "  cores  share", *lines]

    threads = [(f"{each.process}: {names.get(each.tid, each.name)}", each.cpu_s) for each in times]
    return "\n".join(
        [
            f"{row.name}: {whole_s / seconds:.3f} cores in {seconds:g} s, with py-spy looking on",
            *table("By thread", threads),
            *table("By function, by itself", seconds_by_frame(stacks, cpu_s, where_it_was)),
            *table("By our function, with what it calls", seconds_by_frame(stacks, cpu_s, functions_of_ours)),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile")
    parser.add_argument("row", help="a row of bench/RESULTS.md, by its name")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    rows = {row.name: row for row in ROWS}
    if (row := rows.get(arguments.row)) is None:
        parser.error("there is no such row; these are there:\n  " + "\n  ".join(rows))
    times, stacks = asyncio.run(profile(row, arguments.seconds))
    print(render(row, arguments.seconds, times, stacks))


if __name__ == "__main__":
    main()
