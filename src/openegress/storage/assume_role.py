"""Obtains credentials of an assumed AWS role, and renews them at STS before they expire."""

from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.credentials import DeferredRefreshableCredentials
from botocore.exceptions import ClientError, NoCredentialsError, ParamValidationError

from openegress.core.storages import S3Storage
from openegress.core.text import shown
from openegress.storage.failures import CredentialsRefused, CredentialsUnavailable
from openegress.storage.s3_address import DEFAULT_REGION, endpoint_url, is_aws
from openegress.storage.s3_client import certificates, new_session, proxies

_FIELDS = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
"""The credentials in an answer of AssumeRole (STS API reference)."""


def sts_endpoint(endpoint: str) -> str | None:
    """The URL of STS, which S3-compatible servers answer at their own address. None: the STS of AWS, whose
    URL the SDK knows."""
    if not endpoint:
        return None
    url = endpoint_url(endpoint)
    return None if is_aws(urlsplit(url).hostname or "") else url


class AssumedRole:
    """The identity of one storage; give() is its s3_client.Identity."""

    def __init__(self, backend: S3Storage) -> None:
        self._backend = backend
        self._client: Any = None

    def give(self, session: Any) -> None:
        """Sets the session's credentials. Calls of the session may then raise CredentialsRefused and
        CredentialsUnavailable."""
        session._credentials = DeferredRefreshableCredentials(self._assume, "assume-role")

    def _assume(self) -> dict[str, str]:
        if self._client is None:
            self._client = self._connect()
        request = {"RoleArn": self._backend.assume_role_arn, "RoleSessionName": "openegress"}
        if self._backend.assume_role_external_id:
            request["ExternalId"] = self._backend.assume_role_external_id
        try:
            answered = self._client.assume_role(**request)
        except ClientError as error:
            words = f"AssumeRole: {shown(str(error.response.get('Error', {}).get('Code', '')), 64)}"
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                raise CredentialsUnavailable(words) from None
            raise CredentialsRefused(words) from None
        except NoCredentialsError:
            words = "AssumeRole: no credentials to assume the role with; set access_key and secret"
            raise CredentialsRefused(words) from None
        except ParamValidationError:
            # The error's text has the external id.
            words = "AssumeRole: STS does not accept this assume_role_arn or assume_role_external_id"
            raise CredentialsRefused(words) from None
        except KeyError as error:
            # botocore's parser looks for an element of the answer.
            raise CredentialsUnavailable(
                f"AssumeRole: its answer has no {shown(str(*error.args[:1]), 64)}"
            ) from None
        except Exception as error:
            # It is a BotoCoreError or an error of its parser. The text may hold the proxy's password.
            raise CredentialsUnavailable(f"AssumeRole: {type(error).__name__}") from None
        given = answered.get("Credentials", {})
        if missing := [name for name in _FIELDS if not given.get(name)]:
            raise CredentialsUnavailable(f"AssumeRole: its answer has no {', '.join(missing)}")
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }

    def _connect(self) -> Any:
        backend = self._backend
        session = new_session(is_given=bool(backend.access_key))
        if backend.access_key:
            session.set_credentials(backend.access_key, backend.secret, backend.session_token or None)
        return session.create_client(
            "sts",
            region_name=backend.region or DEFAULT_REGION,
            endpoint_url=sts_endpoint(backend.endpoint),
            verify=certificates(),
            config=Config(
                proxies=proxies(backend.proxy),
                connect_timeout=4,
                read_timeout=8,
                retries={"total_max_attempts": 2},
            ),
        )
