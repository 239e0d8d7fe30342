"""The storages of a plan, where finished files go. Pure."""

import msgspec

from openegress.core.checksum import Checksum
from openegress.core.plan_struct import Struct


class Proxy(Struct, frozen=True):
    url: str
    username: str = ""
    password: str = ""


class LocalStorage(Struct, frozen=True, tag="local"):
    root: str
    private: tuple[str, ...] = ()
    """Folders and files below the root that no recording may be written to: they hold other recordings."""
    setting: str = "output_root"
    """The setting that names the root, for refusals."""


class NamedStorage(Struct, frozen=True, kw_only=True):
    """One that is somewhere in a network."""

    deny_networks: tuple[str, ...] | None = None
    """A request names the storage: its endpoint, proxy and token URL may not lead into these networks. None:
    the storage is the server's own."""
    proxy: Proxy | None = None


class S3Storage(NamedStorage, frozen=True, tag="s3"):
    bucket: str
    access_key: str = ""
    secret: str = ""
    session_token: str = ""
    assume_role_arn: str = ""
    assume_role_external_id: str = ""
    region: str = ""
    endpoint: str = ""
    force_path_style: bool = False
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    tagging: str = ""
    content_disposition: str = ""
    checksum: Checksum = Checksum.CRC32
    server_side_encryption: str = ""
    """AES256, aws:kms or aws:kms:dsse; empty: the bucket's default."""
    sse_kms_key_id: str = ""
    storage_class: str = ""
    max_retries: int = 5
    """For one request to the storage; StoragePlan.retry_for_s limits a whole upload."""
    min_retry_delay_s: float = 0.1
    max_retry_delay_s: float = 5.0


class GCPStorage(NamedStorage, frozen=True, tag="gcp"):
    bucket: str
    credentials: str = ""
    """Contents of credentials.json; empty: the ambient identity."""


class AzureStorage(NamedStorage, frozen=True, tag="azure"):
    container: str
    account_name: str = ""
    account_key: str = ""
    sas_token: str = ""
    endpoint: str = ""


class AliOSSStorage(NamedStorage, frozen=True, tag="alioss"):
    bucket: str
    access_key: str = ""
    secret: str = ""
    region: str = ""
    endpoint: str = ""


Backend = LocalStorage | S3Storage | GCPStorage | AzureStorage | AliOSSStorage


class StoragePlan(Struct, frozen=True):
    """One destination with its backup and its settings. Durations are in seconds."""

    backend: Backend
    prefix: str = ""
    backup: Backend | None = None
    backup_prefix: str = ""
    presign: bool = False
    """Locations are URLs that can be read without credentials."""
    backup_presign: bool = False
    """The same for files in the backup."""
    retry_for_s: float = 6 * 3600.0
    """How long to retry an upload before the backup takes it, or it fails."""
    check: bool = True
    """Write and delete a small object before anything is recorded."""
