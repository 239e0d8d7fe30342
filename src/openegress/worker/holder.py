"""The name by which other workers know this one and its next life, which finds the same in the spool."""

from pathlib import Path

import structlog

from openegress.core.ids import is_egress_id, new_id
from openegress.storage.journal import privately

_log = structlog.get_logger(__name__)

_FILE = "holder"


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
