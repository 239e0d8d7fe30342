"""Storyboards as they are made, and what is left of one whose process died."""

import asyncio
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest
from PIL import Image

from openegress.core import plan, storages
from openegress.core.events import AnyEvent, ImagesUpdate, OutputFailed
from openegress.core.units import S
from openegress.output import Opening
from openegress.output.images.recorder import ImageRecorder
from openegress.output.images.recover import store_left_images
from openegress.storage.uploader import Uploader
from testkit.pattern import COLOURS, Picture, PictureSpec, read_counter

STARTED_NS = 1_700_000_000 * S
SPEC = PictureSpec(640, 360, 1, COLOURS[0])


@dataclass
class Rig:
    spool: Path
    out: Path
    events: list[AnyEvent] = field(default_factory=list)
    made: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """One for each thumbnail."""

    def emit(self, event: AnyEvent) -> None:
        self.events.append(event)
        if isinstance(event, ImagesUpdate) and event.image_count:
            self.made.release()

    @property
    def storage(self) -> storages.StoragePlan:
        return storages.StoragePlan(storages.LocalStorage(str(self.out)), retry_for_s=0)

    def recorder(self, interval_s: int = 2) -> ImageRecorder:
        output = plan.ImageOutput(
            "dir/",
            "my room-storyboard",
            interval_s,
            160,
            0,
            "index",
            self.storage,
            manifest=False,
            sheet=plan.Sheet(3, 2),
        )
        recorder = ImageRecorder(output, 0, emit=self.emit, uploader=Uploader(self.storage))
        recorder.open(Opening((), STARTED_NS, str(self.spool), {}))
        return recorder

    async def give(self, recorder: ImageRecorder, seconds: int) -> None:
        """Four pictures a second; each shows its second."""
        picture = Picture(SPEC)
        for n in range(seconds * 4):
            planes = np.frombuffer(picture.draw(n // 4), np.uint8).reshape(-1, SPEC.width)
            recorder.video(av.VideoFrame.from_ndarray(planes.copy(), "yuv420p"), n * S // 4)
            if n % 8 == 0:  # else some are left out, as of a disk that is stuck
                assert await asyncio.to_thread(self.made.acquire, timeout=10)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    found = Rig(tmp_path / "spool", tmp_path / "out")
    found.spool.mkdir()
    return found


def thumbnails(index: Path) -> list[tuple[float, float, int | None]]:
    """(begin, end, second it shows), as FFmpeg reads the cues and a player the pictures."""
    found = []
    with av.open(str(index)) as container:
        cues = [(each.pts, each.duration, bytes(each).decode()) for each in container.demux() if each.size]
    for begin_ms, length_ms, text in cues:
        file, _, place = text.partition("#xywh=")
        x, y, width, height = map(int, place.split(","))
        with Image.open(index.parent / unquote(file)) as sheet:
            assert x + width <= sheet.width and y + height <= sheet.height
            part = sheet.convert("L").crop((x, y, x + width, y + height))
        assert begin_ms is not None and length_ms is not None
        begin, end = begin_ms / 1000, (begin_ms + length_ms) / 1000
        large = np.asarray(part.resize((width * 4, height * 4), Image.Resampling.LANCZOS))
        found.append((begin, end, read_counter(large)))
    return found


async def test_thumbnails_of_a_recording(rig: Rig) -> None:
    recorder = rig.recorder()
    await rig.give(recorder, 17)
    await recorder.finish(STARTED_NS + 17 * S)
    assert recorder.is_settled()
    folder = rig.out / "dir"
    assert sorted(each.name for each in folder.iterdir()) == [
        "my room-storyboard.vtt",
        "my room-storyboard_00000.jpeg",
        "my room-storyboard_00001.jpeg",
    ]
    found = thumbnails(folder / "my room-storyboard.vtt")
    assert found == [(2 * n, 2 * n + 2, 2 * n) for n in range(9)]
    with Image.open(folder / "my room-storyboard_00001.jpeg") as last:
        assert last.size == (480, 90)
    records = recorder.records()
    assert [each.filename for each in records.files] == ["dir/my room-storyboard.vtt"]
    assert len(records.images) == 2
    assert [e.image_count for e in rig.events if isinstance(e, ImagesUpdate)][-1] == 2
    assert not [e for e in rig.events if isinstance(e, OutputFailed)]


@pytest.mark.parametrize("seconds", [1, 11, 13, 16])
async def test_what_a_dead_process_leaves(rig: Rig, seconds: int) -> None:
    """Every thumbnail that was taken, also those of a picture that was not full."""
    recorder = rig.recorder()
    await rig.give(recorder, seconds)
    told = next(e for e in rig.events if isinstance(e, ImagesUpdate))
    left = rig.spool.with_name("left")
    shutil.copytree(rig.spool / "images-0", left)
    await recorder.finish(STARTED_NS + seconds * S)
    # All that was stored after its death.
    folder = rig.out / "dir"
    (folder / "my room-storyboard.vtt").unlink()
    for each in left.glob("*.jpeg"):
        (folder / f"my room-storyboard_{each.name}").unlink()
    uploader = Uploader(rig.storage)
    update, records, _ = await store_left_images(left, told, uploader)
    await uploader.close()
    sheets = (seconds + 1) // 2 // 7 + 1
    assert update.image_count == len(records.images) == sheets
    assert [each.filename for each in records.files] == ["dir/my room-storyboard.vtt"]
    found = thumbnails(rig.out / "dir" / "my room-storyboard.vtt")
    assert [second for _, _, second in found] == list(range(0, seconds, 2))


async def test_nothing_was_shown(rig: Rig) -> None:
    recorder = rig.recorder()
    await recorder.finish(STARTED_NS)
    assert recorder.is_settled()
    assert recorder.records().images == ()
    assert not rig.out.exists() or not list(rig.out.rglob("*.vtt"))
