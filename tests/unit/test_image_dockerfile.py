"""The Dockerfile as scripts.image reads it."""

from pathlib import Path, PurePosixPath

import pytest

from scripts.image.dockerfile import Copy, Step, ignored, parse

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_ours_is_understood() -> None:
    pages, python, image = parse((DEPLOY / "Dockerfile").read_text())
    assert [stage.name for stage in (pages, python, image)] == ["pages", "python", ""]
    assert image.image == python.image == "debian:12-slim"
    assert image.last("ENTRYPOINT").words() == ["tini", "--", "openegress"]
    copies = [
        Copy.of(step) for stage in (pages, python, image) for step in stage.steps if step.name == "COPY"
    ]
    assert {copy.stage for copy in copies} == {"", "pages", "python"}


def test_lines_go_on_through_comments_and_name_what_they_set() -> None:
    (stage,) = parse("FROM debian:12-slim AS a\n# no\nENV A=$B:/x \\\n# between\n    C='d e'\n")
    assert stage.steps[0].pairs({"B": "/b"}) == {"A": "/b:/x", "C": "d e"}


@pytest.mark.parametrize("text", ["RUN true\n", "FROM a\nADD x y\n", "FROM a\nHEALTHCHECK NONE\n"])
def test_what_it_cannot_do_it_does_not_pass_over(text: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        parse(text)


def test_a_copy_names_its_stage_sources_and_target() -> None:
    assert Copy.of(Step("COPY", "--from=x a b c/")) == Copy("x", ("a", "b"), "c/")
    with pytest.raises(ValueError, match="--chown"):
        Copy.of(Step("COPY", "--chown=1 a b"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("src/openegress/cli/main.py", False),
        ("src/openegress/cli/__pycache__/main.pyc", True),
        ("src/openegress/api/static/template/index.html", True),
        ("web/node_modules/vite/index.js", True),
        ("web/package.json", False),
        ("tests/unit/test_deploy.py", True),
        (".git/config", True),
    ],
)
def test_what_stays_out_of_the_context(path: str, expected: bool) -> None:
    patterns = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert ignored(PurePosixPath(path), patterns) is expected
