"""Builds the outputs of a plan, and says whether each takes packets or frames."""

from collections.abc import Callable
from dataclasses import dataclass

from openegress.core import plan, storages
from openegress.core.codecs import MATROSKA, Container
from openegress.media import FrameSink, PacketSink
from openegress.output import Chaptered, Emit, Flushable, Output
from openegress.output.file.recorder import FileRecorder
from openegress.output.file.split_recorder import SplitRecorder
from openegress.output.hls.recorder import HlsRecorder
from openegress.output.images.recorder import ImageRecorder
from openegress.output.left import NOTHING_LEFT, LeftOutput
from openegress.output.live.reconnect import ReconnectPolicy
from openegress.output.live.sender import StreamSender
from openegress.output.live.websocket import WebsocketSender
from openegress.output.size_guard import IN_FILE, IN_MATROSKA, IN_MCAP, IN_TS, Packing, SizeGuard, SizeLimit
from openegress.storage.uploader import Uploader


@dataclass(frozen=True, slots=True)
class BuiltOutput:
    """An output and the media that it takes: either packets or frames."""

    output: Output
    packets: PacketSink | None = None
    """Takes encoded packets: a file, segments, streams."""
    tracks: PacketSink | None = None
    """Takes a room's tracks unchanged, in addition to what is encoded."""
    frames: FrameSink | None = None
    """Takes raw media: images, a websocket."""
    streams: StreamSender | None = None
    """Sends to URLs that can be added and removed during the recording. Each reports how it ended."""
    mute_listener: WebsocketSender | None = None
    """Gets a call when the recorded track is muted."""
    guard: SizeGuard | None = None
    """Keeps the stored output below a size as packets arrive."""
    patient: Flushable | None = None
    """Writes as fast as the disk takes it."""
    marked: Chaptered | None = None
    """The output, if it has chapters."""
    is_live: bool = False
    """Whether the output sends at once, and stores nothing."""


def build_output(
    output: plan.Output,
    index: int,
    *,
    emit: Emit,
    size_limit: SizeLimit | None = None,
    on_empty: Callable[[], None] | None = None,
    stream_retry_s: float | None = None,
    left: LeftOutput = NOTHING_LEFT,
    uploader: Callable[[storages.StoragePlan], Uploader] = Uploader,
    ask_key: Callable[[int], None] = lambda at_ns: None,
) -> BuiltOutput:
    """Builds the output number `index` of a plan. Call it in the event loop. `size_limit`: for a file, or for
    all segments. `on_empty`: called, possibly from any thread, when the last URL of a stream output was
    removed. `stream_retry_s`: how long to redial a lost stream. `left`: what the output continues. `ask_key`:
    asks for a key frame at this time of the timeline or later; called from any thread."""
    policy = ReconnectPolicy() if stream_retry_s is None else ReconnectPolicy(budget_s=stream_retry_s)
    match output:
        case plan.TracksFile():
            tracks = _file(output, index, left, emit, uploader(output.storage), ask_key)
            guard = SizeGuard(tracks, size_limit, _packing(output.container))
            return BuiltOutput(tracks, tracks=guard, guard=guard)
        case plan.FileOutput():
            file = _file(output, index, left, emit, uploader(output.storage), ask_key)
            guard = SizeGuard(file, size_limit, _packing(output.container))
            return BuiltOutput(file, packets=guard, guard=guard, patient=file, marked=file)
        case plan.SegmentOutput():
            segments = HlsRecorder(output, index, emit=emit, uploader=uploader(output.storage))
            packing = IN_TS if output.container is Container.TS else IN_FILE
            guard = SizeGuard(segments, size_limit, packing)
            return BuiltOutput(segments, packets=guard, guard=guard, patient=segments, marked=segments)
        case plan.StreamOutput():
            streams = StreamSender(
                output,
                index,
                emit=emit,
                on_empty=on_empty,
                policy=policy,
                left=left.streams,
                ask_key=ask_key,
            )
            return BuiltOutput(streams, packets=streams, streams=streams, is_live=True)
        case plan.ImageOutput():
            images = ImageRecorder(output, index, emit=emit, uploader=uploader(output.storage))
            return BuiltOutput(images, frames=images, patient=images)
        case plan.WebsocketOutput():
            websocket = WebsocketSender(output, index, emit=emit, policy=policy, left=left.websocket)
            return BuiltOutput(websocket, frames=websocket, mute_listener=websocket, is_live=True)


def _packing(container: Container | None) -> Packing:
    """Returns the overhead of a file in that container."""
    if container is Container.MCAP:
        return IN_MCAP
    return IN_MATROSKA if container in MATROSKA else IN_FILE


def _file(
    output: plan.FileOutput,
    index: int,
    left: LeftOutput,
    emit: Emit,
    uploader: Uploader,
    ask_key: Callable[[int], None],
) -> FileRecorder | SplitRecorder:
    if output.split is not None or left.parts:
        return SplitRecorder(output, index, emit=emit, uploader=uploader, ask_key=ask_key, left=left.parts)
    return FileRecorder(output, index, emit=emit, uploader=uploader)
