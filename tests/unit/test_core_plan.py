"""A plan says nothing that nobody carries out."""

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec

import openegress
from openegress.core import plan

SOURCES = Path(openegress.__file__).parent
WRITERS = {"request", "config", "proto"}
"""They make plans."""
NAMES = SOURCES / "request" / "output_names.py"
"""It carries out what a plan says of names."""


def read_in(tree: ast.AST) -> Iterator[str]:
    """Names of attributes that are read; by position, of all of a class' fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        if isinstance(node, ast.MatchClass):
            yield from node.kwd_attrs
            kind = getattr(plan, getattr(node.cls, "id", getattr(node.cls, "attr", "")), None)
            yield from getattr(kind, "__struct_fields__", ())[: len(node.patterns)]


def test_every_field_of_a_plan_is_read_by_those_who_carry_it_out() -> None:
    read: set[str] = set()
    for path in SOURCES.rglob("*.py"):
        is_written = path.relative_to(SOURCES).parts[0] in WRITERS or path == Path(plan.__file__)
        if path == NAMES or not is_written:
            read.update(read_in(ast.parse(path.read_text())))
    parts = [
        kind
        for kind in vars(plan).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == plan.__name__
    ]
    unread = [
        f"{kind.__name__}.{name}" for kind in parts for name in kind.__struct_fields__ if name not in read
    ]
    assert len(parts) > 20 and unread == []
