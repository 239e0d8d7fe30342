"""The name by which other workers know this one and its next life, which finds the same in the spool."""

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
    """Made when it is asked for the first time. On a disk that does not take it, each life has another one.
    Blocking."""
    path = spool / _FILE
    try:
        known = path.read_text().strip()
        if is_egress_id(known):
            return known
    except (OSError, ValueError):
        pass  # there is none yet, or it is damaged
    holder = new_id("WK_")
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path, "w", opener=privately) as file:
            file.write(holder)
    except OSError as error:
        _log.warning("this worker has another name after a restart", path=str(path), error=str(error))
    return holder


def held(spool: Path) -> int | None:
    """A descriptor that says, as long as it is open, that a worker uses this spool. None, with a word in the
    log, where another one does: each takes what the other records for what an earlier life of it has left,
    and none takes over from the other. Blocking."""
    try:
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = lock(spool / _LOCK, os.O_CREAT)
    except OSError as error:
        _log.warning("another worker with the same data_dir would not be noticed", error=str(error))
        return None
    if fd is None:
        _log.error("another worker uses the same data_dir: each needs its own", spool=str(spool))
    return fd
