"""`python -m bench.api_load [--rate 200] [--seconds 20] [--records 1000]`: how long a busy API takes to list.

Requests are sent at their due times whether or not earlier ones are answered, and each is timed from when it
was due: a server that falls behind cannot hide it.
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from livekit.protocol.egress import EgressInfo, EgressStatus, RoomCompositeEgressRequest

from openegress.core.tokens import egress_token
from openegress.store.sqlite import SqliteStore
from testkit.service import Service

HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Load:
    requests: int
    body_bytes: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    cpu_ms: float
    """CPU time of the server for each request, which a busy machine hardly changes."""
    late_ms: float
    """How late requests were sent, at the 99th percentile: caused by the machine, not by the server."""

    def __str__(self) -> str:
        return (
            f"{self.requests} requests of {self.body_bytes / 1024:.0f} KiB: median {self.p50_ms:.1f} ms,"
            f" p99 {self.p99_ms:.1f} ms, worst {self.worst_ms:.1f} ms, {self.cpu_ms:.2f} ms of CPU each;"
            f" asked {self.late_ms:.1f} ms late"
        )


def ended_records(count: int) -> list[EgressInfo]:
    """Records as room composites leave them."""
    now_ns = time.time_ns()
    infos = []
    for index in range(count):
        begun_ns = now_ns - HOUR_NS + index * 1_000_000
        ended_ns = begun_ns + 60_000_000_000
        info = EgressInfo(
            egress_id=f"EG_{index:012d}",
            room_id=f"RM_{index:012d}",
            room_name=f"room {index}",
            status=EgressStatus.EGRESS_COMPLETE,
            started_at=begun_ns,
            updated_at=ended_ns,
            ended_at=ended_ns,
            details="End reason: StopEgress API",
            room_composite=RoomCompositeEgressRequest(room_name=f"room {index}", layout="grid"),
        )
        info.room_composite.file_outputs.add(filepath="rooms/{room_name}/{time}.mp4")
        result = info.file_results.add(
            filename=f"rooms/room {index}/1.mp4",
            location=f"s3://bucket/rooms/room {index}/1.mp4",
            started_at=begun_ns,
            ended_at=ended_ns,
            duration=60_000_000_000,
            size=12_345_678,
        )
        info.file.CopyFrom(result)
        infos.append(info)
    return infos


async def fill(service: Service, count: int) -> None:
    """Call it before the service starts."""
    service.data.mkdir(parents=True)
    store = SqliteStore(service.data / "openegress.db")
    await store.open()
    for info in ended_records(count):
        await store.put(info)
    await store.close()


async def list_at(service: Service, rate: float, seconds: float) -> Load:
    """Calls ListEgress for everything, `rate` times a second."""
    url = f"{service.url}/twirp/livekit.Egress/ListEgress"
    headers = {"Authorization": f"Bearer {egress_token(service.api_key, service.api_secret)}"}
    took_ms: list[float] = []
    late_ms: list[float] = []
    sizes: set[int] = set()

    async with aiohttp.ClientSession(headers=headers) as http:

        async def one(due_s: float) -> None:
            async with http.post(url, json={}) as answer:
                body = await answer.read()
                answer.raise_for_status()
            took_ms.append((time.monotonic() - due_s) * 1000)
            sizes.add(len(body))

        await one(time.monotonic())
        took_ms.clear()
        server = psutil.Process(service.pid)
        used_s = _cpu_s(server)
        begun_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for index in range(int(rate * seconds)):
                due_s = begun_s + index / rate
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                late_ms.append((time.monotonic() - due_s) * 1000)
                group.create_task(one(due_s))
        used_s = _cpu_s(server) - used_s
    took_ms.sort()
    count = len(took_ms)
    (size,) = sizes
    return Load(
        count,
        size,
        took_ms[count // 2],
        took_ms[int(count * 0.99)],
        took_ms[-1],
        cpu_ms=used_s / count * 1000,
        late_ms=sorted(late_ms)[int(count * 0.99)],
    )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def run(rate: float, seconds: float, records: int) -> Load:
    with tempfile.TemporaryDirectory(prefix="openegress-load-") as folder:
        service = Service(Path(folder))
        await fill(service, records)
        async with service:
            return await list_at(service, rate, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.api_load")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--records", type=int, default=1000)
    arguments = parser.parse_args()
    print(asyncio.run(run(arguments.rate, arguments.seconds, arguments.records)))


if __name__ == "__main__":
    main()
