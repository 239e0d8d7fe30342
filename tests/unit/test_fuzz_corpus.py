"""What the fuzzers start from, and what they have found: each target takes all of its corpus."""

from pathlib import Path

import pytest

from tests.fuzz.__main__ import CORPUS, names
from tests.fuzz.targets import TARGETS

INPUTS = sorted(path for path in CORPUS.glob("*/*"))


def test_each_target_has_a_corpus() -> None:
    assert names() == sorted(TARGETS)


def test_the_docs_tell_how_many_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security-matrix.md").read_text()
    assert f"each of the {len(TARGETS)} parsers" in page


@pytest.mark.timeout(10)
@pytest.mark.parametrize("path", INPUTS, ids=[f"{path.parent.name}/{path.name}" for path in INPUTS])
def test_replayed(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())
