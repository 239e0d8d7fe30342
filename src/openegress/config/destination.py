"""Makes the server's own storage and backup, in the form of a plan."""

from pathlib import Path

from openegress.config.settings import Settings
from openegress.config.storages import GCP, S3, AliOSS, Azure, Local, ProxySettings, StorageSettings
from openegress.core import storages
from openegress.request.destinations import AssumeRole

REPORTS = "reports"
"""Subfolder of the data folder for reports of failed egresses, unless another storage is configured."""
REPORTS_RETRY_S = 20.0
LOCKS = ".openegress-locks"
"""File in the data folder, and in each folder that recordings are stored in, that locks the files being
written (store.disk_leases)."""
UNREPORTED = "unreported"
"""Subfolder of the data folder for ends of egresses that the record keeper has not accepted yet."""
SEAL = "seal"
"""File in the data folder with the key of storage.seal."""


def storage_plan(settings: Settings) -> storages.StoragePlan:
    """The storage of files whose request names none, and the settings for all: prefix, backup, retries. If no
    storage is configured, it is the local disk; request.destinations decides whether that is allowed."""
    return storages.StoragePlan(
        backend=_closed(backend_of(settings.storage), settings, "storage")
        or _folder(settings.output_path, settings, "output_root"),
        prefix=settings.storage.prefix,
        backup=_closed(backend_of(settings.backup), settings, "backup"),
        backup_prefix=settings.backup.prefix,
        presign=settings.storage.generate_presigned_url,
        backup_presign=settings.backup.generate_presigned_url,
        retry_for_s=float(settings.retries.upload_for),
        check=settings.storage_check,
    )


def report_plan(settings: Settings) -> storages.StoragePlan:
    """The storage of reports of failed egresses; by default, this machine's disk."""
    return storages.StoragePlan(
        backend=backend_of(settings.debug) or storages.LocalStorage(root=str(settings.data_path / REPORTS)),
        prefix=settings.debug.prefix,
        retry_for_s=REPORTS_RETRY_S,
        check=False,
    )


def local_folders(settings: Settings) -> list[storages.LocalStorage]:
    """The folders of this machine in which recordings may be: the storage and its backup, if they are
    local."""
    own = storage_plan(settings)
    return [place for place in (own.backend, own.backup) if isinstance(place, storages.LocalStorage)]


def _folder(root: Path, settings: Settings, setting: str) -> storages.LocalStorage:
    """A local storage with the root that `setting` names. Recordings may not overwrite files of the service
    below it, whatever links lead there."""
    own = (
        settings.spool_path,
        settings.db_path,
        settings.data_path / UNREPORTED,
        settings.data_path / SEAL,
        settings.data_path / REPORTS,
        settings.data_path / LOCKS,
        root / LOCKS,
    )
    real = root.resolve()
    private = [root / path.resolve().relative_to(real) for path in own if path.resolve().is_relative_to(real)]
    return storages.LocalStorage(str(root), tuple(str(path) for path in private), setting)


def _closed(backend: storages.Backend | None, settings: Settings, block: str) -> storages.Backend | None:
    """`backend`, which the block of this name configures."""
    if not isinstance(backend, storages.LocalStorage):
        return backend
    return _folder(Path(backend.root), settings, f"{block}.local.storage_dir")


def assume_role(settings: Settings) -> AssumeRole:
    return AssumeRole(
        access_key=settings.s3_assume_role_key,
        secret=settings.s3_assume_role_secret.reveal(),
        arn=settings.s3_assume_role_arn,
        external_id=settings.s3_assume_role_external_id.reveal(),
    )


def backend_of(storage: StorageSettings) -> storages.Backend | None:
    match storage.destination:
        case S3() as s3:
            return storages.S3Storage(
                bucket=s3.bucket,
                access_key=s3.access_key,
                secret=s3.secret.reveal(),
                session_token=s3.session_token.reveal(),
                assume_role_arn=s3.assume_role_arn,
                assume_role_external_id=s3.assume_role_external_id.reveal(),
                region=s3.region,
                endpoint=s3.endpoint,
                force_path_style=s3.force_path_style,
                metadata=s3.metadata,
                tagging=s3.tagging,
                content_disposition=s3.content_disposition,
                checksum=s3.checksum,
                server_side_encryption=s3.server_side_encryption,
                sse_kms_key_id=s3.sse_kms_key_id,
                storage_class=s3.storage_class,
                proxy=_proxy(s3.proxy_config),
                max_retries=s3.max_retries,
                min_retry_delay_s=float(s3.min_retry_delay),
                max_retry_delay_s=float(s3.max_retry_delay),
            )
        case Azure() as azure:
            return storages.AzureStorage(
                container=azure.container_name,
                account_name=azure.account_name,
                account_key=azure.account_key.reveal(),
                sas_token=azure.sas_token.reveal(),
                endpoint=azure.endpoint,
            )
        case GCP() as gcp:
            return storages.GCPStorage(
                bucket=gcp.bucket,
                credentials=gcp.credentials_json.reveal(),
                proxy=_proxy(gcp.proxy_config),
            )
        case AliOSS() as oss:
            return storages.AliOSSStorage(
                bucket=oss.bucket,
                access_key=oss.access_key,
                secret=oss.secret.reveal(),
                region=oss.region,
                endpoint=oss.endpoint,
            )
        case Local() as local:
            return storages.LocalStorage(root=str(Path(local.storage_dir).absolute()))
        case None:
            return None


def _proxy(proxy: ProxySettings | None) -> storages.Proxy | None:
    if proxy is None or not proxy.url:
        return None
    return storages.Proxy(url=proxy.url, username=proxy.username, password=proxy.password.reveal())
