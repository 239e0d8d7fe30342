"""Who this server is to AWS, where neither request nor configuration has keys: each kind of agent."""

import json
import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from openegress.core.errors import EgressError, Fault
from openegress.core.storages import S3Storage
from openegress.storage import open_storage

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


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Of a machine that knows nothing of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


async def sent_by(agent: Agent, folder: Path) -> dict[str, str]:
    """Headers of an object that this machine stores."""
    agent.answers["PUT /bucket/x.mp4"] = (200, "")
    (folder / "x").write_bytes(b"x")
    storage = await open_storage(S3Storage("bucket", endpoint=agent.url, region="eu-west-1"))
    try:
        await storage.put(folder / "x", "x.mp4", "video/mp4")
    finally:
        await storage.close()
    return agent.asked[-1][1]


def check(sent: dict[str, str]) -> None:
    assert sent["x-amz-security-token"] == "t0ken" and "Credential=AKID/" in sent["authorization"]


async def test_keys_of_the_environment(agent: Agent, environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ.setenv("AWS_ACCESS_KEY_ID", "AKID")
    environ.setenv("AWS_SECRET_ACCESS_KEY", "s")
    environ.setenv("AWS_SESSION_TOKEN", "t0ken")
    check(await sent_by(agent, tmp_path))


async def test_a_role_by_kubernetes_token(agent: Agent, environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """EKS, IAM roles for service accounts."""
    token = tmp_path / "token"
    token.write_text("jwt.of+kubernetes")
    environ.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    environ.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/recorder")
    environ.setenv("AWS_ENDPOINT_URL_STS", agent.url)
    agent.answers["POST /"] = (200, BY_STS)
    check(await sent_by(agent, tmp_path))
    asked = {name: value for name, (value,) in parse_qs(agent.asked[0][2]).items()}
    assert asked["Action"] == "AssumeRoleWithWebIdentity"
    assert asked["WebIdentityToken"] == "jwt.of+kubernetes"
    assert asked["RoleArn"].endswith("role/recorder")
    agent.answers["POST /"] = (403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")
    with pytest.raises(EgressError, match="AccessDenied") as raised:
        await sent_by(agent, tmp_path)
    assert raised.value.fault is Fault.CALLER


async def test_the_agent_of_a_container(agent: Agent, environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ECS, and EKS Pod Identity, which has its token in a file."""
    token = tmp_path / "token"
    token.write_text("pod")
    agent.answers["GET /v1/credentials?a=b"] = (200, json.dumps(GIVEN))
    environ.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{agent.url}/v1/credentials?a=b")
    for name, value, seen in (
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "ecs", "ecs"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token), "pod"),
    ):
        agent.asked.clear()
        environ.setenv(name, value)
        check(await sent_by(agent, tmp_path))
        assert agent.asked[0][1]["authorization"] == seen


async def test_the_metadata_of_a_machine(agent: Agent, environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """IMDSv2."""
    path = "/latest/meta-data/iam/security-credentials/"
    agent.answers["PUT /latest/api/token"] = (200, "imds")
    agent.answers[f"GET {path}"] = (200, "recorder")
    agent.answers[f"GET {path}recorder"] = (200, json.dumps({**GIVEN, "Code": "Success"}))
    environ.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", agent.url)
    check(await sent_by(agent, tmp_path))
    assert {
        headers.get("x-aws-ec2-metadata-token") for first, headers, _ in agent.asked if "meta-data" in first
    } == {"imds"}


async def test_nobody_knows_us(environ: pytest.MonkeyPatch) -> None:
    """Said soon, and with what to do."""
    storage = await open_storage(S3Storage("bucket", endpoint="http://127.0.0.1:1"))
    began_s = time.monotonic()
    with pytest.raises(EgressError, match="no credentials: set access_key and secret") as raised:
        await storage.check("x.mp4")
    await storage.close()
    assert raised.value.fault is Fault.CALLER
    assert time.monotonic() - began_s < 6


async def test_they_are_asked_for_once(agent: Agent, environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And sent with what they sign."""
    environ.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{agent.url}/ecs")
    agent.answers["GET /ecs"] = (200, json.dumps(GIVEN))
    agent.answers["PUT /bucket/x.mp4"] = (200, "")
    (tmp_path / "x").write_bytes(b"x")
    storage = await open_storage(S3Storage("bucket", endpoint=agent.url))
    for _ in range(2):
        await storage.put(tmp_path / "x", "x.mp4", "video/mp4")
    await storage.close()
    assert [first for first, _, _ in agent.asked] == ["GET /ecs", *["PUT /bucket/x.mp4"] * 2]
    check(agent.asked[-1][1])
