"""Reads recorded files that wait on the local disk to be stored."""

import asyncio
from pathlib import Path

from openegress.core.errors import Code, EgressError, Fault, Phase


async def size_of(local: Path) -> int:
    """The size of a recorded file in bytes. Raises EgressError with fault SERVICE if the file cannot be read:
    no other storage would help."""
    try:
        return (await asyncio.to_thread(local.stat)).st_size
    except OSError as error:
        raise unreadable(local, error) from error


def unreadable(local: Path, error: OSError) -> EgressError:
    return EgressError(
        Code.INTERNAL,
        f"cannot read the recorded file {local.name!r}: {error.strerror}",
        fault=Fault.SERVICE,
        phase=Phase.STORAGE_WRITE,
    )
