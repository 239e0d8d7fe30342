"""Reports the failure of one output: once, and as soon as it is known."""

from openegress.core.errors import EgressError
from openegress.core.events import BackupUsed, OutputFailed
from openegress.output import Emit
from openegress.storage.uploader import Stored


class FailureReport:
    """Emits OutputFailed for the first error of an output; later errors are its consequences."""

    def __init__(self, output: int, emit: Emit) -> None:
        self._output = output
        self._emit = emit
        self.error: EgressError | None = None

    def report(self, error: EgressError) -> None:
        if self.error is None:
            self.error = error
            self._emit(OutputFailed(self._output, error.text, error.code.value))

    def raise_if_any(self) -> None:
        if self.error is not None:
            raise self.error


class BackupReport:
    """Emits BackupUsed for the first object of an output that went to its backup storage."""

    def __init__(self, output: int, emit: Emit) -> None:
        self._output = output
        self._emit = emit
        self._is_reported = False

    def note(self, stored: Stored) -> None:
        if stored.backup_used and not self._is_reported:
            self._is_reported = True
            self._emit(BackupUsed(self._output))
