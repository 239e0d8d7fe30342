"""Checks of a request's destinations before anything is recorded."""

import asyncio

import structlog

from openegress.core.plan import FileOutput, ImageOutput, Plan, SegmentOutput
from openegress.core.storages import StoragePlan
from openegress.request import naming
from openegress.storage.uploader import Uploader

_log = structlog.get_logger(__name__)

_CHECKED_NAME = ".openegress-check"
_TIMEOUT_S = 2.5
"""The caller waits for the check. Uploads have longer time-outs."""


async def check_storage(plan: Plan) -> None:
    """Writes and deletes a small object at each destination.

    Raises EgressError if a storage refuses, or cannot be reached and has no backup that works. A storage that
    is merely slow is accepted, as files wait in the spool until they are uploaded.
    """
    await asyncio.gather(*(_check(storage, path) for storage, path in _destinations(plan)))


def _destinations(plan: Plan) -> list[tuple[StoragePlan, str]]:
    found: list[tuple[StoragePlan, str]] = []
    for output in plan.outputs:
        match output:
            case FileOutput():
                found.append((output.storage, output.filepath))
            case SegmentOutput() | ImageOutput():
                found.append((output.storage, output.directory + output.prefix))
            case _:
                pass
    return [(storage, checked_path(path)) for storage, path in found]


def checked_path(path: str) -> str:
    """The path to check, in the deepest folder whose name is known. Placeholders that are filled later would
    otherwise become folder names."""
    return naming.known_folder(path) + _CHECKED_NAME if "{" in path else path


async def _check(storage: StoragePlan, path: str) -> None:
    uploader = Uploader(storage)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await uploader.check(path)
    except TimeoutError:
        _log.warning("storage check not answered in time: recording anyway", timeout_s=_TIMEOUT_S)
    finally:
        await uploader.close()
