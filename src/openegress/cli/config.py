"""`openegress config check` and `openegress config reference`."""

import argparse
import sys
from importlib import resources

from openegress.cli.flags import settings_of
from openegress.config.check import Level
from openegress.config.check import check as findings_of


def check(arguments: argparse.Namespace) -> int:
    settings, warnings = settings_of(arguments)
    findings = findings_of(settings, warnings)
    for finding in findings:
        print(finding)
    if not findings:
        print("the configuration is fine")
    return 1 if any(finding.level is Level.ERROR for finding in findings) else 0


def reference(arguments: argparse.Namespace) -> int:
    sys.stdout.write(resources.files("openegress.config").joinpath("reference.yaml").read_text())
    return 0
