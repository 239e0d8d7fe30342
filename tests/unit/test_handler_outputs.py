"""What the outputs of one egress learn from each other about their storages."""

import json
from pathlib import Path

from openegress.core import plan as plan_module
from openegress.core.codecs import Container
from openegress.core.events import AnyEvent, BackupUsed, ManifestStored, Uploaded
from openegress.core.plan import ImageOutput, SegmentOutput
from openegress.core.storages import LocalStorage, StoragePlan
from openegress.handler.uploaders import Uploaders
from openegress.output.manifest import FileRecord, Header, ImageRecord, PlaylistRecord, Records
from openegress.output.manifest_store import store_manifests


def plan(folder: Path, backup: str = "backup") -> StoragePlan:
    """Whose storage is out of order."""
    return StoragePlan(LocalStorage(str(folder / "gone")), backup=LocalStorage(str(folder / backup)))


async def test_a_storage_is_given_up_once_for_all_outputs_and_manifests_of_an_egress(tmp_path: Path) -> None:
    (tmp_path / "gone").write_text("no folder")
    local = tmp_path / "a.ts"
    local.write_bytes(b"abc")
    events: list[AnyEvent] = []
    uploaders = Uploaders(events.append)

    def attempts() -> list[tuple[bool, bool]]:
        told = [(e.on_backup, e.stored) for e in events if isinstance(e, Uploaded)]
        events.clear()
        return told

    first = uploaders.make(plan(tmp_path))
    await first.put(local, "a.ts", "video/mp2t")
    assert attempts() == [(False, False), (True, True)]
    await first.close()
    await uploaders.make(plan(tmp_path)).put(local, "b.ts", "video/mp2t")
    assert attempts() == [(True, True)]
    # Another plan is another storage, for all that is known.
    await uploaders.make(plan(tmp_path, "other")).put(local, "c.ts", "video/mp2t")
    assert attempts() == [(False, False), (True, True)]

    outputs: list[tuple[plan_module.Output, Records]] = [
        (
            SegmentOutput("hls/", "s", "p.m3u8", "", 2, Container.TS, False, plan(tmp_path)),
            Records(playlists=(PlaylistRecord("p", (FileRecord("s", "l"),)),)),
        ),
        (
            ImageOutput("shots/", "i", 1, 0, 0, "index", plan(tmp_path)),
            Records(images=(ImageRecord("i", 1, "l"),)),
        ),
    ]
    await store_manifests(
        Header("EG_1"), outputs, str(tmp_path), {}, emit=events.append, uploader=uploaders.make
    )
    [told] = [event for event in events if isinstance(event, ManifestStored)]
    assert told.location == str(tmp_path / "backup/hls/EG_1.json")
    assert BackupUsed(0) in events and BackupUsed(1) in events
    assert attempts() == [(True, True), (True, True)]
    for directory in ("hls", "shots"):
        stored = json.loads((tmp_path / "backup" / directory / "EG_1.json").read_text())
        assert stored["egress_id"] == "EG_1"
