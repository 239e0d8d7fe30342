"""What receiving a room costs: cores and memory of a recorder that takes frames and drops them, or keeps each
track in one file.

    python -m bench.room_receive                      the rows of the table
    python -m bench.room_receive --audio 50 --video 20 --kbps 500

A livekit-server, the publishers and the recorder are processes of their own; only the recorder is measured.
The publishers send what was encoded before (testkit.looped_publisher): encoders would starve the rest. A row
counts only if the recorder got what was sent meanwhile; each row reports that.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from testkit.load import Load, process_tree_load

if TYPE_CHECKING:
    from testkit.livekit_server import LivekitServer
    from testkit.raw_connection import RawCodec

SETTLE_S = 10.0
"""Joining, subscribing, the first key frames and sender reports."""
MAX_PUBLISHERS = 5
"""Tracks are shared out among them; for the recorder, a participant for each would be the same."""
MIN_SHARE, MAX_SHARE = 0.99, 1.01
"""Share of the frames sent, in a valid row. More: earlier frames were still held back when the count
began."""
MAX_LATE_SHARE = 0.01
"""Share of the frames sent. Beyond it, publishers starved and sent in bunches, which cost less to receive."""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    audio: int
    video: int
    codec: "RawCodec" = "h264"
    width: int = 1280
    height: int = 720
    kbps: int = 2500
    fps: int = 30
    busy: bool = True
    keeps: str = ""
    """All tracks go unchanged into one file with this ending."""


ROWS = (
    Row("audio track", 1, 0),
    Row("video track 720p 2.5 Mbps", 0, 1),
    Row("video and audio", 1, 1),
    Row("50 audio, 20 video tracks", 50, 20, "vp8", 640, 360, 500),
    *(
        Row(f"50 audio, 20 video, in {kind}", 50, 20, "vp8", 640, 360, 500, keeps=kind)
        for kind in ("mkv", "mp4", "mcap")
    ),
)


async def answer(counts: Callable[[], dict[str, int]]) -> None:
    """Answers each line of input with the counts, until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.readline():
        os.write(1, json.dumps(counts()).encode() + b"\n")


async def record(url: str, token: str) -> None:
    """The measured process: it imports as little as a recording needs."""
    from openegress.core.codecs import MediaKind
    from openegress.room import EncodedFrame
    from openegress.room.client import RoomClient
    from openegress.room.events import TrackPublished

    client = RoomClient(url, token, "EG_bench")
    counts = {"audio_frames": 0, "video_frames": 0, "bytes": 0}

    def audio(frame: EncodedFrame) -> None:
        counts["audio_frames"] += 1
        counts["bytes"] += len(frame.data)

    def video(frame: EncodedFrame) -> None:
        counts["video_frames"] += 1
        counts["bytes"] += len(frame.data)

    await client.join()
    await client.connected()

    async def subscribe() -> None:
        async for event in client.events():
            if isinstance(event, TrackPublished):
                count = video if event.track.kind is MediaKind.VIDEO else audio
                await client.subscribe([event.track.sid], count)

    subscriber = asyncio.create_task(subscribe())
    await answer(lambda: counts)
    await client.close()
    await subscriber


async def keep(url: str, token: str, folder: str, kind: str) -> None:
    """The measured process that also writes the file."""
    from openegress.core.codecs import Container, MediaKind
    from openegress.core.plan import FileOutput, Plan, TracksSource
    from openegress.core.storages import LocalStorage, StoragePlan
    from openegress.media import Packet
    from openegress.output import Opening
    from openegress.output.build import build_output
    from openegress.source.room.open import open_source
    from openegress.source.room.tracks_source import RoomTracksSource

    output = FileOutput(f"room.{kind}", Container(kind), StoragePlan(LocalStorage(folder)))
    source = await open_source(Plan("EG_bench", TracksSource("bench", url, token), (output,), None, None))
    counts = {"audio_frames": 0, "video_frames": 0, "bytes": 0}
    built = build_output(output, 0, emit=lambda event: None)
    assert isinstance(source, RoomTracksSource) and built.packets is not None
    write = built.packets.write

    class Counting:
        def write(self, packet: Packet) -> None:
            counts["video_frames" if packet.kind is MediaKind.VIDEO else "audio_frames"] += 1
            counts["bytes"] += len(packet.data)
            write(packet)

    await source.prepare()
    built.output.open(Opening((), time.time_ns(), folder, {}))
    await source.start(Counting())
    await answer(lambda: counts)
    await source.stop()
    await source.close()
    await built.output.finish(time.time_ns())


async def publish(url: str, tokens: list[str], row: Row) -> None:
    from testkit.looped_publisher import Counts, LoopedPublisher, opus_loop, play, video_loop

    loops = [opus_loop()] * row.audio
    if row.video:
        size = (row.width, row.height)
        loops += [video_loop(row.codec, size, row.fps, row.kbps, busy=row.busy)] * row.video
    publishers = []
    for number, token in enumerate(tokens):
        publisher = LoopedPublisher(url, f"p{number}")
        await publisher.join(token, loops[number :: len(tokens)])
        publishers.append(publisher)
    counts = Counts()
    playing = asyncio.create_task(play(publishers, counts))
    os.write(1, b"publishing\n")
    await answer(lambda: asdict(counts))
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
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


