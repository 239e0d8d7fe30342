"""The name by which other workers know this one. The worker's next process finds the same name in the
spool."""

import os
from pathlib import Path

import structlog

from openegress.core.file_lock import lock
from openegress.core.ids import is_egress_id, new_id
from openegress.storage.journal import privately

_log = structlog.get_logger(__name__)

_FILE = "holder"
_LOCK = "worker.lock"


def holder_of(spool: Path) -> str:
    """The name in the spool, which is made when it is first needed. If the disk refuses it, each process has
    another name. Blocking."""
    path = spool / _FILE
    try:
        known = path.read_text().strip()
        if is_egress_id(known):
            return known
    except (OSError, ValueError):
        pass  # There is no name yet, or it is damaged.
    holder = new_id("WK_")
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path, "w", opener=privately) as file:
            file.write(holder)
    except OSError as error:
        _log.warning("this worker will have another name after a restart", path=str(path), error=str(error))
    return holder


def held(spool: Path) -> int | None:
    """Locks the spool as used by a worker, for as long as the returned descriptor is open. Returns None, and
    logs it, if another worker uses the spool: each would take the other's recordings for leftovers of an
    earlier process, and neither takes over from the other. Blocking."""
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = lock(spool / _LOCK, os.O_CREAT)
    except OSError as error:
        _log.warning("cannot detect another worker with the same data_dir", error=str(error))
        return None
    if fd is None:
        _log.error("another worker uses the same data_dir: each needs its own", spool=str(spool))
    return fd
