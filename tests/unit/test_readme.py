"""The README's figures are those that were measured. Its requests and commands: test_docs_examples."""

import re

from testkit.markdown import ROOT, table

RESULTS = table(ROOT / "bench" / "RESULTS.md", "recording")


def test_what_a_recording_costs_is_what_was_measured() -> None:
    measured = {row[0]: (row[1], row[2], *re.split(", ?", row[-1])[:2]) for row in RESULTS}
    shown = table(ROOT / "README.md", "Recording")
    assert shown
    for name, *figures in shown:
        assert tuple(figures) == measured[name]


def test_the_fork_server_costs_what_was_measured() -> None:
    (measured,) = re.findall(r"which stays: (\d+) MiB", (ROOT / "bench" / "RESULTS.md").read_text())
    (shown,) = re.findall(r"recordings are forked from takes (\d+) MiB", (ROOT / "README.md").read_text())
    assert abs(int(measured) - int(shown)) <= 5
