"""Sizes that keep the tree readable: what is larger is in a table, with the reason.

A module is about one noun and a class knows a few things. What outgrows a limit is split by what its parts
know, not by its length. A constructor of many parameters takes a typed settings object.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import openegress

ROOT = Path(openegress.__file__).parent
GENERATED = ROOT / "proto"

MAX_LINES = 400
MAX_ATTRIBUTES = 15
MAX_PARAMETERS = 8

SERVICE = ("cli", "app", "api", "worker", "store", "psrpc")

LONG_MODULES: dict[str, str] = {}
LARGE_CLASSES: dict[str, str] = {}
LONG_CONSTRUCTORS: dict[str, str] = {}


@dataclass(frozen=True)
class Class:
    name: str
    module: str
    attributes: int
    parameters: int


def modules() -> Iterator[tuple[str, str]]:
    """(path below the package, text) of what people write."""
    for path in sorted(ROOT.rglob("*.py")):
        if not path.is_relative_to(GENERATED):
            yield path.relative_to(ROOT).as_posix(), path.read_text()


@cache
def classes() -> tuple[Class, ...]:
    return tuple(
        Class(node.name, module, attributes(node), parameters(node))
        for module, text in modules()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    )


def attributes(node: ast.ClassDef) -> int:
    """What is assigned to self anywhere, and the fields of a dataclass that is not frozen."""
    assigned = {
        target.attr
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    }
    if any(is_changing_dataclass(each) for each in node.decorator_list):
        assigned |= {
            line.target.id
            for line in node.body
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        }
    return len(assigned)


def is_changing_dataclass(decorator: ast.expr) -> bool:
    text = ast.unparse(decorator)
    return text.startswith("dataclass") and "frozen=True" not in text


def parameters(node: ast.ClassDef) -> int:
    """Of the constructor that it writes itself; a dataclass is the settings object that others take."""
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            arguments = each.args
            return len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
    return 0


def complaints(found: dict[str, int], excepted: dict[str, str]) -> list[str]:
    """None when all that is over a limit has its sentence, and nothing else has one."""
    over = [f"{name}: {found[name]}; split it, or say why not" for name in found.keys() - excepted.keys()]
    within = [f"{name} is within the limit: take it out" for name in excepted.keys() - found.keys()]
    return sorted(over + within)


def test_a_module_is_about_one_noun() -> None:
    found = {name: lines for name, text in modules() if (lines := text.count("\n")) > MAX_LINES}
    assert complaints(found, LONG_MODULES) == []


def test_a_class_knows_a_few_things() -> None:
    found = {each.name: each.attributes for each in classes() if each.attributes > MAX_ATTRIBUTES}
    assert complaints(found, LARGE_CLASSES) == []


def test_a_constructor_of_many_parameters_takes_a_settings_object() -> None:
    found = {each.name: each.parameters for each in classes() if each.parameters > MAX_PARAMETERS}
    assert complaints(found, LONG_CONSTRUCTORS) == []


def test_one_name_means_one_thing() -> None:
    modules_of: dict[str, list[str]] = defaultdict(list)
    for each in classes():
        if not each.name.startswith("_"):
            modules_of[each.name].append(each.module)
    assert not {name: where for name, where in modules_of.items() if len(where) > 1}


def test_there_is_one_way_to_log() -> None:
    """A handler's records go through the standard library to its worker; the service writes fields."""
    for module, text in modules():
        package = module.split("/")[0]
        call = "structlog.get_logger" if package in SERVICE else "logging.getLogger"
        made = re.findall(
            r"^(\w+) = (?:structlog\.get_logger|logging\.getLogger)\(__name__\)$", text, re.MULTILINE
        )
        assert made in ([], ["_log"]), module
        assert not made or f"_log = {call}(__name__)" in text, f"{module} logs with {call}"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("class A:\n def __init__(self, a, /, b, *, c): self.x = self.y = a", (2, 3)),
        ("class A:\n def f(self):\n  self.x += 1\n  self.x = other.z = 2\n  self.a, self.b = 1, 2", (3, 0)),
        ("@dataclass(slots=True)\nclass A:\n x: int\n y: int = 0\n LIMIT = 3", (2, 0)),
        ("@dataclass\nclass A:\n x: int", (1, 0)),
        ("@dataclass(frozen=True)\nclass A:\n x: int", (0, 0)),
    ],
)
def test_the_check_counts(code: str, expected: tuple[int, int]) -> None:
    node = ast.parse(code).body[0]
    assert isinstance(node, ast.ClassDef)
    assert (attributes(node), parameters(node)) == expected


def test_the_tables_give_reasons() -> None:
    for table in (LONG_MODULES, LARGE_CLASSES, LONG_CONSTRUCTORS):
        assert all(reason.endswith(".") and len(reason.split()) >= 8 for reason in table.values())


def test_what_is_over_is_noticed_and_so_is_an_exception_that_nobody_needs() -> None:
    assert complaints({"Large": 16}, {}) == ["Large: 16; split it, or say why not"]
    assert complaints({}, {"Small": "why"}) == ["Small is within the limit: take it out"]
    assert complaints({"Large": 16}, {"Large": "why"}) == []
