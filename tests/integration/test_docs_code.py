"""Code in the documentation that other languages' own tools can read."""

import re
import subprocess
from pathlib import Path

import pytest

from testkit.markdown import PAGES, Block, blocks

CHECKS = {"js": ("snippet.mjs", ["node", "--check"]), "go": ("snippet.go", ["gofmt", "-l", "-e"])}
SNIPPETS = [block for block in blocks(PAGES) if block.language in CHECKS]


@pytest.mark.parametrize("block", SNIPPETS, ids=str)
def test_it_can_be_parsed(block: Block, tmp_path: Path) -> None:
    """Go's is formatted as well: gofmt lists what it would change."""
    name, command = CHECKS[block.language]
    path = tmp_path / name
    path.write_text(block.text)
    done = subprocess.run([*command, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_scripts_of_pages_can_be_parsed(tmp_path: Path) -> None:
    scripts = [
        script
        for block in blocks(PAGES)
        if block.language == "html"
        for script in re.findall(r'<script type="module">(.*?)</script>', block.text, re.DOTALL)
    ]
    assert scripts
    for script in scripts:
        path = tmp_path / "script.mjs"
        path.write_text(script)
        done = subprocess.run(["node", "--check", path], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_there_is_a_snippet_of_each() -> None:
    assert {block.language for block in SNIPPETS} == set(CHECKS)
