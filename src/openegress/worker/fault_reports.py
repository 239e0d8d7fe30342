"""Reports of egresses that failed (`debug:` in the configuration): a ZIP for each, in a separate storage.

Upstream puts the graph and the stacks of a failed pipeline there. A report gives its reader no access: URLs
show only where they lead, and the secrets of the plan are replaced everywhere.
"""

import asyncio
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
from google.protobuf.json_format import MessageToDict
from livekit.protocol.egress import EgressInfo, EgressStatus

from openegress.core import ipc
from openegress.core.errors import EgressError
from openegress.core.public import described, public, public_text, secrets_of
from openegress.core.storages import StoragePlan
from openegress.request.redact import redacted, shown
from openegress.storage.uploader import Uploader, join
from openegress.worker.job import Job
from openegress.worker.traces import Trace, Traces

_log = structlog.get_logger(__name__)

REPORTED = frozenset({EgressStatus.EGRESS_FAILED, EgressStatus.EGRESS_ABORTED})
CONTENT_TYPE = "application/zip"
_WITHIN_S = 60.0
"""Time limit for storing a report. A worker that ends waits for it, and the storage of reports is not worth
more."""


class FaultReports:
    """The reports of one worker."""

    def __init__(
        self, storage: StoragePlan, folder: str, facts: Callable[[], Mapping[str, str | int | float]]
    ) -> None:
        """`folder` is a folder in the storage. `facts` returns facts about this machine."""
        self._storage = storage
        self._folder = folder
        self._facts = facts
        self._traces = Traces()

    def log(self, egress_id: str, record: ipc.Log) -> None:
        self._traces.log(egress_id, record)

    def state(self, info: EgressInfo) -> None:
        self._traces.state(info)

    async def ended(self, job: Job) -> None:
        """Stores a report if the egress failed. Raises nothing."""
        egress_id = job.plan.egress_id
        trace = self._traces.take(egress_id)
        if job.had_ended or job.record.info.status not in REPORTED:
            return
        try:
            files = report(job, trace, self._facts())
            async with asyncio.timeout(_WITHIN_S):
                path = await self._store(egress_id, files)
        except (EgressError, OSError, TimeoutError) as error:
            why = error.text if isinstance(error, EgressError) else str(error) or "it took too long"
            _log.warning("the report of a failed egress is not stored", egress_id=egress_id, error=why)
        else:
            _log.info("the report of a failed egress is stored", egress_id=egress_id, path=path)

    async def _store(self, egress_id: str, files: Mapping[str, str]) -> str:
        uploader = Uploader(self._storage)
        with tempfile.TemporaryDirectory(prefix="openegress-report-") as folder:
            local = Path(folder) / f"{egress_id}.zip"
            try:
                await asyncio.to_thread(_pack, local, files)
                path = join(self._folder, f"{egress_id}/{local.name}")
                stored = await uploader.put(local, path, CONTENT_TYPE)
            finally:
                await uploader.close()
        return stored.path


def report(job: Job, trace: Trace, facts: Mapping[str, str | int | float]) -> dict[str, str]:
    """Contents by file name: the request, how it was carried out, the log, and how it ended."""
    secrets = secrets_of(job.plan)
    secrets |= {json.dumps(secret)[1:-1] for secret in secrets}
    state = {
        "egress": public(MessageToDict(redacted(shown(job.record.info)), preserving_proto_field_name=True)),
        "states": list(trace.states),
        "kind": job.kind,
        "machine": dict(facts),
        "last_progress": msgspec.to_builtins(job.progress) if job.progress is not None else None,
        "handlers_that_died": [death.how for death in job.handlers.deaths],
        "log_lines_left_out": trace.left_out,
    }
    files = {
        "state.json": _json(state),
        "pipeline.json": _json(described(job.plan)),
        "log.jsonl": "".join(f"{line}\n" for line in trace.lines),
        "stderr.txt": "".join(f"{line}\n" for line in job.handlers.last_words),
    }
    return {name: public_text(text, secrets) for name, text in files.items()}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _pack(path: Path, files: Mapping[str, str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text.encode(errors="replace"))
