"""Reads MP4 files with a reader that is neither ours nor FFmpeg's: GPAC's mp4box.js."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from testkit.node_packages import install

HOME = Path(__file__).parents[1] / "tools" / "mp4box"


@dataclass(frozen=True, slots=True)
class Sample:
    dts: int
    cts: int
    """Presentation time."""
    duration: int
    key: bool
    entry: int
    """Index of the track's sample entry, from 0."""
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    type: str
    size: tuple[int, int] | None
    """For video only."""


@dataclass(frozen=True, slots=True)
class ReadTrack:
    timescale: int
    size: tuple[float, float]
    edits: tuple[tuple[int, int], ...]
    """(duration in the movie's time scale, media time)."""
    entries: tuple[Entry, ...]
    samples: tuple[Sample, ...]

    def presented_s(self, movie_timescale: int) -> list[float]:
        """When each sample is shown or heard, in decoding order."""
        empty = sum(duration for duration, at in self.edits if at < 0) / movie_timescale
        begin = next((at for _, at in self.edits if at >= 0), 0)
        return [empty + (sample.cts - begin) / self.timescale for sample in self.samples]


@dataclass(frozen=True, slots=True)
class ReadBox:
    path: str
    """Types of the boxes, from the outermost."""
    start: int
    size: int
    unread: bool
    """It holds more than its type defines."""


@dataclass(frozen=True, slots=True)
class ReadMp4:
    brands: tuple[str, ...]
    fragmented: bool
    timescale: int
    boxes: tuple[ReadBox, ...]
    tracks: tuple[ReadTrack, ...]

    @property
    def top(self) -> list[str]:
        return [box.path for box in self.boxes if "/" not in box.path]


def read(path: Path) -> ReadMp4:
    """Raises CalledProcessError if it cannot be read."""
    install(HOME, "mp4box")
    done = subprocess.run(["node", "read.js", str(path.resolve())], cwd=HOME, check=True, capture_output=True)
    found = json.loads(done.stdout)
    tracks = [
        ReadTrack(
            track["timescale"],
            (track["size"][0], track["size"][1]),
            tuple((duration, at) for duration, at in track["edits"]),
            tuple(Entry(e["type"], tuple(e["size"]) if e["size"] else None) for e in track["entries"]),
            tuple(Sample(**sample) for sample in track["samples"]),
        )
        for track in found["tracks"]
    ]
    boxes = tuple(ReadBox(**box) for box in found["boxes"])
    return ReadMp4(tuple(found["brands"]), found["fragmented"], found["timescale"], boxes, tuple(tracks))


def has_index_in_front(path: Path) -> bool:
    """Whether a player that reads from the start finds the index before the media."""
    return read(path).top == ["ftyp", "moov", "mdat"]
