"""Checks whether playlists follow the rules of HLS: RFC 8216 by hls-parser's strict mode, and what players
and Apple's validator measure beyond that."""

import json
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

from testkit.node_packages import install

HOME = Path(__file__).parents[1] / "tools" / "hls-parser"

DATE_SLACK_S = 0.002
"""Dates are given in milliseconds."""


def check(path: Path) -> None:
    """Raises CalledProcessError for invalid syntax, AssertionError for a broken rule.

    No duration rounds to more than the target (4.3.3.1); the one before a pause may be of a moment. Dates
    advance by the durations, except at a discontinuity. Another initialisation segment comes with a
    discontinuity. A discontinuity increases its counter by one (6.2.1).
    """
    found = _read(path)
    segments = found["segments"]
    assert segments
    for segment in segments:
        assert segment["duration"] > 0 and int(segment["duration"] + 0.5) <= found["target"], segment
    for before, after in pairwise(segments):
        assert after["sequence"] - before["sequence"] == int(after["discontinuity"]), after
        step_s = after["date"] - before["date"]
        if after["discontinuity"]:
            assert step_s >= before["duration"] - DATE_SLACK_S, after
        else:
            assert abs(step_s - before["duration"]) <= DATE_SLACK_S, after
            assert after["map"] == before["map"], after


def _read(path: Path) -> Any:
    home = install(HOME, "hls-parser")
    done = subprocess.run(["node", "read.js", str(path.resolve())], cwd=home, check=True, capture_output=True)
    return json.loads(done.stdout)
