"""The write check before a recording: where it writes, and what it leaves."""

from pathlib import Path

import pytest

from openegress.core.plan import FileOutput, MediaSource, Plan
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.worker.preflight import check_storage, checked_path


@pytest.mark.parametrize(
    ("path", "checked"),
    [
        ("a/b.mp4", "a/b.mp4"),
        ("a/{publisher_identity}/b.mp4", "a/.openegress-check"),
        ("a/x-{track_id}-{track_type}.mp4", "a/.openegress-check"),
        ("{publisher_identity}/b", ".openegress-check"),
        ("/out/a/{track_id}", "/out/a/.openegress-check"),
    ],
)
def test_folders_that_only_the_room_can_name(path: str, checked: str) -> None:
    assert checked_path(path) == checked


async def test_no_folder_of_a_placeholders_name_is_left(tmp_path: Path) -> None:
    storage = StoragePlan(LocalStorage(str(tmp_path)))
    output = FileOutput("a/{publisher_identity}/b.mp4", None, storage)
    await check_storage(Plan("EG_1", MediaSource("r", "ws://h", "t"), (output,), None, None))
    assert list(tmp_path.iterdir()) == []
