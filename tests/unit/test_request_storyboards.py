"""The option storyboard: where thumbnails go, and when there can be none."""

import msgspec
import pytest

from openegress.core.codecs import Container
from openegress.core.plan import FileOutput, ImageOutput, Output, SegmentOutput
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.request.storyboards import beside

STORAGE = StoragePlan(LocalStorage("/out"))


@pytest.mark.parametrize(
    ("output", "prefix"),
    [
        (FileOutput("a/film.mp4", Container.MP4, STORAGE), "a/film-storyboard"),
        (FileOutput("film-{part}.mp4", Container.MP4, STORAGE), "film--storyboard"),
        (FileOutput("{track_type}", None, STORAGE), "{track_type}-storyboard"),
        (
            SegmentOutput("hls/", "seg", "all.m3u8", "", 4, Container.TS, False, STORAGE),
            "hls/all-storyboard",
        ),
        (ImageOutput("shots/", "room", 5, 0, 0, "index", STORAGE), "shots/room-storyboard"),
    ],
)
def test_it_lies_beside_what_is_recorded(output: Output, prefix: str) -> None:
    board = beside([output], 10)
    assert board is not None
    assert board.directory + board.prefix == prefix
    assert (board.interval_s, board.width, board.sheet is not None) == (10, 160, True)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(board), type=ImageOutput) == board


def test_it_lies_beside_something() -> None:
    assert beside([], 10) is None
