"""Whether the disk of the recordings has space for a second copy of one of them. Those under way come first:
a full disk ends every one."""

import shutil
from glob import glob
from pathlib import Path

RESERVED_BYTES = 256 * 1024 * 1024
"""What a copy leaves to recordings under way: minutes of a few of them, in which others are stored."""

DRAFT = ".final"
"""How the name of a copy ends while it is written."""


class NoSpace(Exception):
    """The copy does not fit, and why."""


def draft_of(path: Path) -> Path:
    return path.with_name(path.name + DRAFT)


def claim(path: Path) -> None:
    """Makes the empty draft of `path`, by which other processes know what it is going to take: the recordings
    of a room end in the same moment. Raises NoSpace, or OSError; the draft is then to be removed."""
    draft_of(path).open("wb").close()
    needed_bytes = path.stat().st_size
    free_bytes = shutil.disk_usage(path.parent).free
    claimed_bytes = sum(_rest_bytes(draft) for draft in _drafts(path) if draft != draft_of(path))
    if needed_bytes + claimed_bytes + RESERVED_BYTES > free_bytes:
        raise NoSpace(
            f"no space to rewrite its {needed_bytes} bytes: {free_bytes} are free on the disk of the "
            f"recordings, of which {claimed_bytes} are for others that are being rewritten and "
            f"{RESERVED_BYTES} for what is being recorded"
        )


def _drafts(path: Path) -> list[Path]:
    """Of all egresses of this spool (<spool>/<egress>/<output>/<file>), whose folders may go meanwhile."""
    spool = path.parent.parent.parent
    found = glob(f"*/*/*{DRAFT}", root_dir=spool)  # noqa: PTH207 - of such a folder Path.glob raises
    return [spool / each for each in found]


def _rest_bytes(draft: Path) -> int:
    """What is yet to be written of a copy; 0 once it is done."""
    try:
        return max(0, draft.with_name(draft.name.removesuffix(DRAFT)).stat().st_size - draft.stat().st_size)
    except FileNotFoundError:
        return 0
