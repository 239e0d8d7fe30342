"""`openegress doctor`."""

import argparse
import asyncio

from openegress.app.checkup import checkup
from openegress.cli.flags import settings_of
from openegress.config.settings import Settings


def run(arguments: argparse.Namespace) -> int:
    settings, warnings = settings_of(arguments)
    for warning in warnings:
        print(f"[warn] configuration: {warning}")
    return asyncio.run(_report(settings))


async def _report(settings: Settings) -> int:
    failed = 0
    async for finding in checkup(settings):
        print(f"[{'ok' if finding.ok else 'FAIL':>4}] {finding.name}: {finding.text}", flush=True)
        failed += not finding.ok
    return 1 if failed else 0
