"""The folders the service writes to, and who may read them."""

import contextlib
from pathlib import Path

from openegress.config.settings import Settings
from openegress.core.errors import Code, EgressError, Fault

_PRIVATE_MODE = 0o700
"""For records, journals and files that wait for storage: they contain credentials and recordings of
others."""
_TRAVERSE_MODE = 0o711
"""For a data folder with finished recordings below it: those may be read, but nothing else can be listed."""
_PUBLIC_MODE = 0o755


def make_folders(settings: Settings) -> None:
    """Raises EgressError naming the folder that cannot be created."""
    data, output = settings.data_path, settings.output_path
    _make(data, _TRAVERSE_MODE if output.is_relative_to(data) else _PRIVATE_MODE)
    _make(settings.spool_path, _PRIVATE_MODE)
    _make(output, _PUBLIC_MODE, is_ours=False)
    _make(settings.db_path.parent, _PRIVATE_MODE, is_ours=False)


def _make(path: Path, mode: int, *, is_ours: bool = True) -> None:
    """`is_ours`: an existing folder, perhaps open to others, gets the mode too."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise EgressError(
            Code.FAILED_PRECONDITION,
            f"cannot make the folder {path}: {error.strerror or error}; choose another with --data or"
            " --output-root, or give the service's user write access",
            fault=Fault.SERVICE,
        ) from None
    if is_ours and path.stat().st_mode & 0o777 & ~mode:
        with contextlib.suppress(PermissionError):  # a volume whose rights somebody else chose
            path.chmod(path.stat().st_mode & mode)
