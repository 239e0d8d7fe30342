"""Each row of the security matrix names tests that are there, and each test of an attack has a row."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "security-matrix.md").read_text()
NAMED = re.compile(r"`((?:unit|integration|e2e)/test_\w+\.py)(?:::(test_\w+))?`")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith("|---") and "what happens" not in line
]
WITHIN_ANOTHER = {"Decoders: code that was taken over while it read what strangers send"}
"""Sections whose text names the test that tries every row."""


@cache
def definitions(file: str) -> dict[str, ast.stmt]:
    """Functions and classes of a file, by name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tree = ast.parse((TESTS / file).read_text())
    return {node.name: node for node in tree.body if isinstance(node, kinds)}


@cache
def source_of(file: str, function: str) -> str:
    """Of a test with all of its file that it uses, fixtures too; "": of the whole file."""
    if not function:
        return (TESTS / file).read_text()
    known, used, waiting = definitions(file), set[str](), [function]
    while waiting:
        name = waiting.pop()
        if name in used or name not in known:
            continue
        used.add(name)
        for node in ast.walk(known[name]):
            waiting += [node.id] if isinstance(node, ast.Name) else []
            waiting += [node.arg] if isinstance(node, ast.arg) else []
    return "\n".join(ast.unparse(known[name]) for name in sorted(used))


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_each_attack_is_carried_out(row: list[str]) -> None:
    attack, outcome, beside, by = row
    assert attack and outcome and beside
    if by == "-":
        section = PAGE[: PAGE.index(attack)].rpartition("\n## ")[2].partition("\n")[0]
        assert section in WITHIN_ANOTHER
    else:
        assert NAMED.search(by), "no test is named"


WATCHED_BY = {
    "a recording": re.compile(r"unharmed_recording|composite_beside|counters\("),
    "`/healthz`": re.compile(r"keeps_nobody_waiting|HealthWatch|/healthz"),
}
"""What tests have that look at whoever is beside the attack."""


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_whoever_is_beside_it_is_looked_at(row: list[str]) -> None:
    attack, _, beside, by = row
    named = NAMED.findall(by)
    if "People in the room" in PAGE[: PAGE.index(attack)].rpartition("\n## ")[2]:
        named.append(("e2e/test_attacks_room.py", "test_whatever_a_participant_sends"))
    sources = [source_of(file, function) for file, function in named]
    for who, looks in WATCHED_BY.items():
        assert who not in beside or any(map(looks.search, sources)), f"{who} beside: {attack}"


@pytest.mark.parametrize(("file", "function"), sorted(set(NAMED.findall(PAGE))))
def test_each_test_is_there(file: str, function: str) -> None:
    assert (TESTS / file).is_file()
    assert not function or function in definitions(file)


def test_each_test_of_an_attack_has_a_row() -> None:
    told = set(NAMED.findall(PAGE))
    for path in (TESTS / "e2e").glob("test_attacks_*.py"):
        file = f"e2e/{path.name}"
        tests = {name for name in definitions(file) if name.startswith("test_")}
        missing = {name for name in tests if (file, name) not in told}
        assert (file, "") in told or not missing, f"{file}: {sorted(missing)}"
