"""Makes the uploaders of one egress, which store its files."""

import logging
from collections.abc import Callable

from openegress.core.events import AnyEvent, Uploaded
from openegress.core.storages import StoragePlan
from openegress.storage import open_storage
from openegress.storage.late import LateUploads
from openegress.storage.uploader import Connect, Failover, Outcome, Stored, Uploader, UploadRetry

_log = logging.getLogger(__name__)


class Uploaders:
    """The uploaders of one egress. They log retries, report outcomes as events, share one Failover for each
    storage, and stop retrying together."""

    def __init__(self, emit: Callable[[AnyEvent], None], connect: Connect = open_storage) -> None:
        self._emit = emit
        self._connect = connect
        self.late: LateUploads | None = None
        """Set before the first uploader is made, if the recording has already ended."""
        self.stored_bytes = 0
        self._made: list[Uploader] = []
        self._failovers: list[tuple[StoragePlan, Failover]] = []
        self._unsigned: set[str] = set()
        self._retries = True

    def make(self, storage: StoragePlan) -> Uploader:
        uploader = Uploader(
            storage,
            on_retry=_log_retry,
            on_outcome=self._report,
            connect=self._connect,
            failover=self._failover(storage),
        )
        if not self._retries:
            uploader.stop_retrying()
        self._made.append(uploader)
        return uploader

    def _failover(self, storage: StoragePlan) -> Failover:
        """The Failover of a storage. It is shared, so that outputs and manifests do not each wait until the
        storage is given up."""
        for plan, failover in self._failovers:
            if plan == storage:
                return failover
        failover = Failover(late=self.late)
        self._failovers.append((storage, failover))
        return failover

    def _log_unsigned(self, stored: Stored) -> None:
        """Logs each reason once, because each segment of a recording would repeat it."""
        if stored.presign_error not in self._unsigned:
            self._unsigned.add(stored.presign_error)
            _log.warning(
                "location is not presigned",
                extra={"path": stored.path, "error": stored.presign_error, "backup": stored.backup_used},
            )

    def stop_retrying(self) -> None:
        """Stops retrying failed uploads. Call it in the event loop."""
        self._retries = False
        for uploader in self._made:
            uploader.stop_retrying()

    def _report(self, outcome: Outcome) -> None:
        size_bytes = outcome.stored.size_bytes if outcome.stored is not None else 0
        self.stored_bytes += size_bytes
        if outcome.stored is not None and outcome.stored.presign_error:
            self._log_unsigned(outcome.stored)
        self._emit(
            Uploaded(
                content_type=outcome.content_type,
                elapsed_ms=outcome.elapsed_s * 1000,
                size_bytes=size_bytes,
                stored=outcome.stored is not None,
                on_backup=outcome.on_backup,
                status=outcome.status,
                custom_endpoint=outcome.custom_endpoint,
            )
        )


def _log_retry(retry: UploadRetry) -> None:
    _log.warning(
        "upload failed: trying again",
        extra={
            "path": retry.path,
            "attempt": retry.attempt,
            "delay_s": round(retry.delay_s, 1),
            "error": retry.error.text,
            "backup": retry.on_backup,
        },
    )
