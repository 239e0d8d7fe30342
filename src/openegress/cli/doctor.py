"""`openegress doctor`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from openegress.app.checkup import checkup
from openegress.cli import terminal
from openegress.cli.errors import Exit
from openegress.cli.flags import settings_of
from openegress.cli.terminal import Colour
from openegress.config.settings import Settings


def run(arguments: argparse.Namespace) -> int:
    settings, warnings = settings_of(arguments)
    return asyncio.run(_as_json(settings) if arguments.json else _report(settings, warnings))


async def _as_json(settings: Settings) -> int:
    results = [asdict(result) async for result in checkup(settings)]
    print(json.dumps(results, indent=2))
    return Exit.DONE if all(result["ok"] for result in results) else Exit.FAILED


async def _report(settings: Settings, warnings: Sequence[str]) -> int:
    palette = terminal.palette(sys.stdout)
    for warning in warnings:
        print(f"[{palette.paint('warn', Colour.YELLOW)}] configuration: {warning}")
    failed = 0
    async for result in checkup(settings):
        tag = palette.paint("  ok", Colour.GREEN) if result.ok else palette.paint("FAIL", Colour.RED)
        print(f"[{tag}] {result.name}: {result.text}", flush=True)
        failed += not result.ok
    return Exit.FAILED if failed else Exit.DONE
