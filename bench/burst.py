"""`python -m bench.burst [--recordings 16]`: starts this many recordings of an audio track at once.

It measures how long until the first, the median and the last is ACTIVE and COMPLETE, and what they use
together.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.measure import published, settled
from bench.rows import ROOM
from testkit.livekit_server import LivekitServer
from testkit.load import process_tree_load
from testkit.participants import AudioSpec, Publisher
from testkit.service import Service

SETTLE_S, WINDOW_S = 14.0, 20.0

T = TypeVar("T")


async def burst(service: Service, track_id: str, count: int) -> None:
    async def started(index: int) -> str:
        info = await service.call(
            "StartTrackEgress", room_name=ROOM, track_id=track_id, file={"filepath": f"{index}.ogg"}
        )
        await service.active(info["egress_id"])
        return str(info["egress_id"])

    await settled(service)
    before = process_tree_load(service.pid)
    egress_ids = await _timed("ACTIVE", [partial(started, index) for index in range(count)])
    after = process_tree_load(service.pid)
    print(
        f"CPU for that: {after.cpu_s - before.cpu_s:.2f} s, {(after.cpu_s - before.cpu_s) / count:.3f} s each"
    )
    await asyncio.sleep(SETTLE_S)
    before = process_tree_load(service.pid)
    await asyncio.sleep(WINDOW_S)
    after = process_tree_load(service.pid)
    print(f"the service and all its recordings: {after.cores_since(before):.3f} cores,", end=" ")
    print(f"{after.pss_bytes / 2**20:.0f} MiB")
    ended = await _timed("COMPLETE", [partial(service.finish, egress_id) for egress_id in egress_ids])
    if any(info["status"] != "EGRESS_COMPLETE" for info in ended):
        raise SystemExit(f"not all complete: {ended}")


async def _timed(what: str, calls: list[Callable[[], Awaitable[T]]]) -> list[T]:
    asked_s = time.monotonic()

    async def timed(call: Callable[[], Awaitable[T]]) -> tuple[float, T]:
        result = await call()
        return time.monotonic() - asked_s, result

    done = await asyncio.gather(*map(timed, calls))
    times = [seconds for seconds, _ in done]
    print(f"{what}: first {min(times):.2f} s, median {statistics.median(times):.2f}, last {max(times):.2f}")
    return [result for _, result in done]


async def run(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="openegress-bench-") as folder:
        async with LivekitServer() as server, Publisher(server, ROOM, "p0", audio=AudioSpec(tone_hz=300)):
            track_id = next(iter((await published(server, 1)).values()))
            # Admission uses a recording's usual cost, and two cores do not have room for sixteen of those.
            config = {"deny_networks": [], "cpu_cost": {"track_cpu_cost": 0.02}}
            async with Service(Path(folder), server, config) as service:
                await burst(service, track_id, count)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.burst")
    parser.add_argument("--recordings", type=int, default=16)
    asyncio.run(run(parser.parse_args().recordings))


if __name__ == "__main__":
    main()
