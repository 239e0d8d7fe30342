"""The `openegress` command."""

import sys
from collections.abc import Sequence

from openegress.cli.parser import build_parser
from openegress.core.errors import EgressError


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 wrong use."""
    arguments = build_parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        return status
    except EgressError as error:
        print(f"openegress: {error.text}", file=sys.stderr)
        return 1
