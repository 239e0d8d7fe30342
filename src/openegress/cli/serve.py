"""`openegress serve` and `openegress worker`."""

import argparse
from collections.abc import Callable
from typing import Protocol

import structlog

from openegress.app import log
from openegress.cli import core_files, descriptors
from openegress.cli.flags import settings_of
from openegress.cli.signals import Signals
from openegress.config.check import INSECURE
from openegress.config.settings import Settings
from openegress.core import lookup_loop

_log = structlog.get_logger(__name__)


class Service(Protocol):
    async def start(self) -> None: ...
    async def drain(self) -> None: ...
    async def close(self) -> None: ...


def serve(arguments: argparse.Namespace) -> int:
    from openegress.app.server import Server

    return _run(arguments, Server)


def worker(arguments: argparse.Namespace) -> int:
    from openegress.app.drop_in import DropIn

    return _run(arguments, DropIn)


def _run(arguments: argparse.Namespace, make: Callable[[Settings], Service]) -> int:
    settings, warnings = settings_of(arguments)
    log.configure(settings.logging)
    for warning in warnings:
        _log.warning(warning)
    if settings.insecure:
        _log.warning(f"insecure: {INSECURE}")
    core_files.forbid()
    descriptors.allow()
    lookup_loop.run(_live(settings, make))
    return 0


async def _live(settings: Settings, make: Callable[[Settings], Service]) -> None:
    """SIGTERM: accept no new egress, and exit when the last one has ended. SIGINT, or a second SIGTERM: stop
    them now."""
    signals = Signals()
    service = make(settings)
    try:
        if await signals.run_unless_stopped(service.start()):
            await signals.run_until_stopped(service.drain)
    finally:
        await service.close()
