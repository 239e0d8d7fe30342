"""Shell completion: every command and option is in each script, and bash completes by its script."""

import shutil
import subprocess
from pathlib import Path

import pytest

from openegress.cli.completion import bash, fish, walk, zsh
from openegress.cli.parser import build_parser

COMMANDS = list(walk(build_parser()))
SCRIPTS = {"bash": bash(COMMANDS), "zsh": zsh(COMMANDS), "fish": fish(COMMANDS)}


def completed(line: str, folder: Path) -> list[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    script = f"""{SCRIPTS["bash"]}
compopt() {{ :; }}  # it works only while readline completes
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _openegress; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-euc", script, "bash", *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("openegress st", ["start", "stems", "stop"]),
        ("openegress config ", ["check", "reference"]),
        ("openegress config ch", ["check"]),
        ("openegress start --type tr", ["track-composite", "track"]),
        ("openegress list --act", ["--active"]),
        ("openegress list --room ", []),
        ("openegress list --room stop --j", ["--json"]),
        ("openegress completion ", ["bash", "zsh", "fish"]),
        ("openegress start req", ["request.json"]),
        ("openegress serve --config ", ["folder", "request.json"]),
        ("openegress serve --data ", ["folder"]),
    ],
)
def test_bash_offers(line: str, offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    assert sorted(completed(line, tmp_path)) == sorted(offered)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_all_there_is_can_be_completed(shell: str) -> None:
    assert {command.path for command in COMMANDS} >= {"", "serve", "list", "config check", "completion"}
    script = SCRIPTS[shell]
    for command in COMMANDS:
        for name, _ in command.verbs:
            assert name in script
        for option in command.options:
            dashes = "-l " if option.startswith("--") else "-s "
            assert (dashes + option.lstrip("-") if shell == "fish" else option) in script


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_parse(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    subprocess.run([shell, "-n"], input=SCRIPTS[shell], text=True, check=True)
