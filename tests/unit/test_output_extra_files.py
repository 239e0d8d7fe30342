"""Files beside a recording: each is tried, whatever becomes of the others."""

from pathlib import Path
from typing import Any, cast

from openegress.core.errors import EgressError, internal
from openegress.core.events import AnyEvent, BackupUsed, ExtraFileStored
from openegress.output.extra_files import ExtraFileStore
from openegress.storage.uploader import Stored


class OneRefused:
    """An uploader of which one path is refused, and all else goes to the backup."""

    async def put(self, local: Path, path: str, content_type: str, *, delete_local: bool) -> Stored:
        assert delete_local and content_type == "audio/flac"
        if path == "b.flac":
            raise internal("the name is too long")
        return Stored(path, f"there/{path}", True, 1)


async def test_one_that_is_refused_keeps_none_of_the_others_away() -> None:
    store = ExtraFileStore(cast("Any", OneRefused()))
    assert (store.failure, store.backup_used) == (None, False)
    for name in ("a.flac", "b.flac", "c.flac"):
        await store.put(Path("spool") / name, name, "audio/flac")
    assert [each.location for each in store.records.files] == ["there/a.flac", "there/c.flac"]
    assert isinstance(store.failure, EgressError) and "too long" in store.failure.message
    assert store.backup_used
    told: list[AnyEvent] = []
    store.tell(1, told.append)
    assert told[0] == BackupUsed(1)
    assert [each.filename for each in told[1:] if isinstance(each, ExtraFileStored)] == ["a.flac", "c.flac"]
