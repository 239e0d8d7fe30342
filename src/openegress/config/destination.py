"""The server's own storage and backup, as the plan of a recording wants them."""

from pathlib import Path

from openegress.config.settings import GCP, S3, AliOSS, Azure, Local, Proxy, Settings, Storage
from openegress.core import plan
from openegress.core.destinations import AssumeRole


def storage_plan(settings: Settings) -> plan.StoragePlan:
    """Where files go whose request names no storage, and the manners of all: prefix, backup, patience.

    Without a storage that is the local disk; whether it is allowed, core.destinations decides.
    """
    return plan.StoragePlan(
        backend=backend_of(settings.storage) or plan.LocalStorage(root=str(settings.output_path)),
        prefix=settings.storage.prefix,
        backup=backend_of(settings.backup),
        backup_prefix=settings.backup.prefix,
        presign=settings.storage.generate_presigned_url,
        backup_presign=settings.backup.generate_presigned_url,
        retry_for_s=float(settings.retries.upload_for),
        check=settings.storage_check,
    )


def assume_role(settings: Settings) -> AssumeRole:
    return AssumeRole(
        access_key=settings.s3_assume_role_key,
        secret=settings.s3_assume_role_secret.reveal(),
        arn=settings.s3_assume_role_arn,
        external_id=settings.s3_assume_role_external_id.reveal(),
    )


def backend_of(storage: Storage) -> plan.Backend | None:
    match storage.destination:
        case S3() as s3:
            return plan.S3Storage(
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
                proxy=_proxy(s3.proxy_config),
                max_retries=s3.max_retries,
                min_retry_delay_s=float(s3.min_retry_delay),
                max_retry_delay_s=float(s3.max_retry_delay),
            )
        case Azure() as azure:
            return plan.AzureStorage(
                container=azure.container_name,
                account_name=azure.account_name,
                account_key=azure.account_key.reveal(),
                sas_token=azure.sas_token.reveal(),
                endpoint=azure.endpoint,
            )
        case GCP() as gcp:
            return plan.GCPStorage(
                bucket=gcp.bucket,
                credentials=gcp.credentials_json.reveal(),
                proxy=_proxy(gcp.proxy_config),
            )
        case AliOSS() as oss:
            return plan.AliOSSStorage(
                bucket=oss.bucket,
                access_key=oss.access_key,
                secret=oss.secret.reveal(),
                region=oss.region,
                endpoint=oss.endpoint,
            )
        case Local() as local:
            return plan.LocalStorage(root=str(Path(local.storage_dir).absolute()))
        case None:
            return None


def _proxy(proxy: Proxy | None) -> plan.Proxy | None:
    if proxy is None or not proxy.url:
        return None
    return plan.Proxy(url=proxy.url, username=proxy.username, password=proxy.password.reveal())
