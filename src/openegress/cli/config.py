"""`openegress config check` and `openegress config reference`."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources

from openegress.app.auto_start_faults import auto_start_faults
from openegress.cli import terminal
from openegress.cli.errors import Exit
from openegress.cli.flags import settings_of
from openegress.cli.terminal import Colour
from openegress.config.check import check as findings_of
from openegress.config.finding import Finding, Level


def check(arguments: argparse.Namespace) -> int:
    settings, warnings = settings_of(arguments)
    findings = [*findings_of(settings, warnings), *auto_start_faults(settings)]
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    return Exit.FAILED if any(finding.level is Level.ERROR for finding in findings) else Exit.DONE


def _print(findings: Sequence[Finding]) -> None:
    palette = terminal.palette(sys.stdout)
    for finding in findings:
        colour = Colour.RED if finding.level is Level.ERROR else Colour.YELLOW
        print(f"{palette.paint(finding.level, colour)}: {finding.path}: {finding.text}")
    if not findings:
        print("the configuration is fine")


def reference(arguments: argparse.Namespace) -> int:
    sys.stdout.write(resources.files("openegress.config").joinpath("reference.yaml").read_text())
    return 0
