"""The outputs of a plan, and the manifests they leave."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

from openegress.core import naming, plan
from openegress.core.errors import EgressError
from openegress.core.events import ManifestStored
from openegress.core.stream_urls import redact
from openegress.media import FrameSink
from openegress.output import Emit, Opening, Output
from openegress.output.disk_thread import in_time
from openegress.output.file import FileOutput
from openegress.output.images import ImageOutput
from openegress.output.manifest import Header, Records, build
from openegress.output.naming import JSON_TYPE
from openegress.output.reconnect import Policy
from openegress.output.segments import SegmentOutput
from openegress.output.spool import disk_error
from openegress.output.stream import StreamOutput
from openegress.output.websocket import WebsocketOutput
from openegress.storage.uploader import Uploader


class Finishing(Protocol):
    """What every output has, whatever it is fed."""

    def open(self, opening: Opening) -> None: ...

    async def finish(self, ended_at_ns: int) -> None: ...

    def size_bytes(self) -> int: ...

    def waiting_uploads(self) -> int:
        """Objects made that no storage has confirmed yet."""

    def records(self) -> Records:
        """What it stored, for the manifest; after finish()."""

    def is_settled(self) -> bool:
        """Nothing that it recorded waits in the spool, however it ended; after finish()."""


class PacketOutput(Output, Finishing, Protocol):
    """Fed with encoded packets: files, segments, streams."""


class FrameOutput(FrameSink, Finishing, Protocol):
    """Fed with raw frames: images, websockets."""


AnyOutput = PacketOutput | FrameOutput


def build_output(
    output: plan.Output,
    index: int,
    *,
    emit: Emit,
    limits: plan.Limits | None = None,
    on_limit: Callable[[], None] | None = None,
    on_empty: Callable[[], None] | None = None,
    stream_retry_s: float | None = None,
    uploader: Callable[[plan.StoragePlan], Uploader] = Uploader,
) -> AnyOutput:
    """The output number `index` of a plan. Call it in the event loop.

    `on_limit`: a file reached limits.file_bytes. `on_empty`: the last URL of a stream output was removed.
    Both may be called from any thread. `stream_retry_s`: how long a lost stream is dialled again.
    """
    match output:
        case plan.FileOutput():
            return FileOutput(
                output,
                index,
                emit=emit,
                uploader=uploader(output.storage),
                max_bytes=limits.file_bytes if limits else 0,
                on_limit=on_limit,
            )
        case plan.SegmentOutput():
            return SegmentOutput(output, index, emit=emit, uploader=uploader(output.storage))
        case plan.StreamOutput():
            policy = Policy() if stream_retry_s is None else Policy(budget_s=stream_retry_s)
            return StreamOutput(output, index, emit=emit, on_empty=on_empty, policy=policy)
        case plan.ImageOutput():
            return ImageOutput(output, index, emit=emit, uploader=uploader(output.storage))
        case plan.WebsocketOutput():
            policy = Policy() if stream_retry_s is None else Policy(budget_s=stream_retry_s)
            return WebsocketOutput(output, index, emit=emit, policy=policy)


def takes_packets(output: AnyOutput) -> bool:
    """True: a PacketOutput, to be given write(); False: a FrameOutput, to be given video() and audio()."""
    return hasattr(output, "write")


def packet_outputs(outputs: Sequence[AnyOutput]) -> list[PacketOutput]:
    return [cast(PacketOutput, output) for output in outputs if takes_packets(output)]


def frame_outputs(outputs: Sequence[AnyOutput]) -> list[FrameOutput]:
    return [cast(FrameOutput, output) for output in outputs if not takes_packets(output)]


def header_of(
    plan_: plan.Plan,
    values: dict[str, str],
    started_at_ns: int,
    ended_at_ns: int,
    *,
    passthrough: bool = False,
) -> Header:
    """`values` are those of the placeholders. `passthrough`: encoded frames were stored as they came."""
    source = plan_.source
    audio_id, video_id = _composed(source)
    return Header(
        egress_id=plan_.egress_id,
        room_id=plan_.room_id,
        room_name=plan_.room_name,
        url=redact(source.url) if isinstance(source, plan.WebSource) else "",
        started_at_ns=started_at_ns,
        ended_at_ns=ended_at_ns,
        publisher_identity=values.get("publisher_identity", ""),
        track_id=values.get("track_id", ""),
        track_kind=values.get("track_type", ""),
        track_source=values.get("track_source", ""),
        audio_track_id=audio_id,
        video_track_id=video_id,
        passthrough=passthrough,
    )


def _composed(source: plan.Source) -> tuple[str, str]:
    """The ids of the audio and the video track that a request puts together; "" where it names none."""
    if not isinstance(source, plan.MediaSource):
        return "", ""
    audio = [route.value for route in source.audio if route.match == "track"]
    video = source.video.track_id if isinstance(source.video, plan.TrackVideo) else ""
    return audio[0] if len(audio) == 1 else "", video


async def store_manifests(
    header: Header,
    outputs: Sequence[tuple[plan.Output, Records]],
    spool: str,
    values: dict[str, str],
    *,
    emit: Emit,
    uploader: Callable[[plan.StoragePlan], Uploader] = Uploader,
) -> None:
    """Stores <egress_id>.json beside each finished output whose plan wants one: one text, of all outputs.

    Emits ManifestStored for the first. Nothing is written for an egress that stored nothing. Raises the
    first EgressError after all were tried; the manifest then stays in the spool.
    """
    records = [each for _, each in outputs]
    if not any(r.files or r.playlists or r.images for r in records):
        return
    local = Path(spool) / f"{header.egress_id}{naming.MANIFEST_EXTENSION}"
    await in_time(f"manifest {local.name}", functools.partial(_write, local, build(header, records)))
    failures: list[EgressError] = []
    places: list[tuple[plan.StoragePlan, str]] = []
    told = False
    for each, _ in outputs:
        place = _place(each, header.egress_id, values)
        if place is None or place in places:
            continue
        places.append(place)
        storage, path = place
        carrier = uploader(storage)
        try:
            stored = await carrier.put(local, path, JSON_TYPE)
        except EgressError as error:
            failures.append(error)
            continue
        finally:
            await carrier.close()
        if not told:
            told = True
            emit(ManifestStored(stored.location))
    if failures:
        raise failures[0]
    local.unlink(missing_ok=True)


def _write(local: Path, text: str) -> None:
    try:
        local.write_text(text, encoding="utf-8")
    except OSError as error:
        raise disk_error(error, local) from error


def _place(
    output: plan.Output, egress_id: str, values: dict[str, str]
) -> tuple[plan.StoragePlan, str] | None:
    """Where an output's manifest goes; None: it has none."""
    match output:
        case plan.FileOutput():
            directory = naming.split(naming.fill(output.filepath, values))[0]
        case plan.SegmentOutput() | plan.ImageOutput():
            directory = naming.fill(output.directory, values)
        case _:
            return None
    return (output.storage, naming.manifest_path(directory, egress_id)) if output.manifest else None
