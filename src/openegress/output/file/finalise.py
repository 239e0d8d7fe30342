"""Turns a recording in the spool into the file that is stored: complete, verified, with its index in front.

It does the same for a recording that was closed, for one whose disk was full, and for one that a dead process
left.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError

from openegress.core.codecs import Container
from openegress.core.marker import Marker
from openegress.media.chapters import matroska_chapters
from openegress.media.cluster_index import make_seekable
from openegress.media.fragment_index import is_fragmented, read
from openegress.media.mcap_index import add_summary
from openegress.media.mp4 import Mp4Error
from openegress.media.plain_mp4 import make_plain, plain_copy
from openegress.output.file.spare_space import NoSpace, claim, draft_of


def finalise(path: Path, container: Container, markers: Sequence[Marker] = ()) -> str:
    """Rewrites `path` where that improves it, with chapters at `markers` in MP4, Matroska and WebM. Memory is
    bounded, and a failure leaves the file unchanged. Returns "" or why the file stayed as it was recorded (it
    still plays). It blocks, forever if the disk is dead: call it through disk_thread."""
    better = draft_of(path)
    try:
        match container:
            case Container.MP4 if is_fragmented(path):
                claim(path)
                plain_copy(path, better, markers)
                verify_media(path, better)
            case Container.WEBM | Container.MKV | Container.MKA:
                make_seekable(path, matroska_chapters(markers))
                return ""
            case Container.MCAP:
                add_summary(path)
                return ""
            case _:
                return ""
        better.replace(path)
        return ""
    except NoSpace as error:
        better.unlink(missing_ok=True)
        return _in_place(path, str(error), markers)
    except (OSError, FFmpegError, ValueError) as error:  # ValueError: unknown codecs, and our own
        better.unlink(missing_ok=True)
        return f"{type(error).__name__}: {error}"


def _in_place(path: Path, why: str, markers: Sequence[Marker]) -> str:
    """Gives an MP4 an index behind its media; returns why that failed, or why the index is not in front."""
    try:
        make_plain(path, markers)
    except (OSError, Mp4Error) as error:
        return f"{why}; {error}"
    return why


def verify_media(before: Path, after: Path) -> None:
    """Raises Mp4Error when the plain MP4 `after` lacks a sample of the fragments of `before`, or ends with
    other bytes."""
    with before.open("rb") as file, after.open("rb") as copy:
        index = read(file)
        offset, size = index.media[-1]
        file.seek(offset)
        copy.seek(-size, os.SEEK_END)
        if file.read(size) != copy.read():
            raise Mp4Error("the rewritten file has other media")
    with _indexed(after) as plain:
        frames = [stream.frames for stream in plain.streams][: len(index.tracks)]  # chapters follow
        if frames != [len(track.sizes) for track in index.tracks]:
            raise Mp4Error("the rewritten file has other frames")


def _indexed(path: Path) -> InputContainer:
    """Opens a file by the information in its index: FFmpeg decodes the first pictures of a file unless it has
    no decoder."""
    return av.open(str(path), options={"codec_whitelist": "none"}, metadata_errors="replace")
