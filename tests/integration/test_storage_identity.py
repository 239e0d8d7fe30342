"""Who this server is to AWS, where neither request nor configuration has keys: each kind of agent."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from openegress.core.errors import EgressError, Fault
from openegress.core.plan import S3Storage
from openegress.storage import open_storage
from openegress.storage.aws_identity import AmbientIdentity
from openegress.storage.failures import CredentialsRefused, CredentialsUnavailable

GIVEN = {
    "AccessKeyId": "AKID",
    "SecretAccessKey": "very-secret",
    "Token": "t0ken",
    "Expiration": "2033-05-18T03:33:20Z",
}
BY_STS = (
    "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
    "<AccessKeyId>AKID</AccessKeyId><SecretAccessKey>very-secret</SecretAccessKey>"
    "<SessionToken>t0ken</SessionToken><Expiration>2033-05-18T03:33:20Z</Expiration>"
    "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
)


class Agent:
    """Answers by "METHOD path"; everything else is 404. `asked` has headers and bodies."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {}
        self.asked: list[tuple[str, dict[str, str], str]] = []
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                first = f"{self.command} {self.path}"
                agent.asked.append((first, {n.lower(): v for n, v in self.headers.items()}, body))
                status, text = agent.answers.get(first, (404, "none"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_PUT = do_POST = answer

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def agent() -> Iterator[Agent]:
    found = Agent()
    thread = Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def identity(**environ: str) -> AmbientIdentity:
    return AmbientIdentity(environ, "eu-west-1", None)


async def is_given(source: AmbientIdentity) -> None:
    found = await source()
    assert (found.access_key, found.secret, found.session_token) == ("AKID", "very-secret", "t0ken")
    assert found.expires_s == 2_000_000_000


async def test_keys_of_the_environment() -> None:
    found = await identity(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="s", AWS_SESSION_TOKEN="t")()
    assert (found.access_key, found.secret, found.session_token, found.expires_s) == ("a", "s", "t", None)


async def test_a_role_by_kubernetes_token(agent: Agent, tmp_path: Path) -> None:
    """EKS, IAM roles for service accounts."""
    token = tmp_path / "token"
    token.write_text("jwt.of+kubernetes\n")
    agent.answers["POST /"] = (200, BY_STS)
    source = identity(
        AWS_WEB_IDENTITY_TOKEN_FILE=str(token),
        AWS_ROLE_ARN="arn:aws:iam::123456789012:role/recorder",
        AWS_ENDPOINT_URL_STS=agent.url,
    )
    await is_given(source)
    ((_, _, body),) = agent.asked
    asked = {name: value for name, (value,) in parse_qs(body).items()}
    assert asked["Action"] == "AssumeRoleWithWebIdentity"
    assert asked["WebIdentityToken"] == "jwt.of+kubernetes"
    assert asked["RoleArn"].endswith("role/recorder")
    agent.answers["POST /"] = (403, "<Error><Code>AccessDenied</Code><Message>words</Message></Error>")
    with pytest.raises(CredentialsRefused, match=r"AWS STS: AccessDenied$"):
        await source()
    agent.answers["POST /"] = (503, "words")
    with pytest.raises(CredentialsUnavailable, match=r"AWS STS: HTTP status 503$"):
        await source()


async def test_the_agent_of_a_container(agent: Agent, tmp_path: Path) -> None:
    """ECS, and EKS Pod Identity, which has its token in a file."""
    token = tmp_path / "token"
    token.write_text("pod")
    agent.answers["GET /v1/credentials?a=b"] = (200, json.dumps(GIVEN))
    url = f"{agent.url}/v1/credentials?a=b"
    await is_given(identity(AWS_CONTAINER_CREDENTIALS_FULL_URI=url, AWS_CONTAINER_AUTHORIZATION_TOKEN="ecs"))
    await is_given(
        identity(AWS_CONTAINER_CREDENTIALS_FULL_URI=url, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(token))
    )
    assert [headers["authorization"] for _, headers, _ in agent.asked] == ["ecs", "pod"]


async def test_the_metadata_of_a_machine(agent: Agent) -> None:
    """IMDSv2."""
    path = "/latest/meta-data/iam/security-credentials/"
    agent.answers["PUT /latest/api/token"] = (200, "imds")
    agent.answers[f"GET {path}"] = (200, "recorder")
    agent.answers[f"GET {path}recorder"] = (200, json.dumps(GIVEN))
    source = identity(AWS_EC2_METADATA_SERVICE_ENDPOINT=agent.url)
    await is_given(source)
    assert [headers.get("x-aws-ec2-metadata-token") for _, headers, _ in agent.asked] == [
        None,
        "imds",
        "imds",
    ]
    agent.answers[f"GET {path}recorder"] = (200, "[]")
    with pytest.raises(CredentialsUnavailable, match="something else than credentials"):
        await source()
    agent.answers[f"GET {path}"] = (200, "../..")
    with pytest.raises(CredentialsRefused, match="name no role"):
        await source()


async def test_nobody_knows_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said soon, and with what to do."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
    storage = await open_storage(S3Storage("b", endpoint="http://127.0.0.1:1"))
    began_s = time.monotonic()
    with pytest.raises(EgressError, match="no credentials: set access_key and secret") as raised:
        await storage.check("x.mp4")
    await storage.close()
    assert raised.value.fault is Fault.CALLER
    assert time.monotonic() - began_s < 6


async def test_they_are_asked_for_once(agent: Agent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And sent with what they sign."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{agent.url}/ecs")
    agent.answers["GET /ecs"] = (200, json.dumps(GIVEN))
    agent.answers["PUT /b/x.mp4"] = (200, "")
    (tmp_path / "x").write_bytes(b"x")
    storage = await open_storage(S3Storage("b", endpoint=agent.url))
    for _ in range(2):
        await storage.put(tmp_path / "x", "x.mp4", "video/mp4")
    await storage.close()
    assert [first for first, _, _ in agent.asked] == ["GET /ecs", "PUT /b/x.mp4", "PUT /b/x.mp4"]
    sent = agent.asked[-1][1]
    assert sent["x-amz-security-token"] == "t0ken" and "Credential=AKID/" in sent["authorization"]
