"""The factory of outputs: each output of a plan, and whether it takes packets or frames."""

from collections.abc import Callable
from dataclasses import dataclass

from openegress.core import plan
from openegress.core.codecs import MATROSKA, Container
from openegress.media import FrameSink, PacketSink
from openegress.output import Emit, Output
from openegress.output.file.recorder import FileRecorder
from openegress.output.hls.recorder import HlsRecorder
from openegress.output.images.recorder import ImageRecorder
from openegress.output.live.reconnect import ReconnectPolicy
from openegress.output.live.sender import StreamSender
from openegress.output.live.websocket import WebsocketSender
from openegress.output.size_guard import IN_FILE, IN_MATROSKA, IN_TS, SizeGuard, SizeLimit
from openegress.storage.uploader import Uploader


@dataclass(frozen=True, slots=True)
class BuiltOutput:
    """An output and what it may be given. It takes either packets or frames."""

    output: Output
    packets: PacketSink | None = None
    """Takes what was encoded: a file, segments, streams."""
    frames: FrameSink | None = None
    """Takes raw media: images, a websocket."""
    streams: StreamSender | None = None
    """Sends to URLs that may be added and removed while it records. Each tells how it ended."""
    mute_listener: WebsocketSender | None = None
    """Wants to know when the recorded track is muted."""
    is_live: bool = False
    """Sends what it makes at once, and stores nothing."""


def build_output(
    output: plan.Output,
    index: int,
    *,
    emit: Emit,
    size_limit: SizeLimit | None = None,
    on_empty: Callable[[], None] | None = None,
    stream_retry_s: float | None = None,
    uploader: Callable[[plan.StoragePlan], Uploader] = Uploader,
) -> BuiltOutput:
    """The output number `index` of a plan. Call it in the event loop.

    `size_limit`: of a file, or of all segments. `on_empty`: the last URL of a stream output was removed; it
    may be called from any thread. `stream_retry_s`: how long a lost stream is dialled again.
    """
    policy = ReconnectPolicy() if stream_retry_s is None else ReconnectPolicy(budget_s=stream_retry_s)
    match output:
        case plan.FileOutput():
            file = FileRecorder(output, index, emit=emit, uploader=uploader(output.storage))
            kept_below = IN_MATROSKA if output.container in MATROSKA else IN_FILE
            return BuiltOutput(file, packets=SizeGuard(file, size_limit, kept_below) if size_limit else file)
        case plan.SegmentOutput():
            segments = HlsRecorder(output, index, emit=emit, uploader=uploader(output.storage))
            packing = IN_TS if output.container is Container.TS else IN_FILE
            guarded = SizeGuard(segments, size_limit, packing) if size_limit else segments
            return BuiltOutput(segments, packets=guarded)
        case plan.StreamOutput():
            streams = StreamSender(output, index, emit=emit, on_empty=on_empty, policy=policy)
            return BuiltOutput(streams, packets=streams, streams=streams, is_live=True)
        case plan.ImageOutput():
            images = ImageRecorder(output, index, emit=emit, uploader=uploader(output.storage))
            return BuiltOutput(images, frames=images)
        case plan.WebsocketOutput():
            websocket = WebsocketSender(output, index, emit=emit, policy=policy)
            return BuiltOutput(websocket, frames=websocket, mute_listener=websocket, is_live=True)
