"""From a backend of the plan to its Storage; what a backend does not need is not imported."""

from openegress.core.plan import (
    AliOSSStorage,
    AzureStorage,
    Backend,
    GCPStorage,
    LocalStorage,
    S3Storage,
)
from openegress.storage import Storage
from openegress.storage.local import LocalFolder


async def connect(backend: Backend) -> Storage:
    """Nothing is sent yet: whether the storage takes files, Storage.check tells.

    Raises EgressError when the backend's fields do not fit together."""
    match backend:
        case LocalStorage():
            return LocalFolder(backend)
        case S3Storage():
            from openegress.storage import s3

            return s3.connect(backend)
        case AliOSSStorage():
            from openegress.storage import alioss

            return alioss.connect(backend)
        case GCPStorage():
            from openegress.storage import gcp

            return gcp.connect(backend)
        case AzureStorage():
            from openegress.storage import azure

            return azure.connect(backend)
