"""The `openegress` command on a machine that admission considers idle, however busy it is.

It is a program of its own: the testkit's modules are not on its path.
"""

import sys
from dataclasses import replace
from unittest import mock

from openegress.cli import main
from openegress.core.errors import EgressError
from openegress.worker import capacity
from openegress.worker.admission import AdmissionLimits, Cost, Load, Reserved, admit


def admit_unloaded(
    kind: str, cost: Cost, load: Load, reserved: Reserved, running: int, limits: AdmissionLimits
) -> EgressError | None:
    return admit(kind, cost, replace(load, used_cores=0.0), reserved, running, limits)


if __name__ == "__main__":
    with mock.patch.object(capacity, "admit", admit_unloaded):
        sys.exit(main())
