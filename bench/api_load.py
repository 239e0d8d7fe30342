"""`python -m bench.api_load [--rate 200] [--seconds 20] [--records 1000]`: how long a busy API takes to list.

Requests are made at their due times whether earlier ones are answered or not, and each is timed from when it
was due: a server that falls behind cannot hide it.
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
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

    def __str__(self) -> str:
        return (
            f"{self.requests} requests of {self.body_bytes / 1024:.0f} KiB: median {self.p50_ms:.1f} ms,"
            f" p99 {self.p99_ms:.1f} ms, worst {self.worst_ms:.1f} ms"
        )


def ended_records(count: int) -> list[EgressInfo]:
    """As room composites leave them."""
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
    """Before the service starts."""
    service.data.mkdir(parents=True)
    store = SqliteStore(service.data / "openegress.db")
    await store.open()
    for info in ended_records(count):
        await store.put(info)
    await store.close()


async def list_at(service: Service, rate: float, seconds: float) -> Load:
    """ListEgress of everything, `rate` times a second."""
    url = f"{service.url}/twirp/livekit.Egress/ListEgress"
    headers = {"Authorization": f"Bearer {egress_token(service.api_key, service.api_secret)}"}
    took_ms: list[float] = []
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
        begun_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for index in range(int(rate * seconds)):
                due_s = begun_s + index / rate
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                group.create_task(one(due_s))
    took_ms.sort()
    (size,) = sizes
    return Load(
        len(took_ms), size, took_ms[len(took_ms) // 2], took_ms[int(len(took_ms) * 0.99)], took_ms[-1]
    )


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
