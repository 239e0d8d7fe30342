"""The `openegress` command."""

import os
import sys
import warnings
from collections.abc import Sequence

from openegress.cli.errors import Exit, report
from openegress.cli.parser import build_parser
from openegress.core.errors import EgressError


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status, one of Exit."""
    arguments = build_parser().parse_args(argv)
    # PyJWT warns about short secrets at each use. `config check` does it once, and not about that of a trial.
    warnings.filterwarnings("ignore", message="The HMAC key is")
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except EgressError as error:
        return report(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough, as in `openegress list | head`. Python flushes again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
