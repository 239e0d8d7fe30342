"""The chart, rendered as Helm renders it: upstream's values do what they did, and what is ours is valid."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from openegress.config.load import load
from testkit.markdown import PAGES, Block, blocks

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "openegress"

UPSTREAM_VALUES = """
replicaCount: 3
image: {repository: example/egress, tag: v9, pullPolicy: Always}
egress:
  log_level: debug
  health_port: 8081
  prometheus_port: 9091
  api_key: key
  api_secret: the-secret
  ws_url: wss://livekit.example.com
  redis: {address: "redis:6379"}
  s3: {access_key: a, secret: b, bucket: recordings, region: eu-west-1}
terminationGracePeriodSeconds: 7200
autoscaling: {enabled: false, minReplicas: 1, maxReplicas: 5}
nodeSelector: {disk: ssd}
resources: {requests: {cpu: 4, memory: 4Gi}}
serviceAccount: {create: true, annotations: {role: r}, name: recorder}
podAnnotations: {sidecar.istio.io/inject: "false"}
tolerations: [{key: video, operator: Exists}]
affinity: {}
"""


Objects = dict[tuple[str, str], Any]


class Chart:
    def __init__(self, renderer: Path, folder: Path) -> None:
        self._renderer = renderer
        self._folder = folder

    def _run(self, values: str) -> subprocess.CompletedProcess[str]:
        path = self._folder / "values.yaml"
        path.write_text(values)
        command = [str(self._renderer), str(CHART), "trial", str(path)]
        return subprocess.run(command, capture_output=True, text=True)

    def render(self, values: str = "") -> Objects:
        done = self._run(values)
        assert done.returncode == 0, done.stderr
        documents = [document for document in yaml.safe_load_all(done.stdout) if document]
        return {(document["kind"], document["metadata"]["name"]): document for document in documents}

    def refusal(self, values: str) -> str:
        done = self._run(values)
        assert done.returncode != 0
        return done.stderr


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("helm") / "helm-template"
    subprocess.run(
        ["go", "build", "-trimpath", "-o", str(built), "."],
        cwd=ROOT / "tools" / "helm-template",
        env={**os.environ, "CGO_ENABLED": "0"},
        check=True,
    )
    return built


@pytest.fixture
def chart(renderer: Path, tmp_path: Path) -> Chart:
    return Chart(renderer, tmp_path)


@pytest.mark.parametrize("values", ["", UPSTREAM_VALUES])
def test_every_object_is_labelled_and_named(chart: Chart, values: str) -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["apiVersion"] == "v2"
    for (kind, name), document in chart.render(values).items():
        assert document["apiVersion"], kind
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name), f"{kind} {name}"
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == about["name"]
        assert labels["helm.sh/chart"] == f"{about['name']}-{about['version']}"


def test_upstreams_values_work_unchanged(chart: Chart) -> None:
    objects = chart.render(UPSTREAM_VALUES)
    assert sorted(objects) == [
        ("Deployment", "trial-openegress"),
        ("NetworkPolicy", "trial-openegress"),
        ("Secret", "trial-openegress"),
        ("ServiceAccount", "recorder"),
    ]
    config = objects["Secret", "trial-openegress"]["stringData"]["config.yaml"]
    settings = load(body=config, environ={}).settings
    assert (settings.api_key, settings.api_secret.reveal()) == ("key", "the-secret")
    assert (settings.health_port, settings.prometheus_port) == (8081, 9091)
    assert settings.redis.address == "redis:6379"

    deployment = objects["Deployment", "trial-openegress"]["spec"]
    pod = deployment["template"]["spec"]
    container = pod["containers"][0]
    assert deployment["replicas"] == 3
    assert container["image"] == "example/egress:v9"
    assert container["args"] == ["worker"]
    assert pod["terminationGracePeriodSeconds"] == 7200
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["tolerations"] == [{"key": "video", "operator": "Exists"}]
    assert pod["serviceAccountName"] == "recorder"
    assert container["resources"]["requests"] == {"cpu": 4, "memory": "4Gi"}
    secret = {"name": "trial-openegress", "key": "config.yaml"}
    assert container["env"] == [{"name": "EGRESS_CONFIG_BODY", "valueFrom": {"secretKeyRef": secret}}]
    assert "the-secret" not in yaml.safe_dump(objects["Deployment", "trial-openegress"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"health": 8081, "metrics": 9091}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}


def test_defaults(chart: Chart) -> None:
    pod = chart.render()["Deployment", "trial-openegress"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["terminationGracePeriodSeconds"] == 3600
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["spool"] == "/home/egress/.local/share/openegress"
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    assert {"/tmp", "/dev/shm"} < set(mounts.values())
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ("", ["health", "metrics"]),
        ("command: serve", ["api", "health", "metrics"]),
        ("egress: {health_port: 0, prometheus_port: 0}", []),
    ],
)
def test_nothing_but_our_ports_is_open(chart: Chart, values: str, ports: list[str]) -> None:
    objects = chart.render(values)
    policy = objects["NetworkPolicy", "trial-openegress"]["spec"]
    assert policy["policyTypes"] == ["Ingress"] and "egress" not in policy
    rules = policy["ingress"] or []
    assert [port["port"] for rule in rules for port in rule["ports"]] == ports
    assert all("from" not in rule for rule in rules)
    template = objects["Deployment", "trial-openegress"]["spec"]["template"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    named = {port["name"] for port in template["spec"]["containers"][0].get("ports") or []}
    assert set(ports) == named
    assert "NetworkPolicy" not in {kind for kind, _ in chart.render("networkPolicy: {enabled: false}")}


def test_networks_that_pods_do_not_reach(chart: Chart) -> None:
    policy = chart.render(
        """