async def counts_of(process: asyncio.subprocess.Process) -> dict[str, int]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"count\n")
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError("a process of the benchmark has ended before the time")
    found: dict[str, int] = json.loads(line)
    return found


@dataclass(frozen=True, slots=True)
class Reading:
    recorder: Load
    server: Load
    publishers: Load
    received: dict[str, int]
    sent: dict[str, int]


async def read(
    server: "LivekitServer", publishers: asyncio.subprocess.Process, recorder: asyncio.subprocess.Process
) -> Reading:
    received, sent = await asyncio.gather(counts_of(recorder), counts_of(publishers))
    return Reading(
        process_tree_load(recorder.pid),
        process_tree_load(server.pid),
        process_tree_load(publishers.pid),
        received,
        sent,
    )


@asynccontextmanager
async def publishing(
    server: "LivekitServer", row: Row, people: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs the publishers of the row in a process of their own."""
    from testkit.raw_connection import send_only

    tokens = [server.token("bench", f"p{number}", grants=send_only("bench")) for number in range(people)]
    publishers = await child(
        "--publish",
        json.dumps(asdict(row)),
        server.ws_url,
        environment={"BENCH_TOKENS": json.dumps(tokens)},
    )
    try:
        assert publishers.stdout is not None
        await publishers.stdout.readline()
        yield publishers
    finally:
        await ended(publishers)


async def measure(row: Row, seconds: float) -> str:
    from openegress.core.tokens import recorder_token
    from testkit.livekit_server import LivekitServer

    people = min(MAX_PUBLISHERS, max(row.audio, row.video))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LivekitServer())
        kept_in = [stack.enter_context(tempfile.TemporaryDirectory()), row.keeps] if row.keeps else []
        publishers = await stack.enter_async_context(publishing(server, row, people))
        token = {"BENCH_TOKEN": recorder_token(server.api_key, server.api_secret, "bench", "EG_bench")}
        recorder = await child("--record", server.ws_url, *kept_in, environment=token)
        stack.push_async_callback(ended, recorder)
        await asyncio.sleep(SETTLE_S)
        before = await read(server, publishers, recorder)
        await asyncio.sleep(seconds)
        after = await read(server, publishers, recorder)
    return f"{row.name:28} {report(before, after)}"


def report(before: Reading, after: Reading) -> str:
    elapsed_s = after.recorder.at_s - before.recorder.at_s
    received = {name: count - before.received[name] for name, count in after.received.items()}
    sent = {name: count - before.sent[name] for name, count in after.sent.items()}
    shares = {
        name: received[f"{name}_frames"] / sent[f"{name}_frames"]
        for name in ("audio", "video")
        if sent[f"{name}_frames"]
    }
    late = sent["late_frames"] / max(1, sent["audio_frames"] + sent["video_frames"])
    parts = [
        f"{after.recorder.cores_since(before.recorder):.3f} cores",
        f"{after.recorder.pss_bytes / 2**20:.0f} MiB",
        f"{sent['packets'] / elapsed_s:.0f} packets/s",
        f"{received['bytes'] * 8 / elapsed_s / 1000:.0f} kbps",
        "received " + " and ".join(f"{share:.2%} of {name}" for name, share in shares.items()),
        f"(server {after.server.cores_since(before.server):.2f} cores, publishers "
        f"{after.publishers.cores_since(before.publishers):.2f}, late {late:.2%})",
    ]
    if late > MAX_LATE_SHARE:
        parts.append("THE PUBLISHERS FELL BEHIND")
    if not shares or not all(MIN_SHARE <= share <= MAX_SHARE for share in shares.values()):
        parts.append("NOT VALID: not what was sent is what was received")
    return "  ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.room_receive", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--audio", type=int, default=0)
    parser.add_argument("--video", type=int, default=0)
    parser.add_argument("--kbps", type=int, default=500)
    parser.add_argument("--record", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--publish", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record:
        recorder = keep if arguments.record[1:] else record
        asyncio.run(recorder(arguments.record[0], os.environ["BENCH_TOKEN"], *arguments.record[1:]))
        return
    if arguments.publish:
        specification, url = arguments.publish
        tokens = json.loads(os.environ["BENCH_TOKENS"])
        asyncio.run(publish(url, tokens, Row(**json.loads(specification))))
        return
    rows = [row for row in ROWS if arguments.only in row.name]
    if arguments.audio or arguments.video:
        name = f"{arguments.audio} audio, {arguments.video} video"
        rows = [Row(name, arguments.audio, arguments.video, "vp8", 640, 360, arguments.kbps)]
    for row in rows:
        started = time.monotonic()
        sys.stdout.write(asyncio.run(measure(row, arguments.seconds)) + "\n")
        sys.stdout.flush()
        sys.stderr.write(f"({time.monotonic() - started:.0f} s)\n")


if __name__ == "__main__":
    main()
