"""Who may look into what the service writes, and that no recording is written over it."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from livekit.protocol.egress import EgressInfo

from openegress.app.folders import make_folders
from openegress.config.destination import storage_plan
from openegress.config.settings import Settings
from openegress.core.errors import EgressError
from openegress.core.storages import LocalStorage
from openegress.request.destinations import path_in
from openegress.storage.journal import NAME, Journal
from openegress.storage.local import LocalFolder
from openegress.store.sqlite import SqliteStore
from openegress.worker.unreported import Unreported


@pytest.fixture(autouse=True, params=[0o022, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("existing", [None, 0o755, 0o777])
async def test_nobody_else_looks_in(tmp_path: Path, existing: int | None) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    if existing is not None:
        for folder in (data, data / "spool"):
            folder.mkdir()
            folder.chmod(existing)
        (data / "openegress.db").touch(0o666)
    settings = Settings(data_dir=str(data), output_root=str(out))
    make_folders(settings)
    store = SqliteStore(settings.db_path)
    await store.open()
    await store.apply(EgressInfo(egress_id="EG_1"))
    Unreported(data / "unreported").keep(EgressInfo(egress_id="EG_1"))
    Journal.create(settings.spool_path, "EG_1", b"plan")
    for folder in (data, settings.spool_path, data / "unreported"):
        assert mode(folder) == 0o700, folder
    files = [*data.glob("openegress.db*"), settings.spool_path / "EG_1" / NAME, *data.glob("unreported/*")]
    assert len(files) >= 4
    for file in files:
        assert mode(file) == 0o600, file
    assert mode(out) & 0o055 == 0o055
    await store.close()


def test_recordings_below_the_data_folder_can_be_reached(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / "data"))
    make_folders(settings)
    assert mode(settings.data_path) == 0o711
    assert mode(settings.spool_path) == 0o700
    assert mode(settings.output_path) & 0o055 == 0o055


@pytest.mark.parametrize(
    "path",
    [
        "data/spool/EG_1/journal.jsonl",
        "/data/spool/x",
        "data/openegress.db",
        "data/seal",
        "data/unreported/EG_1.info",
    ],
)
async def test_no_recording_is_written_over_anothers(tmp_path: Path, path: str) -> None:
    """Where whoever set the service up lets recordings go to a folder above, or to one by a link."""
    link = tmp_path / "link"
    (tmp_path / "real").mkdir()
    link.symlink_to(tmp_path / "real")
    for root, data in ((tmp_path, tmp_path / "data"), (link, tmp_path / "real" / "data")):
        settings = Settings(data_dir=str(data), output_root=str(root))
        make_folders(settings)
        sqlite3.connect(settings.db_path).close()
        storage = storage_plan(settings)
        assert isinstance(storage.backend, LocalStorage)
        asked = f"{root}{path}" if path.startswith("/") else path
        with pytest.raises(EgressError, match="of the server's own"):
            path_in(storage, asked, "filepath")
        file = tmp_path / "recorded"
        file.write_bytes(b"media")
        with pytest.raises(EgressError, match="of the server's own"):
            await LocalFolder(storage.backend).put(file, asked, "video/mp4")
        assert path_in(storage, "data/mine.mp4", "filepath") == "data/mine.mp4"
