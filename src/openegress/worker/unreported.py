"""Keeps final records on disk until the record keeper has accepted them, so that a restart does not lose
them."""

import os
from pathlib import Path

import structlog
from google.protobuf.message import DecodeError
from livekit.protocol.egress import EgressInfo

from openegress.storage.journal import privately

_log = structlog.get_logger(__name__)


class Unreported:
    """A folder with one file for each record. Files have a few hundred bytes, so methods hardly block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, info: EgressInfo) -> None:
        """Writes the record. A refusal of the disk is logged: the record is then lost only if the worker ends
        before it is delivered."""
        path = self._path(info.egress_id)
        unfinished = path.with_suffix(".tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(unfinished, "wb", opener=privately) as file:
                file.write(info.SerializeToString())
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            _log.warning("cannot keep an end for a restart", egress_id=info.egress_id, error=str(error))

    def forget(self, egress_id: str) -> None:
        self._path(egress_id).unlink(missing_ok=True)

    def keeps(self, egress_id: str) -> bool:
        return self._path(egress_id).exists()

    def all(self) -> list[EgressInfo]:
        """The records that this worker could not deliver before its restart."""
        found = []
        for path in sorted(self._folder.glob("*.info")):
            try:
                info = EgressInfo.FromString(path.read_bytes())
            except OSError as error:
                _log.error("cannot read a kept end", path=str(path), error=str(error))
                continue
            except DecodeError:
                info = EgressInfo()
            if self._path(info.egress_id) == path:
                found.append(info)
            else:
                # The disk damaged it. While the file exists, the egress' recording would not be recovered.
                _log.error("dropping a damaged kept end", path=str(path))
                path.unlink(missing_ok=True)
        return found

    def _path(self, egress_id: str) -> Path:
        return self._folder / f"{egress_id}.info"
