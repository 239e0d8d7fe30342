"""Who this server is to AWS: keys of its environment, a role by a token of Kubernetes, or what the agent of a
container or machine hands out. In the order of AWS' SDKs.

https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from openegress.core import foreign_json
from openegress.core.plan import Proxy
from openegress.core.text import shown
from openegress.storage.failures import CODE, CredentialsRefused, CredentialsUnavailable
from openegress.storage.http_link import CallTimeouts, HttpAnswer, HttpLink, NotAnswered
from openegress.storage.sigv4 import Credentials

SOON = CallTimeouts(2.0, 4.0)
"""Agents are on this machine, or next to it."""
STS_PATIENCE = CallTimeouts(4.0, 8.0)
CONTAINER_HOST = "http://169.254.170.2"
MACHINE_HOST = "http://169.254.169.254"
MACHINE_PATH = "/latest/meta-data/iam/security-credentials/"
TOKEN_S = "21600"
NONE_FOUND = (
    "no credentials: set access_key and secret, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
    "environment, or give the machine a role"
)


class AmbientIdentity:
    """A source of credentials."""

    def __init__(self, environ: Mapping[str, str], region: str, proxy: Proxy | None) -> None:
        """`region` and `proxy`: for AWS' token service, which a role by token is asked of."""
        self._environ = environ
        self._region = region
        self._proxy = proxy

    async def __call__(self) -> Credentials:
        """Raises CredentialsRefused, CredentialsUnavailable."""
        environ = self._environ
        access_key, secret = environ.get("AWS_ACCESS_KEY_ID", ""), environ.get("AWS_SECRET_ACCESS_KEY", "")
        if access_key and secret:
            return Credentials(access_key, secret, environ.get("AWS_SESSION_TOKEN", ""))
        if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environ.get("AWS_ROLE_ARN"):
            return await self._by_web_identity()
        relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
        full = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
        if relative or full:
            return await self._of_container(f"{CONTAINER_HOST}{relative}" if relative else full)
        if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            raise CredentialsRefused(NONE_FOUND)
        return await self._of_machine()

    async def _by_web_identity(self) -> Credentials:
        environ = self._environ
        token = await self._file(environ["AWS_WEB_IDENTITY_TOKEN_FILE"])
        query = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": environ["AWS_ROLE_ARN"],
            "RoleSessionName": environ.get("AWS_ROLE_SESSION_NAME", "") or "openegress",
            "WebIdentityToken": token,
        }
        suffix = ".cn" if self._region.startswith("cn-") else ""
        url = environ.get("AWS_ENDPOINT_URL_STS") or f"https://sts.{self._region}.amazonaws.com{suffix}"
        headers = {"content-type": "application/x-www-form-urlencoded"}
        link = HttpLink(url, self._proxy)
        answer = await self._asked(
            link, "POST", f"{url}/", headers, "AWS STS", urlencode(query).encode(), STS_PATIENCE
        )
        text = answer.body.decode(errors="replace")
        given = dict(re.findall(r"<(\w+)>([^<]*)</\1>", text))
        return _credentials(given, "AWS STS", "SessionToken")

    async def _of_container(self, url: str) -> Credentials:
        """ECS, EKS Pod Identity."""
        environ, headers = self._environ, {}
        if path := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            headers["authorization"] = await self._file(path)
        elif token := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"):
            headers["authorization"] = token
        name = "the container's agent"
        answer = await self._asked(HttpLink(url, environment=False), "GET", url, headers, name)
        return _credentials(_json(answer, name), name, "Token")

    async def _of_machine(self) -> Credentials:
        """The instance metadata service, version 2."""
        base = (self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or MACHINE_HOST).rstrip("/")
        link, name = HttpLink(base, environment=False), "the machine's metadata"
        try:
            token = await self._asked(
                link,
                "PUT",
                f"{base}/latest/api/token",
                {"x-aws-ec2-metadata-token-ttl-seconds": TOKEN_S},
                name,
            )
        except CredentialsUnavailable:
            raise CredentialsRefused(NONE_FOUND) from None
        headers = {"x-aws-ec2-metadata-token": token.body.decode("latin-1").strip()}
        roles = await self._asked(link, "GET", f"{base}{MACHINE_PATH}", headers, name)
        role = roles.body.decode(errors="replace").split("\n")[0].strip()
        if not re.fullmatch(r"[\w+=,.@-]{1,128}", role):
            raise CredentialsRefused(f"{name} name no role")
        answer = await self._asked(link, "GET", f"{base}{MACHINE_PATH}{role}", headers, name)
        return _credentials(_json(answer, name), name, "Token")

    async def _asked(
        self,
        link: HttpLink,
        method: str,
        url: str,
        headers: Mapping[str, str],
        name: str,
        body: bytes = b"",
        patience: CallTimeouts = SOON,
    ) -> HttpAnswer:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            answer = await link.ask(method, target, {"host": parts.netloc, **headers}, body, patience)
        except NotAnswered as error:
            raise CredentialsUnavailable(f"{name}: {error.answer.words}") from None
        if answer.status // 100 == 2:
            return answer
        code = CODE.search(answer.body.decode(errors="replace"))
        words = f"{name}: {code[1] if code else f'HTTP status {answer.status}'}"
        raise CredentialsUnavailable(words) if answer.status >= 500 else CredentialsRefused(words)

    async def _file(self, path: str) -> str:
        return await asyncio.to_thread(_read, path)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise CredentialsRefused(f"{shown(path)} cannot be read ({type(error).__name__})") from None


def _json(answer: HttpAnswer, name: str) -> dict[str, object]:
    try:
        given = foreign_json.loads(answer.body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise CredentialsUnavailable(f"{name} answered with something else than credentials")
    return given


def _credentials(given: Mapping[str, object], name: str, token: str) -> Credentials:
    try:
        ends = datetime.fromisoformat(str(given["Expiration"]).replace("Z", "+00:00"))
        return Credentials(
            str(given["AccessKeyId"]), str(given["SecretAccessKey"]), str(given[token]), ends.timestamp()
        )
    except (KeyError, ValueError):
        raise CredentialsUnavailable(f"{name} answered with something else than credentials") from None
