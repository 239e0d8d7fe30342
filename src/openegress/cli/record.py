"""`openegress record SOURCE FILE`: one recording, no port."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

import msgspec
from livekit.protocol.egress import (
    EgressInfo,
    EgressStatus,
    EncodedFileOutput,
    EncodedFileType,
    RoomCompositeEgressRequest,
    WebEgressRequest,
)

from openegress.api import wire_json
from openegress.app import log
from openegress.app.one_shot import OneShot
from openegress.cli import core_files
from openegress.cli.durations import parse_duration
from openegress.cli.errors import MAX_CHARS, Exit, say
from openegress.cli.flags import require_livekit, settings_of
from openegress.cli.quantities import duration_text, size_text
from openegress.config.settings import Settings
from openegress.core import lookup_loop
from openegress.core.errors import invalid
from openegress.core.events import Progress
from openegress.core.ids import new_id
from openegress.core.text import shown
from openegress.core.values import Seconds
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request import layouts, options
from openegress.request.options import Options

ROOM = "room:"

FILE_TYPES = {
    ".mp4": EncodedFileType.MP4,
    ".ogg": EncodedFileType.OGG,
    ".mp3": EncodedFileType.MP3,
    # The API has no names for these containers: the path's extension chooses them.
    ".webm": EncodedFileType.DEFAULT_FILETYPE,
    ".mkv": EncodedFileType.DEFAULT_FILETYPE,
    ".mka": EncodedFileType.DEFAULT_FILETYPE,
    ".mcap": EncodedFileType.DEFAULT_FILETYPE,
}
WITHOUT_PICTURE = (".ogg", ".mp3", ".mka")
TRACK_FILE_TYPES = (".mkv", ".mka", ".mcap")
"""They hold every track of a room separately, as layout `tracks` records them."""


def run(arguments: argparse.Namespace) -> int:
    core_files.forbid()
    settings, _ = settings_of(arguments)
    if arguments.source.startswith(ROOM):
        require_livekit(settings)
    target = Path(arguments.file).absolute()
    quiet = msgspec.structs.replace(settings.logging, level=type(settings.logging.level)(arguments.log_level))
    # There is no port that pages could reach.
    ports = dict.fromkeys(("port", "template_port", "health_port", "prometheus_port"), 0)
    settings = msgspec.structs.replace(settings, output_root=str(target.parent), logging=quiet, **ports)
    log.configure(settings.logging)
    return lookup_loop.run(record(settings, request_for(arguments, target), as_json=arguments.json))


def request_for(arguments: argparse.Namespace, target: Path) -> StartEgressRequest:
    """Raises EgressError when the source is neither a URL nor room:NAME, or cannot go into such a file."""
    source: str = arguments.source
    suffix = target.suffix.lower()
    audio_only = arguments.audio_only or suffix in WITHOUT_PICTURE
    if suffix not in FILE_TYPES:
        raise invalid(
            f'"{target.name}" is not a file to record to: '
            "name it .mp4, .webm, .ogg, .mp3, .mkv, .mka or .mcap"
        )
    if suffix in WITHOUT_PICTURE and arguments.video_only:
        other = ".mkv" if suffix in TRACK_FILE_TYPES else ".mp4"
        raise invalid(f'"{target.name}" holds no picture: leave out --video-only, or name it {other}')
    asked = Options(max_duration=Seconds(parse_duration(arguments.duration)) if arguments.duration else None)
    egress_id = new_id("EG_")
    common = {
        "audio_only": audio_only,
        "video_only": arguments.video_only,
        "file_outputs": [
            EncodedFileOutput(filepath=str(target), file_type=FILE_TYPES[suffix], disable_manifest=True)
        ],
    }
    if suffix in TRACK_FILE_TYPES:
        if not source.startswith(ROOM) or arguments.layout not in ("", layouts.TRACKS):
            raise invalid(f'"{target.name}" is for all tracks of a room: name it .mp4 for anything else')
    elif arguments.preset is not None:
        common["preset"] = arguments.preset
    if source.startswith(ROOM):
        name = source.removeprefix(ROOM)
        layout = layouts.TRACKS if suffix in TRACK_FILE_TYPES else arguments.layout
        room = options.carry(RoomCompositeEgressRequest(room_name=name, layout=layout, **common), asked)
        return StartEgressRequest(egress_id=egress_id, room_name=name, room_composite=room)
    if source.startswith(("http://", "https://")):
        web = options.carry(WebEgressRequest(url=source, **common), asked)
        return StartEgressRequest(egress_id=egress_id, web=web)
    raise invalid(f'"{source}" is neither a URL nor a room: write https://... or room:NAME')


async def record(settings: Settings, request: StartEgressRequest, *, as_json: bool = False) -> int:
    async with OneShot(settings) as recorder:
        await recorder.start(request)
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        stopper = asyncio.create_task(_stop_when(recorder, stopping))
        try:
            async for progress in recorder.progress():
                if stopper.done():
                    stopper.result()  # a stop that was refused would be waited for in vain
                show(progress, recorder.info)
        finally:
            stopper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await stopper
        return report(recorder.info, as_json=as_json)


async def _stop_when(recorder: OneShot, stopping: asyncio.Event) -> None:
    await stopping.wait()
    await recorder.stop()


def show(progress: Progress | None, info: EgressInfo) -> None:
    """One line that is overwritten, on a terminal."""
    if not sys.stderr.isatty():
        return
    if progress is None or not progress.media_ns:
        text = "starting"
    else:
        text = (
            f"{duration_text(progress.media_ns / 1e9):>9}  {size_text(progress.size_bytes):>8}"
            f"  {progress.fps:5.1f} fps  {progress.dropped_frames} dropped"
        )
    if info.status == EgressStatus.EGRESS_ENDING:
        text += "  finishing"
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def report(info: EgressInfo, *, as_json: bool = False) -> int:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if as_json:
        print(json.dumps(wire_json.to_dict(info), indent=2))
    else:
        for file in info.file_results:
            if file.location:
                place = shown(file.location, MAX_CHARS)
                print(f"{place}  {duration_text(file.duration / 1e9)}  {size_text(file.size)}")
    if info.status in (EgressStatus.EGRESS_COMPLETE, EgressStatus.EGRESS_LIMIT_REACHED):
        return Exit.DONE
    say(info.error or EgressStatus.Name(info.status))
    return Exit.FAILED
