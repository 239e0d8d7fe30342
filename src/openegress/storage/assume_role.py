"""Credentials of an assumed AWS role, asked of STS again before they expire."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

from openegress.core.errors import Code, EgressError, Fault
from openegress.core.plan import S3Storage
from openegress.core.text import shown
from openegress.storage.failures import CredentialsRefused, CredentialsUnavailable
from openegress.storage.s3_address import DEFAULT_REGION, endpoint_url, is_aws
from openegress.storage.sigv4 import Credentials


def sts_endpoint(endpoint: str) -> str | None:
    """S3-compatible servers answer STS on their own address; for AWS the SDK knows it (None)."""
    if not endpoint:
        return None
    url = endpoint_url(endpoint)
    return None if is_aws(urlsplit(url).hostname or "") else url


class AssumedRole:
    """A source of credentials."""

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

    async def __call__(self) -> Credentials:
        return await asyncio.to_thread(self._assume)

    def _assume(self) -> Credentials:
        from botocore.exceptions import ClientError, NoCredentialsError

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
        except Exception as error:
            # BotoCoreError, its parser's errors. Not their text, which may hold the proxy's password.
            raise CredentialsUnavailable(f"AssumeRole: {type(error).__name__}") from None
        return Credentials(
            given["AccessKeyId"],
            given["SecretAccessKey"],
            given["SessionToken"],
            given["Expiration"].timestamp(),
        )

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config

        from openegress.storage.traits import proxy_url

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
