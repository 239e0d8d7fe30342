"""Makes a recording that lies in the spool into the file that is stored: index in front, whole, verified.

The same for a recording that was closed, one whose disk was full, and one a dead process left behind.
"""

import os
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError

from openegress.core.codecs import Container
from openegress.media.duration import duration_ns
from openegress.media.mp4 import (
    Mp4Error,
    boxes,
    has_index_in_front,
    index_to_front,
    name_hvc1,
    whole_fragments_bytes,
)
from openegress.media.muxer import FORMAT_NAME
from openegress.output.spare_space import NoSpace, claim, draft_of

_TAIL_S = 1.0
"""How much of the end is compared packet by packet after a file was rewritten."""


def finalise(path: Path, container: Container, *, closed: bool) -> str:
    """Rewrites `path` where that makes it better; memory is bounded and a failure leaves it as it was.

    `closed` says that its muxer wrote the trailer. Returns "" or why the file stayed as it was recorded
    (it plays all the same). Blocking, for ever where the disk is dead: to be called through disk_thread.
    """
    better = draft_of(path)
    try:
        match container:
            case Container.MP4 if has_index_in_front(path) and not is_fragmented(path):
                _name_hvc1(path)  # done by whoever was here before, or all that there is is one fragment
                return ""
            case Container.MP4 if closed and not is_fragmented(path):
                claim(path)
                index_to_front(path, better)
                _name_hvc1(better)
                verify(path, better, exact=True)
            case Container.MP4:
                os.truncate(path, whole_fragments_bytes(path))
                claim(path)
                remux(path, better, container, {"movflags": "faststart"})
                _name_hvc1(better)
                verify(path, better, exact=False)
            case Container.WEBM if not closed and not _has_duration(path):
                claim(path)
                remux(path, better, container, {})
                verify(path, better, exact=False)
            case _:
                return ""
        better.replace(path)
        return ""
    except NoSpace as error:
        better.unlink(missing_ok=True)
        return str(error)
    except (OSError, FFmpegError, Mp4Error) as error:
        better.unlink(missing_ok=True)
        return f"{type(error).__name__}: {error}"


def _has_duration(path: Path) -> bool:
    """Of a WebM: it has its trailer, from its muxer or from whoever was here before."""
    with _indexed(path) as container:
        return container.duration is not None


def _name_hvc1(path: Path) -> None:
    with path.open("r+b") as file:
        name_hvc1(file, path.stat().st_size)


def is_fragmented(path: Path) -> bool:
    with path.open("rb") as file:
        return any(box.kind == b"moof" for box in boxes(file, path.stat().st_size))


def remux(source: Path, target: Path, container: Container, options: dict[str, str]) -> None:
    """Copies every packet that can be read into a new container. Raises FFmpegError or OSError."""
    with (
        av.open(str(source)) as reader,
        av.open(str(target), "w", format=FORMAT_NAME[container], container_options=options) as writer,
    ):
        streams = {
            s.index: writer.add_stream_from_template(s, opaque=True)
            for s in (*reader.streams.video, *reader.streams.audio)
        }
        for packet in reader.demux():
            stream = streams.get(packet.stream.index)
            if stream is None or packet.dts is None:
                continue
            packet.stream = stream
            writer.mux(packet)


def verify(before: Path, after: Path, *, exact: bool) -> None:
    """Raises Mp4Error when `after` does not hold what `before` holds.

    With `exact`, both are plain and must agree in every count and in the packets of their first and last
    second; else only in streams and duration, to the last fragment's length.
    """
    with _indexed(before) as a, _indexed(after) as b:
        if [(s.type, s.codec_context.name) for s in a.streams] != [
            (s.type, s.codec_context.name) for s in b.streams
        ]:
            raise Mp4Error("the rewritten file has other streams")
        if exact:
            if [(s.frames, s.duration) for s in a.streams] != [(s.frames, s.duration) for s in b.streams]:
                raise Mp4Error("the rewritten file has other frames")
            if _ends(a) != _ends(b):
                raise Mp4Error("the rewritten file has other packets")
            return
        # A WebM that was cut off does not say how long it lasts.
        lasts_us = duration_ns(before) // 1000 if a.duration is None else a.duration
        if abs(lasts_us - (b.duration or 0)) > av.time_base:
            raise Mp4Error(f"the rewritten file lasts {b.duration} us instead of {lasts_us}")


def _indexed(path: Path) -> InputContainer:
    """Opened by what its index says: unless it has no decoder to use, FFmpeg decodes the first pictures of a
    file to learn about them."""
    return av.open(str(path), options={"codec_whitelist": "none"})


def _ends(container: InputContainer) -> list[tuple[int, int | None, int]]:
    """(stream, dts, hash of the payload) of some packets at the start and of those at the end."""
    found = []
    for packet in container.demux():
        found.append((packet.stream.index, packet.dts, hash(bytes(packet))))
        if len(found) >= 20:
            break
    end_us = (container.start_time or 0) + (container.duration or 0)
    container.seek(max(0, end_us - int(_TAIL_S * av.time_base)))
    for packet in container.demux():
        found.append((packet.stream.index, packet.dts, hash(bytes(packet))))
    return found
