"""What is shipped to run openegress in containers says what it should: configurations that load, a Dockerfile
that lints and finds its files, metrics and ports that exist."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from openegress.config.load import load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "openegress"


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def interpolated(text: str) -> str:
    """Compose's ${NAME:-default}, with nothing set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = parsed(DEPLOY / "compose.yaml")
    return found


def test_the_configuration_in_compose_is_all_understood(compose: dict[str, Any]) -> None:
    body = interpolated(compose["services"]["egress"]["environment"]["EGRESS_CONFIG_BODY"])
    loaded = load(body=body, environ={})
    assert list(loaded.warnings) == []
    server = yaml.safe_load(interpolated(compose["services"]["livekit"]["environment"]["LIVEKIT_CONFIG"]))
    settings = loaded.settings
    assert server["keys"] == {settings.api_key: settings.api_secret.reveal()}
    assert settings.redis.address == server["redis"]["address"] == "redis:6379"
    assert settings.ws_url == f"ws://livekit:{server['port']}"
    assert f":{settings.health_port}/healthz" in compose["services"]["egress"]["healthcheck"]["test"][-1]
    mounts = [volume.split(":")[1] for volume in compose["services"]["egress"]["volumes"]]
    assert str(settings.output_path) in mounts


def test_compose_names_what_is_there(compose: dict[str, Any]) -> None:
    egress = compose["services"]["egress"]
    context = (DEPLOY / egress["build"]["context"]).resolve()
    assert (context / egress["build"]["dockerfile"]).is_file()
    profiles = [option.partition("seccomp=")[2] for option in egress["security_opt"] if "seccomp=" in option]
    assert [(DEPLOY / profile).is_file() for profile in profiles] == [True]
    used = {volume.split(":")[0] for volume in egress["volumes"]}
    assert used == set(compose["volumes"])


def test_the_charts_configuration_is_understood() -> None:
    values = parsed(CHART / "values.yaml")
    loaded = load(
        body=yaml.safe_dump({**values["egress"], "ws_url": "ws://h", "api_key": "k", "api_secret": "s"}),
        environ={},
    )
    assert (loaded.settings.health_port, loaded.settings.prometheus_port) == (8080, 9090)


def instructions(name: str) -> list[str]:
    """Of the Dockerfile, continuation lines joined."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    lines = (line.strip() for line in text.splitlines())
    return [line.partition(" ")[2].strip() for line in lines if line.startswith(f"{name} ")]


def test_dockerfile_lints() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0


def test_dockerfile_runs_the_worker_as_an_unprivileged_user() -> None:
    assert json.loads(instructions("ENTRYPOINT")[-1]) == ["tini", "--", "openegress"]
    assert json.loads(instructions("CMD")[-1]) == ["worker"]
    user = instructions("USER")[-1].partition(":")[0]
    assert int(user) > 0
    values = parsed(CHART / "values.yaml")
    assert values["podSecurityContext"]["runAsUser"] == int(user)


def test_dockerfile_copies_what_exists() -> None:
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [line for line in instructions("COPY") if not line.startswith("--from")]
    assert copied
    for line in copied:
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source.split('/')[0]}" in allowed


def test_the_pages_are_built_where_the_image_takes_them_from() -> None:
    built = {path: (ROOT / "web" / path).read_text() for path in ("vite.template.config.ts",)}
    assert '"../../src/openegress/api/static/template"' in built["vite.template.config.ts"]
    taken = next(line for line in instructions("COPY") if line.startswith("--from=pages"))
    assert taken.split()[1:] == ["/build/src/openegress/api/static/", "src/openegress/api/static/"]


def test_seccomp_profile_lets_chromium_build_its_sandbox_and_nobody_more() -> None:
    profile = json.loads((DEPLOY / "seccomp.json").read_text())
    allowed = set(profile["syscalls"][0]["names"])
    refused = set(profile["syscalls"][-1]["names"])
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {"clone", "clone3", "unshare", "chroot", "seccomp", "execve", "futex"} <= allowed
    assert {"mount", "bpf", "init_module", "kexec_load", "ptrace", "keyctl", "setns", "reboot"} <= refused
    assert allowed & refused == set()


def test_keda_asks_for_metrics_that_are_exported() -> None:
    scaled = parsed(DEPLOY / "keda" / "scaledobject.yaml")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    exported = "".join(path.read_text() for path in (ROOT / "src/openegress/worker").glob("*.py"))
    names = set(re.findall(r"livekit_egress_\w+", query))
    assert names == {"livekit_egress_can_accept_request", "livekit_egress_is_terminating"}
    for name in names:
        assert name.removeprefix("livekit_egress_") in exported
    assert query.count("(") == query.count(")")


def test_charts_and_package_have_one_version() -> None:
    chart = parsed(CHART / "Chart.yaml")
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert chart["version"] == chart["appVersion"] == version[1]


def test_node_is_new_enough_for_the_pages() -> None:
    image = instructions("FROM")[0]
    engine = json.loads((ROOT / "web" / "package.json").read_text())["engines"]["node"]
    assert int(image.removeprefix("node:").split("-")[0]) >= int(re.sub(r"[^\d.]", "", engine).split(".")[0])
