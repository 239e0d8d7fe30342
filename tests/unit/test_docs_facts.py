"""What the documentation states is so: files are there, links lead somewhere, tables agree with code and
measurements."""

import ast
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
import yaml
from livekit.protocol.egress import EgressInfo, WebEgressRequest
from prometheus_client.parser import text_string_to_metric_families

from openegress.app.worker_config import costs
from openegress.config.settings import Settings
from openegress.core.codecs import PRESETS
from openegress.core.errors import HTTP_STATUS, Phase
from openegress.core.events import Uploaded
from openegress.core.plan import LayoutSource, Plan
from openegress.psrpc.observer import ClaimOutcome, Role
from openegress.psrpc.services import EgressInternal
from openegress.request.layouts import TRACKS, Arrangement
from openegress.request.request_kind import RequestKind
from openegress.worker.admission import AdmissionLimits, Load
from openegress.worker.job import Job
from openegress.worker.metrics import Metrics, Snapshot
from openegress.worker.records import Record
from openegress.worker.unreported import Unreported
from testkit.markdown import PAGES, ROOT, TEXTS, code_spans, prose, table
from tests.unit.test_config_reference import paths_of

PACKAGE = ROOT / "src" / "openegress"
WHERE = (ROOT, PACKAGE, ROOT / "tests", ROOT / "deploy")
FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)+\.(?:py|ts|yaml|yml|json|md|sh|proto|toml)")


