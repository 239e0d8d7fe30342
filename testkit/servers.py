"""Real storage servers and a proxy on loopback ports, started for the time of a test: S3 and STS (moto),
Azure Blob (azurite), an HTTP proxy that wants a password (proxy.py). All are context managers."""

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from testkit.livekit_server import find_binary, free_port
from testkit.node_packages import install

START_TIMEOUT_S = 60.0
"""moto imports for two seconds on an idle machine, and longer on a busy one."""

ROOT = Path(__file__).resolve().parent.parent

direct = build_opener(ProxyHandler({}))
"""Ignores the proxy in the environment for loopback servers."""


class ServerProcess:
    """A program that listens on one loopback port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def prepare(self) -> None:
        """Runs once the server answers."""

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="openegress-server-"))
        try:
            self.start()
            self.prepare()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env={**os.environ, **self.environment()},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._listens():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.command()[0]} ended:\n{self.log[-2000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.command()[0]} not ready:\n{self.log[-2000:]}")
            # These servers do not report when they listen.
            time.sleep(0.05)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class S3Server(ServerProcess):
    """moto: S3, STS and IAM on one port, in memory.

    With `enforce`, keys, signatures and policies are checked: only `access_key` / `secret` get in, and what
    they assume.
    """

    region = "us-east-1"
    role_arn = "arn:aws:iam::123456789012:role/recorder"

    def __init__(self, enforce: bool = False) -> None:
        super().__init__()
        self.enforce = enforce
        self.access_key = "AKIATESTTESTTESTTEST"
        self.secret = "test-secret-of-the-s3-server"

    def command(self) -> list[str]:
        return [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {"PYTHONWARNINGS": "ignore"}

    def client(self, service: str = "s3") -> Any:
        """A boto3 client: an S3 implementation that is not ours."""
        return s3_client(self.url, self.region, self.access_key, self.secret, service)

    def prepare(self) -> None:
        if not self.enforce:
            return
        iam = self.client("iam")
        iam.create_user(UserName="recorder")
        everything = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
        iam.put_user_policy(UserName="recorder", PolicyName="all", PolicyDocument=everything)
        key = iam.create_access_key(UserName="recorder")["AccessKey"]
        self.access_key, self.secret = key["AccessKeyId"], key["SecretAccessKey"]
        self._check_after(0)

    def _check_after(self, requests: float) -> None:
        request = Request(f"{self.url}/moto-api/reset-auth", data=str(requests).encode(), method="POST")
        request.add_header("Content-Type", "text/plain")
        direct.open(request).close()

    def fetch(self, url: str) -> tuple[int, bytes]:
        """GET of a presigned URL. moto does not verify its kind of signature, and fails if it tries to."""
        if not self.enforce:
            return fetch(url)
        self._check_after(float("inf"))
        try:
            return fetch(url)
        finally:
            self._check_after(0)

    def create_bucket(self, name: str) -> str:
        self.client().create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> list[str]:
        return [entry["Key"] for entry in self.client().list_objects_v2(Bucket=bucket).get("Contents", [])]


class Azurite(ServerProcess):
    """Microsoft's Azure Blob emulator, from tools/azurite (installed there on first use)."""

    account = "devstoreaccount1"
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    """The emulator's published account and key."""
    version = "2021-12-02"

    @property
    def endpoint(self) -> str:
        return f"{self.url}/{self.account}"

    def command(self) -> list[str]:
        script = install_azurite() / "azurite" / "dist" / "src" / "blob" / "main.js"
        return [
            "node",
            str(script),
            "--blobHost=127.0.0.1",
            f"--blobPort={self.port}",
            "--inMemoryPersistence",
            "--skipApiVersionCheck",
            "--disableTelemetry",
            "--silent",
        ]

    def create_container(self, name: str) -> str:
        self.request("PUT", name, query="restype:container")
        return name

    def request(self, method: str, path: str, query: str = "") -> tuple[bytes, dict[str, str]]:
        """Signed with Shared Key (Azure Storage REST: Authorize with Shared Key). `query` is name:value."""
        path = quote(path)
        date = formatdate(usegmt=True)
        resource = f"/{self.account}/{self.account}/{path}" + (f"\n{query}" if query else "")
        to_sign = f"{method}{chr(10) * 12}x-ms-date:{date}\nx-ms-version:{self.version}\n{resource}"
        digest = hmac.new(base64.b64decode(self.key), to_sign.encode(), hashlib.sha256).digest()
        signature = base64.b64encode(digest).decode()
        url = f"{self.endpoint}/{path}" + (f"?{query.replace(':', '=')}" if query else "")
        request = Request(url, method=method)
        request.add_header("x-ms-date", date)
        request.add_header("x-ms-version", self.version)
        request.add_header("Authorization", f"SharedKey {self.account}:{signature}")
        with direct.open(request) as response:
            return response.read(), {name.lower(): value for name, value in response.headers.items()}

    def sas(self, container: str, permissions: str = "racwd", expires: str = "2099-01-01T00:00:00Z") -> str:
        """A service SAS for a container (version 2020-12-06 and later)."""
        resource = f"/blob/{self.account}/{container}"
        fields = [permissions, "", expires, resource, "", "", "", self.version, "c", "", "", *[""] * 5]
        digest = hmac.new(base64.b64decode(self.key), "\n".join(fields).encode(), hashlib.sha256).digest()
        signature = quote(base64.b64encode(digest).decode(), safe="")
        return f"sv={self.version}&sr=c&sp={permissions}&se={quote(expires)}&sig={signature}"


def install_azurite() -> Path:
    """node_modules of tools/azurite."""
    return install(ROOT / "tools" / "azurite", "azurite") / "node_modules"


class Versity(ServerProcess):
    """versitygw: an S3 server over a folder, which checks signatures and checksums. Buckets are folders."""

    access_key, secret = "versity-key", "test-secret-of-versity"
    region = "us-east-1"

    def command(self) -> list[str]:
        buckets = self.folder / "buckets"
        buckets.mkdir()
        return [str(find_binary("versitygw")), "--port", f"127.0.0.1:{self.port}", "posix", str(buckets)]

    def environment(self) -> dict[str, str]:
        return {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret}

    def client(self) -> Any:
        """A boto3 client: an S3 implementation that is not ours."""
        return s3_client(self.url, self.region, self.access_key, self.secret)

    def create_bucket(self, name: str) -> None:
        self.client().create_bucket(Bucket=name)


def s3_client(url: str, region: str, access_key: str, secret: str, service: str = "s3") -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        service,
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret,
        config=Config(proxies={}, s3={"addressing_style": "path"}),
    )


class AuthProxy(ServerProcess):
    """proxy.py, which lets through only clients that know its password. Its log has a line for each
    request."""

    username = "proxy user"
    password = "p@ss:word/%"

    def command(self) -> list[str]:
        return [
            str(Path(sys.executable).parent / "proxy"),
            "--hostname",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--num-workers",
            "1",
            "--num-acceptors",
            "1",
            "--basic-auth",
            f"{self.username}:{self.password}",
            "--data-dir",
            str(self.folder),
        ]


def fetch(url: str) -> tuple[int, bytes]:
    """GET without credentials: (status, body)."""
    try:
        with direct.open(url) as response:
            return response.status, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()
