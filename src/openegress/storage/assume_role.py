"""Credentials of an assumed AWS role, asked of STS again before they expire."""

import asyncio
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openegress.core.errors import Code, EgressError, Fault
from openegress.core.plan import S3Storage
from openegress.core.text import shown
from openegress.storage.failures import CredentialsRefused, CredentialsUnavailable
from openegress.storage.s3_address import DEFAULT_REGION, endpoint_url, is_aws

if TYPE_CHECKING:
    from obstore.store import S3Credential


def sts_endpoint(endpoint: str) -> str | None:
    """S3-compatible servers answer STS on their own address; for AWS the SDK knows it (None)."""
    if not endpoint:
        return None
    url = endpoint_url(endpoint)
    return None if is_aws(urlsplit(url).hostname or "") else url


class AssumedRole:
    """A credential provider for obstore, which keeps the answer until it is about to expire."""

    def __init__(self, backend: S3Storage) -> None:
        try:
            import boto3  # noqa: F401
        except ImportError:
            raise EgressError(
                Code.FAILED_PRECONDITION,
                "assume_role_arn needs boto3; install openegress[aws]",
                fault=Fault.SERVICE,
            ) from None
        self._backend = backend
        self._client: Any = None

    async def __call__(self) -> "S3Credential":
        return await asyncio.to_thread(self._assume)

    def _assume(self) -> "S3Credential":
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        if self._client is None:
            self._client = self._connect()
        request = {"RoleArn": self._backend.assume_role_arn, "RoleSessionName": "openegress"}
        if self._backend.assume_role_external_id:
            request["ExternalId"] = self._backend.assume_role_external_id
        try:
            given = self._client.assume_role(**request)["Credentials"]
        except ClientError as error:
            answer = error.response["Error"]
            words = f"AssumeRole: {shown(str(answer.get('Code', '')), 64)}"
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                raise CredentialsUnavailable(words) from None
            raise CredentialsRefused(words) from None
        except NoCredentialsError:
            words = "AssumeRole: no credentials to assume the role with; set access_key and secret"
            raise CredentialsRefused(words) from None
        except BotoCoreError as error:
            # Not its text, which may hold the proxy's address with its password.
            raise CredentialsUnavailable(f"AssumeRole: {type(error).__name__}") from None
        return {
            "access_key_id": given["AccessKeyId"],
            "secret_access_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            # botocore answers with a time zone of its own, which obstore does not know.
            "expires_at": given["Expiration"].astimezone(UTC),
        }

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config

        from openegress.storage.objects import proxy_url

        backend = self._backend
        keys: dict[str, str] = {}
        if backend.access_key:
            keys["aws_access_key_id"] = backend.access_key
            keys["aws_secret_access_key"] = backend.secret
            if backend.session_token:
                keys["aws_session_token"] = backend.session_token
        proxies = {}
        if backend.proxy is not None:
            url = proxy_url(backend.proxy)
            proxies = {"http": url, "https": url}
        return boto3.session.Session().client(
            "sts",
            region_name=backend.region or DEFAULT_REGION,
            endpoint_url=sts_endpoint(backend.endpoint),
            config=Config(
                proxies=proxies, connect_timeout=4, read_timeout=8, retries={"total_max_attempts": 2}
            ),
            **keys,
        )