def page(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tables(path: Path) -> list[list[str]]:
    """The rows of all tables of a page."""
    lines = (line for line in path.read_text().splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


# --- files and links


@pytest.mark.parametrize("path", TEXTS, ids=page)
def test_files_that_are_named_are_there(path: Path) -> None:
    missing = []
    for span in code_spans(path):
        name, _, function = span.partition("::")
        if not FILE.fullmatch(name):
            continue
        found = next((root / name for root in WHERE if (root / name).is_file()), None)
        if found is None or (function and f"def {function}(" not in found.read_text()):
            missing.append(span)
    assert missing == []


@pytest.mark.parametrize("path", TEXTS, ids=page)
def test_links_lead_somewhere(path: Path) -> None:
    """mkdocs checks those between its own pages; README and the others link from outside."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(target)
    assert broken == []


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_page_is_in_the_navigation() -> None:
    nav = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(nav) == [path.name for path in PAGES]


def test_every_package_is_described() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {row[0] for row in table(ROOT / "docs/architecture.md", "Package")} == packages


# --- configuration

KEYS = paths_of(Settings) | {f"backup.s3.{name}" for name in ("bucket", "aws_log_level")}
TOP = {key.partition(".")[0] for key in KEYS}


@pytest.mark.parametrize("path", TEXTS, ids=page)
def test_keys_that_are_named_exist(path: Path) -> None:
    spans = {span.partition(":")[0] for span in code_spans(path)}
    dotted = {span for span in spans if re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", span)}
    assert {span for span in dotted if span.partition(".")[0] in TOP and not is_key(span)} == set()


def is_key(span: str) -> bool:
    return span in KEYS or (PACKAGE / f"{span.replace('.', '/')}").exists()


# --- errors


@cache
def texts() -> str:
    """All texts of the package, values in them as a NUL."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                found.append("".join(map(str, parts)))
    return "\n".join([*found, *(f"{phase}:" for phase in Phase)])


ERRORS = ROOT / "docs" / "troubleshooting.md"
ERROR_ROWS = re.findall(r"^\| (`.*?) \| ", ERRORS.read_text(), re.MULTILINE)


@pytest.mark.parametrize("cell", ERROR_ROWS)
def test_errors_that_are_explained_exist(cell: str) -> None:
    for part in re.findall(r"`([^`]+)`", cell):
        if part not in ("error", "details"):
            assert part in texts()


def test_statuses_of_refusals() -> None:
    for code, status, _ in table(ROOT / "docs/requests.md", "Code"):
        assert {each.value: each for each in HTTP_STATUS}[code].http_status == int(status)


# --- tables


def test_presets_are_what_the_code_has() -> None:
    shown = [
        (size, int(rate), int(kbps)) for _, size, rate, kbps in table(ROOT / "docs/requests.md", "Preset")
    ]
    assert shown == [
        (f"{preset.width}x{preset.height}", preset.framerate, preset.video_kbps)
        for _, preset in sorted(PRESETS.items())
    ]


def test_layouts_are_what_the_code_has() -> None:
    shown = {row[0].removesuffix(" (default)") for row in table(ROOT / "docs/requests.md", "Layout")}
    assert shown == {*Arrangement, TRACKS}


COSTS = {
    "room composite": RequestKind.ROOM_COMPOSITE,
    "room composite by a template page": RequestKind.ROOM_COMPOSITE_PAGE,
    "room composite, audio only": RequestKind.AUDIO_ROOM_COMPOSITE,
    "web page": RequestKind.WEB,
    "web page, audio only": RequestKind.AUDIO_WEB,
    "participant": RequestKind.PARTICIPANT,
    "track composite": RequestKind.TRACK_COMPOSITE,
    "track": RequestKind.TRACK,
    "all tracks of a room": RequestKind.ROOM_TRACKS,
}


def test_costs_are_those_that_admission_counts() -> None:
    ours = costs(Settings())
    shown = {row[0]: (float(row[1]), int(row[2])) for row in table(ROOT / "docs/sizing.md", "Request")}
    assert shown == {
        name: (ours[kind].cores, ours[kind].memory_bytes // 2**20) for name, kind in COSTS.items()
    }


def measured_cores() -> dict[str, float]:
    return {row[0]: float(row[1]) for row in table(ROOT / "bench/RESULTS.md", "recording")}


def test_the_calculator_follows_from_the_measurements() -> None:
    share = Settings().cpu_cost.max_cpu_utilization
    rows = [row for row in tables(ROOT / "docs/sizing.md") if len(row) == 5 and row[1].isdigit()]
    assert len(rows) == 5
    for name, *counts in rows:
        cores = measured_cores()[name]
        assert [int(count) for count in counts] == [int(size * share / cores) for size in (2, 4, 8, 16)]


# --- metrics


@pytest.fixture
async def exported(tmp_path: Path) -> dict[str, set[str]]:
    """Labels by metric, of all that a worker exports after an egress, two uploads and two calls."""

    async def taken(info: EgressInfo) -> None:
        """Nobody asks here what was reported."""

    info = EgressInfo(egress_id="EG_1", web=WebEgressRequest())
    source = LayoutSource(room_name="r", layout="", ws_url="ws://l", token="t")
    plan = Plan(egress_id="EG_1", source=source, outputs=(), video=None, audio=None)
    job = Job(plan, "web", Record(info, taken, Unreported(tmp_path)), lambda *_: None)
    snapshot = Snapshot(Load(8, 0, 1, 1), [job], False, True, {}, AdmissionLimits())
    metrics = Metrics("NE_1", "C", lambda: snapshot)
    metrics.count_end(job)
    metrics.count_key_answer("given")
    metrics.count_upload(Uploaded("video/mp4", 1.0))
    metrics.count_upload(Uploaded("video/mp4", 1.0, on_backup=True))
    metrics.bus.received(EgressInternal.START_EGRESS)
    metrics.bus.expired(EgressInternal.START_EGRESS)
    metrics.bus.claimed(EgressInternal.START_EGRESS, ClaimOutcome.GRANTED, 1.0)
    for error in ("", "unavailable"):
        metrics.bus.called(Role.SERVER, EgressInternal.START_EGRESS, 1.0, error, 1, 1)
    text = metrics.render().decode()
    names = {
        name for name in re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE) if not name.endswith("_created")
    }
    found: dict[str, set[str]] = {name: set() for name in names}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(without_suffix(sample.name, names), set()).update(sample.labels)
    return {name: labels for name, labels in found.items() if name in names}


def without_suffix(name: str, names: Iterable[str]) -> str:
    """Of a histogram's series."""
    for suffix in ("_bucket", "_sum", "_count"):
        if name.endswith(suffix) and name.removesuffix(suffix) in names:
            return name.removesuffix(suffix)
    return name


METRIC_ROWS = [
    row for row in tables(ROOT / "docs/operations.md") if row[0].startswith(("`livekit_", "`openegress_"))
]


def test_every_metric_is_explained_and_no_other(exported: dict[str, set[str]]) -> None:
    shown = {row[0].strip("`") for row in METRIC_ROWS}
    assert shown == {name for name in exported if name.startswith(("livekit_", "openegress_"))}


def test_labels_of_metrics_are_those_that_are_exported(exported: dict[str, set[str]]) -> None:
    """Those of one egress share their labels, and have no column for them."""
    for name, _, *rest in METRIC_ROWS:
        told = rest[0].partition(":")[0] if len(rest) == 2 else "`egress_id`, `type`"
        labels = set(re.findall(r"`(\w+)`", told))
        assert labels == exported[name.strip("`")] - {"node_id", "cluster_id", "le"}


def queries() -> list[tuple[str, str]]:
    dashboard = json.loads((ROOT / "deploy/grafana/openegress.json").read_text())
    found = [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    found += [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]
    scaled = yaml.safe_load((ROOT / "deploy/keda/scaledobject.yaml").read_text())
    found.append(("KEDA", scaled["spec"]["triggers"][0]["metadata"]["query"]))
    return found


@pytest.mark.parametrize(("place", "query"), queries(), ids=lambda value: value[:40])
def test_queries_ask_for_metrics_that_are_exported(
    place: str, query: str, exported: dict[str, set[str]]
) -> None:
    assert query.count("(") == query.count(")")
    names = set(re.findall(r"\b((?:livekit|openegress|process)_\w+|up)\b", re.sub(r'"[^"]*"', '""', query)))
    assert names
    assert {without_suffix(name, exported) for name in names} <= {"up", *exported}
    for name, selector in re.findall(r"\b((?:livekit|openegress)_\w+)\{([^}]*)\}", query):
        labels = set(re.findall(r"(\w+)\s*[=!]~?\s*\"", selector))
        assert labels <= exported[without_suffix(name, exported)]


def test_every_alert_is_explained() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert {row[0] for row in table(ROOT / "docs/operations.md", "Alert")} == alerts


def test_the_dashboard_can_be_imported() -> None:
    """Every panel has a place of its own, a unit, and the data source that the reader chooses."""
    dashboard = json.loads((ROOT / "deploy/grafana/openegress.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    sources = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert sources == {"${datasource}"}
    assert {each["name"] for each in dashboard["templating"]["list"]} == {"datasource", "node"}
