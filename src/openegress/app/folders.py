"""The folders the service writes to."""

from pathlib import Path

from openegress.config.settings import Settings
from openegress.core.errors import Code, EgressError, Fault


def make_folders(settings: Settings) -> None:
    """Raises EgressError naming the one that cannot be made."""
    _make(settings.spool_path, 0o700)  # journals in it hold credentials
    _make(settings.output_path, 0o755)
    _make(settings.db_path.parent, 0o755)


def _make(path: Path, mode: int) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise EgressError(
            Code.FAILED_PRECONDITION,
            f"cannot make the folder {path}: {error.strerror or error}; choose another with --data or"
            " --output-root, or give the service's user the right to",
            fault=Fault.SERVICE,
        ) from None
