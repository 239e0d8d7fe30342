"""The settings of storages, under upstream's names. reference.yaml says what each one means."""

from msgspec import field

from openegress.core.block import Block
from openegress.core.checksum import Checksum
from openegress.core.values import Seconds, Secret


class ProxySettings(Block, frozen=True):
    url: str = ""
    username: str = ""
    password: Secret = Secret("")


class S3(Block, frozen=True):
    bucket: str = ""
    access_key: str = ""
    secret: Secret = Secret("")
    session_token: Secret = Secret("")
    assume_role_arn: str = ""
    assume_role_external_id: Secret = Secret("")
    region: str = ""
    endpoint: str = ""
    force_path_style: bool = False
    proxy_config: ProxySettings | None = None
    max_retries: int = 5
    max_retry_delay: Seconds = Seconds(5)
    min_retry_delay: Seconds = Seconds(0.1)
    aws_log_level: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    tagging: str = ""
    content_disposition: str = ""
    checksum: Checksum = Checksum.CRC32
    server_side_encryption: str = ""
    sse_kms_key_id: str = ""
    storage_class: str = ""


class Azure(Block, frozen=True):
    account_name: str = ""
    account_key: Secret = Secret("")
    sas_token: Secret = Secret("")
    container_name: str = ""
    endpoint: str = ""


class GCP(Block, frozen=True):
    credentials_json: Secret = Secret("")
    bucket: str = ""
    proxy_config: ProxySettings | None = None


class AliOSS(Block, frozen=True):
    access_key: str = ""
    secret: Secret = Secret("")
    region: str = ""
    endpoint: str = ""
    bucket: str = ""


class Local(Block, frozen=True):
    storage_dir: str = ""


class StorageSettings(Block, frozen=True):
    """The settings of one storage: at most one of the destinations is set."""

    prefix: str = ""
    generate_presigned_url: bool = False
    s3: S3 | None = None
    azure: Azure | None = None
    gcp: GCP | None = None
    alioss: AliOSS | None = None
    local: Local | None = None

    @property
    def destination(self) -> S3 | Azure | GCP | AliOSS | Local | None:
        return self.s3 or self.azure or self.gcp or self.alioss or self.local