networkPolicy:
  denyTo: [169.254.169.254/32, "fd00:ec2::254/128"]
  metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]
"""
    )["NetworkPolicy", "trial-openegress"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    blocks = [to["ipBlock"] for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    assert blocks == [
        {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]},
        {"cidr": "::/0", "except": ["fd00:ec2::254/128"]},
    ]
    (metrics,) = [rule for rule in policy["ingress"] if rule["ports"][0]["port"] == "metrics"]
    assert metrics["from"] == [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]


def test_everything_turned_on(chart: Chart) -> None:
    objects = chart.render(
        """
command: serve
fullnameOverride: egress
seccompProfile: openegress.json
spool: {volume: {hostPath: {path: /var/spool/egress}}}
egress: {health_port: 8080, prometheus_port: 9090, port: 7000}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
podDisruptionBudget: {enabled: true}
extraVolumes: [{name: out, emptyDir: {}}]
extraVolumeMounts: [{name: out, mountPath: /out}]
extraEnv: [{name: A, value: "1"}]
autoscaling:
  enabled: true
  minReplicas: 2
  maxReplicas: 9
  custom: {metricName: livekit_egress_available, targetAverageValue: 70}
"""
    )
    assert sorted(objects) == [
        ("Deployment", "egress"),
        ("HorizontalPodAutoscaler", "egress"),
        ("NetworkPolicy", "egress"),
        ("PodDisruptionBudget", "egress"),
        ("Secret", "egress"),
        ("Service", "egress"),
        ("Service", "egress-metrics"),
        ("ServiceMonitor", "egress"),
    ]
    deployment = objects["Deployment", "egress"]["spec"]
    container = deployment["template"]["spec"]["containers"][0]
    assert "replicas" not in deployment
    assert {"name": "api", "containerPort": 7000} in container["ports"]
    assert container["securityContext"]["seccompProfile"]["localhostProfile"] == "openegress.json"
    volumes = {volume["name"]: volume for volume in deployment["template"]["spec"]["volumes"]}
    assert volumes["spool"] == {"name": "spool", "hostPath": {"path": "/var/spool/egress"}}
    assert "out" in volumes
    pods = objects["HorizontalPodAutoscaler", "egress"]["spec"]["metrics"][0]["pods"]
    assert pods["metric"] == {"name": "livekit_egress_available"}
    selector = objects["ServiceMonitor", "egress"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= objects["Service", "egress-metrics"]["metadata"]["labels"].items()
    assert not selector.items() <= objects["Service", "egress"]["metadata"]["labels"].items()


def test_scaling_is_by_cpu_unless_told(chart: Chart) -> None:
    scaler = chart.render("autoscaling: {enabled: true}")["HorizontalPodAutoscaler", "trial-openegress"]
    target = scaler["spec"]["metrics"][0]["resource"]
    assert target == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}


def test_a_secret_of_ones_own(chart: Chart) -> None:
    objects = chart.render("storeSecretsInSecret: {existingSecret: vault}")
    assert ("Secret", "trial-openegress") not in objects
    container = objects["Deployment", "trial-openegress"]["spec"]["template"]["spec"]["containers"][0]
    assert container["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "vault"


def test_no_health_port_no_probes(chart: Chart) -> None:
    objects = chart.render("egress: {health_port: 0}")
    container = objects["Deployment", "trial-openegress"]["spec"]["template"]["spec"]["containers"][0]
    assert "livenessProbe" not in container
    assert [port["name"] for port in container["ports"]] == ["metrics"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("command: doctor", "it may be worker or serve"),
        ("{serviceMonitor: {enabled: true}, egress: {prometheus_port: 0}}", "needs egress.prometheus_port"),
    ],
)
def test_values_that_cannot_work_are_refused(chart: Chart, values: str, words: str) -> None:
    assert words in chart.refusal(values)


@pytest.mark.parametrize("block", [each for each in blocks(PAGES) if each.title == "values.yaml"], ids=str)
def test_values_in_the_documentation_render(chart: Chart, block: Block) -> None:
    objects = chart.render(block.text)
    (secret,) = (found for (kind, _), found in objects.items() if kind == "Secret")
    loaded = load(body=secret["stringData"]["config.yaml"], environ={})
    assert loaded.settings.health_port == 8080
    (policy,) = (found for (kind, _), found in objects.items() if kind == "NetworkPolicy")
    denied = yaml.safe_load(block.text).get("networkPolicy", {}).get("denyTo", [])
    assert all(network in str(policy["spec"].get("egress")) for network in denied)
