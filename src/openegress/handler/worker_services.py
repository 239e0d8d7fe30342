"""What the worker does for a recording, at the request of its handler."""

from dataclasses import dataclass

from openegress.handler.name_claim import NameClaim
from openegress.storage import open_storage
from openegress.storage.uploader import Connect


@dataclass(frozen=True, slots=True)
class WorkerServices:
    names: NameClaim
    connect: Connect = open_storage
    """Opens storages, to some of which only the worker writes."""
