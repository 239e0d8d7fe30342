"""What a deferred recording costs beside a live one of the same room, and how quickly it is composed.

python -m bench.deferred [--rooms 1] [--seconds 30]
"""

import argparse
import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import psutil

from testkit.livekit_server import LivekitServer
from testkit.load import process_tree_cpu
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.pattern import COLOURS
from testkit.service import Service

PEOPLE = 2


def busy_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def begun(service: Service, room: str, layout: str, name: str) -> str:
    info = await service.call(
        "StartRoomCompositeEgress",
        room_name=room,
        layout=layout,
        file_outputs=[{"filepath": name}],
    )
    await service.active(info["egress_id"])
    return str(info["egress_id"])


async def composed(service: Service, egress_id: str) -> None:
    info = await service.wait(egress_id, "EGRESS_COMPLETE", timeout_s=3600.0)
    if info["status"] != "EGRESS_COMPLETE":
        raise SystemExit(info["error"])


async def measure(folder: Path, rooms: int, seconds: float) -> None:
    video = VideoSpec(width=640, height=360, kbps=600, encoded=True)
    async with AsyncExitStack() as stack:
        livekit = await stack.enter_async_context(LivekitServer())
        service = await stack.enter_async_context(Service(folder, livekit))
        names = [f"room{number}" for number in range(rooms)]
        for room in names:
            for number in range(PEOPLE):
                spec = replace(video, colour=COLOURS[number])
                person = Publisher(livekit, room, f"person{number}", spec, AudioSpec())
                await stack.enter_async_context(person)
        live = await begun(service, names[0], "grid", "live.mp4")
        deferred = [await begun(service, room, "grid?render=deferred", f"{room}.mp4") for room in names]
        pids = [service.pid_of(each) for each in (live, *deferred)]
        before = [busy_s(pid) for pid in pids]
        await asyncio.sleep(seconds)
        live_s, *deferred_s = (busy_s(pid) - spent_s for pid, spent_s in zip(pids, before, strict=True))
        mean_s = sum(deferred_s) / rooms
        print(f"recording: live {live_s / seconds:.3f} cores, deferred {mean_s / seconds:.3f}", flush=True)
        print(f"a deferred recording takes {mean_s / live_s:.1%} of a live one", flush=True)
        await service.finish(live)
        stopped_s, spent_s = time.monotonic(), process_tree_cpu(service.pid)
        for each in deferred:
            await service.call("StopEgress", egress_id=each)
        await asyncio.gather(*(service.wait(each, "EGRESS_ENDING") for each in deferred))
        await asyncio.gather(*(composed(service, each) for each in deferred))
        took_s = time.monotonic() - stopped_s
        print(f"composing {rooms} x {seconds:.0f} s: {took_s:.1f} s, {took_s / seconds:.2f} of their length")
        spent_s = process_tree_cpu(service.pid) - spent_s
        print(f"CPU: {spent_s / rooms / seconds:.3f} s for each second of a room", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="openegress-bench-") as folder:
        asyncio.run(measure(Path(folder), arguments.rooms, arguments.seconds))


if __name__ == "__main__":
    main()
