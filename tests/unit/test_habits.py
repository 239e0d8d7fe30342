"""Files that Git, CI and pre-commit read: the same checks everywhere, pinned actions, one form of message."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from testkit.markdown import ROOT, TEXTS, code_spans, table
from tests.conftest import LONG

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_commands_exist(workflow: Path) -> None:
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), "a tag can be moved"
        elif step["run"].startswith("make "):
            assert step["run"].removeprefix("make ") in TARGETS


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_pinned_action_names_its_version(workflow: Path) -> None:
    for line in re.findall(r"uses: .+", workflow.read_text()):
        assert re.search(r" # v\d+\.\d+\.\d+$", line), line


def test_workflows_have_no_right_that_they_do_not_name() -> None:
    for workflow in WORKFLOWS:
        assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


def test_python_versions_of_ci_begin_with_the_oldest_that_is_supported() -> None:
    (oldest,) = re.findall(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text())
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    assert ci["jobs"]["check"]["strategy"]["matrix"]["python"][0] == oldest


def test_files_that_begin_first_exist() -> None:
    assert [name for name in LONG if not (ROOT / "tests" / name).is_file()] == []
    assert "--no-loadscope-reorder" in MAKEFILE


def test_pre_commit_checks_what_make_check_does() -> None:
    (recipe,) = re.findall(r"^check: .*\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    checks = [line.strip().replace("$(PYTHON)", ".venv/bin/python") for line in recipe.splitlines()]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"] for hook in repository["hooks"] if hook.get("stages") != ["commit-msg"]]
    assert [hook.removeprefix(".venv/bin/") for hook in hooks] == [
        check.removeprefix(".venv/bin/") for check in checks
    ]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_make_targets_that_are_named_exist(path: Path) -> None:
    named = {span.split()[1] for span in code_spans(path) if re.match(r"make [a-z]", span)}
    assert named <= TARGETS


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("output: end a stream that nobody takes", ""),
        ("store, psrpc: check ids where they enter\n\nThey name keys.", ""),
        ("Merge branch 'people'", ""),
        ("# a comment of git's\nroom: join again", ""),
        ("room: " + "x" * 66, ""),
        ("room: " + "x" * 67, "more than 72 characters"),
        ("room: join again.", "full stop"),
        ("Join again", "component: imperative"),
        ("Room: join again", "component: imperative"),
        ("room:join again", "component: imperative"),
        ("room: join again\nbecause", "second line"),
        ("", "component: imperative"),
    ],
)
def test_messages_of_commits(message: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "COMMIT_EDITMSG"
    path.write_text(message + "\n", encoding="utf-8")
    done = subprocess.run([ROOT / "scripts" / "commit-msg", path], capture_output=True, text=True)
    assert complaint in done.stderr
    assert done.returncode == bool(complaint)


def test_the_sdist_carries_what_the_wheel_is_made_of() -> None:
    """Wheels are built from it: pages that were built before are not in Git."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    targets = pyproject["tool"]["hatch"]["build"]["targets"]
    assert targets["sdist"]["artifacts"] == targets["wheel"]["artifacts"]
    for name in (f"/{pyproject['project']['readme']}", "/LICENSE", "/NOTICE", "/src"):
        assert name in targets["sdist"]["include"]


def test_the_changelog_has_the_sections_of_keep_a_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[0] == "[Unreleased]"
    allowed = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Dependencies"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= allowed


def test_every_dependency_has_its_reason_in_the_changelog() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["dependencies"]
    reasons = {name for row in table(ROOT / "CHANGELOG.md", "Package") for name in re.split(r",? ", row[0])}
    assert {re.split(r"[=<>]", each)[0] for each in named} <= reasons
