"""`python -m bench.sync [--seconds 300]`: do sound and picture stay together over a long recording?

One publisher flashes and beeps on whole seconds. A room composite (encoded) and a track composite (passed
through) record it at the same time. Each file's offsets are read back, and a line fitted through them gives
the drift.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.probe import av_offset, counters
from testkit.service import Service, location

ROOM = "bench"


async def record(folder: Path, seconds: float) -> list[tuple[str, Path]]:
    video = VideoSpec("h264", 640, 360, kbps=800, encoded=True, catches_up=True)
    async with (
        LivekitServer() as livekit,
        # One service each: the first recording on a machine is admitted however busy the publisher keeps it.
        Service(folder / "room", livekit) as rooms,
        Service(folder / "tracks", livekit) as composites,
        Publisher(livekit, ROOM, "ann", video, AudioSpec()) as ann,
    ):
        room = {"room_name": ROOM, "file_outputs": [{"filepath": "room.mp4"}]}
        tracks = {
            "room_name": ROOM,
            "audio_track_id": ann.sid("microphone"),
            "video_track_id": ann.sid("camera"),
            "file_outputs": [{"filepath": "tracks.mp4"}],
        }
        started = [
            (rooms, await rooms.call("StartRoomCompositeEgress", **room)),
            (composites, await composites.call("StartTrackCompositeEgress", **tracks)),
        ]
        for service, info in started:
            await service.active(info["egress_id"])
        await asyncio.sleep(seconds)
        ended = [await service.finish(info["egress_id"]) for service, info in started]
    for info in ended:
        if info["status"] != "EGRESS_COMPLETE":
            raise SystemExit(info["error"])
    return [
        (name, location(info))
        for name, info in zip(("room composite", "track composite, passed through"), ended, strict=True)
    ]


def render(name: str, samples: Sequence[tuple[float, float]], missing: int) -> str:
    """`samples`: (s, ms)."""
    at_s, offset_ms = np.array(samples).T
    slope, _ = np.polyfit(at_s, offset_ms, 1)
    return (
        f"| {name} | {at_s[-1]:.0f} | {len(samples)} | {offset_ms.min():.0f}, {np.median(offset_ms):.0f},"
        f" {offset_ms.max():.0f} | {slope * 60:+.2f} | {missing} |"
    )


HEAD = """| recording | s | flashes | A/V ms: least, median, most | drift, ms a minute | pictures missing |
|---|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sync")
    parser.add_argument("--seconds", type=float, default=300.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="openegress-bench-") as folder:
        files = asyncio.run(record(Path(folder), seconds))
        print(HEAD)
        for name, path in files:
            print(render(name, av_offset(path).samples, len(counters(path).missing)), flush=True)


if __name__ == "__main__":
    main()
