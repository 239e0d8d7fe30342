"""What receiving a room costs: cores and memory of a recorder that takes frames and drops them.

    python -m bench.room_receive                      the rows of the table
    python -m bench.room_receive --audio 50 --video 20 --kbps 500

A livekit-server, the publishers and the recorder are processes of their own; only the recorder is measured.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass

from testkit.load import process_tree_load

SETTLE_S = 8.0
"""Joining, subscribing, the first sender reports, the growth of the layers' rates."""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    audio: int
    video: int
    codec: str = "h264"
    width: int = 1280
    height: int = 720
    kbps: int = 2500


ROWS = (
    Row("audio track", 1, 0),
    Row("video track 720p 2.5 Mbps", 0, 1),
    Row("video and audio", 1, 1),
    Row("50 audio, 20 video tracks", 50, 20, "vp8", 320, 180, 150),
)


async def record(url: str, token: str) -> None:
    """The measured process: as little imported as a recording needs."""
    from openegress.room import TrackPublished
    from openegress.room.client import RoomClient

    client = RoomClient(url, token, "EG_bench")
    counts = {"frames": 0, "bytes": 0}

    def count(frame: object) -> None:
        counts["frames"] += 1
        counts["bytes"] += len(frame.data)  # type: ignore[attr-defined]

    await client.join()

    async def subscribe() -> None:
        async for event in client.events():
            if isinstance(event, TrackPublished):
                await client.subscribe([event.track.sid], count)

    subscriber = asyncio.create_task(subscribe())
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if line.strip() == b"count":
            os.write(1, json.dumps(counts).encode() + b"\n")
    await client.close()
    await subscriber


async def publish(url: str, key: str, row: Row) -> None:
    """The publishers, in a process of their own: one participant for each pair of tracks."""
    from testkit.participants import AudioSpec, Keys, Publisher, VideoSpec

    keys = Keys(url, key, os.environ["LIVEKIT_API_SECRET"])
    video = VideoSpec(
        codec=row.codec,  # type: ignore[arg-type]
        width=row.width,
        height=row.height,
        kbps=row.kbps,
        busy=True,
        encoded=row.video == 1,
        fps=30 if row.video == 1 else 15,
    )
    publishers = [
        Publisher(
            keys,
            "bench",
            f"p{number}",
            video if number < row.video else None,
            AudioSpec() if number < row.audio else None,
        )
        for number in range(max(row.audio, row.video))
    ]
    for publisher in publishers:
        await publisher.join()
    os.write(1, b"publishing\n")
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()
    for publisher in publishers:
        await publisher.leave()


async def child(*arguments: str, environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.room_receive",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )


async def ended(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def measure(row: Row, seconds: float) -> str:
    from openegress.core.tokens import recorder_token
    from testkit.livekit_server import LivekitServer

    async with LivekitServer() as server:
        secret = {"LIVEKIT_API_SECRET": server.api_secret}
        specification = json.dumps([getattr(row, name) for name in Row.__slots__])
        publishers = await child(
            "--publish", specification, server.ws_url, server.api_key, environment=secret
        )
        token = {"BENCH_TOKEN": recorder_token(server.api_key, server.api_secret, "bench", "EG_bench")}
        recorder: asyncio.subprocess.Process | None = None
        try:
            assert publishers.stdout is not None
            await publishers.stdout.readline()
            recorder = await child("--record", server.ws_url, environment=token)
            await asyncio.sleep(SETTLE_S)
            before, first = process_tree_load(recorder.pid), await counts(recorder)
            await asyncio.sleep(seconds)
            after, last = process_tree_load(recorder.pid), await counts(recorder)
        finally:
            if recorder is not None:
                await ended(recorder)
            await ended(publishers)
    elapsed_s = after.at_s - before.at_s
    return (
        f"{row.name:28} {after.cores_since(before):6.3f} cores {after.pss_bytes / 2**20:5.0f} MiB "
        f"{(last['frames'] - first['frames']) / elapsed_s:7.1f} frames/s "
        f"{(last['bytes'] - first['bytes']) * 8 / elapsed_s / 1000:7.0f} kbps"
    )


async def counts(recorder: asyncio.subprocess.Process) -> dict[str, int]:
    assert recorder.stdin is not None
    assert recorder.stdout is not None
    recorder.stdin.write(b"count\n")
    found: dict[str, int] = json.loads(await recorder.stdout.readline())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.room_receive", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--audio", type=int, default=0)
    parser.add_argument("--video", type=int, default=0)
    parser.add_argument("--kbps", type=int, default=500)
    parser.add_argument("--record", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--publish", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record:
        asyncio.run(record(arguments.record, os.environ["BENCH_TOKEN"]))
        return
    if arguments.publish:
        specification, url, key = arguments.publish
        asyncio.run(publish(url, key, Row(*json.loads(specification))))
        return
    rows = [row for row in ROWS if arguments.only in row.name]
    if arguments.audio or arguments.video:
        name = f"{arguments.audio} audio, {arguments.video} video"
        rows = [Row(name, arguments.audio, arguments.video, "vp8", 320, 180, arguments.kbps)]
    for row in rows:
        started = time.monotonic()
        sys.stdout.write(asyncio.run(measure(row, arguments.seconds)) + "\n")
        sys.stdout.flush()
        sys.stderr.write(f"({time.monotonic() - started:.0f} s)\n")


if __name__ == "__main__":
    main()
