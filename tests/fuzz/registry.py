"""The targets by name, and what they share."""

import contextlib
import resource
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from openegress.handler.loop import RECOVERY_BYTES
from openegress.source.memory import process_bytes

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


def pieces(data: bytes) -> list[bytes]:
    """A payload for each length of two bytes: as they came in, packet by packet."""
    found, position = [], 0
    while position + 2 <= len(data):
        size = int.from_bytes(data[position : position + 2])
        found.append(data[position + 2 : position + 2 + size])
        position += 2 + size
    return [each for each in found if each]


@contextlib.contextmanager
def in_file(data: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="openegress-fuzz-", dir=_memory()) as folder:
        path = Path(folder) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        yield path


@contextlib.contextmanager
def recovery_memory() -> Iterator[None]:
    """No more than who reads what was left has, or cuts it."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (RECOVERY_BYTES + process_bytes("self"), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@cache
def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
