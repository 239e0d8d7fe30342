"""Stores the sidecars of an egress beside its recording."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from openegress.core.errors import EgressError
from openegress.core.main_output import with_sidecars
from openegress.core.plan import Plan
from openegress.core.sidecars import ENDINGS
from openegress.core.storages import StoragePlan
from openegress.output import Emit
from openegress.output.disk_thread import in_time, patience_s
from openegress.output.extra_files import ExtraFileStore
from openegress.output.manifest import Records
from openegress.output.sidecar.log import MAX_BYTES, NAME
from openegress.output.sidecar.render import render
from openegress.request import naming
from openegress.request.output_names import sidecar_name
from openegress.storage.uploader import Uploader


async def store_sidecars(
    folder: Path,
    plan: Plan,
    values: Mapping[str, str],
    end_ns: int,
    uploader: Callable[[StoragePlan], Uploader],
    emit: Emit,
) -> tuple[Records, EgressError | None]:
    """Stores the sidecars. Returns what was stored, and the first error. `folder` is the egress's own in the
    spool, `values` are those of placeholders. Each sidecar is tried, whatever happens to the others."""
    beside = with_sidecars(plan)
    if beside is None or not (folder / NAME).exists():
        return Records(), None
    index, output = beside
    target = uploader(output.storage)
    store = ExtraFileStore(target)
    try:
        for sidecar in plan.sidecars:
            stem = naming.split(sidecar_name(output, values, ""))[1]
            making = functools.partial(render, folder, sidecar, stem, end_ns)
            try:
                made = await in_time(f"sidecar {sidecar}", making, patience_s(MAX_BYTES))
            except EgressError as error:
                store.errors.append(error)
                continue
            for ending, local in made.items():
                await store.put(local, sidecar_name(output, values, ending), ENDINGS[sidecar][ending])
    finally:
        await target.close()
    store.tell(index, emit)
    return store.records, store.failure
