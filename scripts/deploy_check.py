"""`make deploy-check`: what GitHub and Kubernetes are handed, read by tools made for it.

Workflow files by actionlint and zizmor, and the chart's objects by the types of the Kubernetes API itself.
The tools come from the Go module proxy and PyPI, in these versions.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from testkit.markdown import PAGES, blocks

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "openegress"
WORKFLOWS = ROOT / ".github" / "workflows"
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
ZIZMOR = "zizmor==1.32.0"
EVERYTHING = """
egress: {health_port: 8080, prometheus_port: 9090, redis: {address: "redis:6379"}}
command: serve
autoscaling: {enabled: true, targetCPUUtilizationPercentage: 60, targetMemoryUtilizationPercentage: 80}
serviceAccount: {create: true, annotations: {role: recorder}}
seccompProfile: seccomp.json
spool: {volume: {hostPath: {path: /var/spool/openegress}}}
temporary: {sizeLimit: 2Gi}
networkPolicy: {denyTo: [169.254.169.254/32], apiFrom: [{podSelector: {}}]}
podDisruptionBudget: {enabled: true}
serviceMonitor: {enabled: true}
resources: {requests: {cpu: 2, memory: 2Gi}, limits: {memory: 4Gi}}
extraEnv: [{name: TZ, value: Europe/Berlin}]
"""


def values_files() -> list[tuple[str, str]]:
    """(name, YAML): none, all that can be turned on, and the examples of the documentation."""
    documented = [(str(block), block.text) for block in blocks(PAGES) if block.title == "values.yaml"]
    return [("the defaults", "{}"), ("everything", EVERYTHING), *documented]


def workflow_complaints() -> Iterator[str]:
    commands = (
        ["go", "run", ACTIONLINT],
        ["uv", "tool", "run", "--quiet", ZIZMOR, "--offline", "--quiet", "--no-progress", str(WORKFLOWS)],
    )
    for command in commands:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            yield f"{command[-1]}: {done.stdout}{done.stderr}"


def chart_complaints(folder: Path) -> Iterator[str]:
    for tool in ("helm-template", "kube-types"):
        subprocess.run(["go", "build", "-o", str(folder / tool), "."], cwd=ROOT / "tools" / tool, check=True)
    for name, text in values_files():
        values = folder / "values.yaml"
        values.write_text(text)
        render = [str(folder / "helm-template"), str(CHART), "trial", str(values)]
        rendered = subprocess.run(render, capture_output=True, text=True, check=False)
        if rendered.returncode:
            yield f"the chart with {name}: {rendered.stderr}"
            continue
        checked = subprocess.run(
            [str(folder / "kube-types")], input=rendered.stdout, capture_output=True, text=True, check=False
        )
        if checked.returncode:
            yield f"the chart with {name}: {checked.stderr}"


def main() -> int:
    failed = list(workflow_complaints())
    with tempfile.TemporaryDirectory() as folder:
        failed += chart_complaints(Path(folder))
    for complaint in failed:
        print(f"deploy-check: {complaint}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
