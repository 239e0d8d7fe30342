"""Modules that call themselves pure load no engine: they can be read, tested and reused by themselves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import openegress

ENGINES = ("av", "OpenSSL", "aioice", "pylibsrtp", "aiohttp", "obstore", "redis", "sqlite3", "PIL")
ROOT = Path(openegress.__file__).parent


def pure_modules() -> list[str]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        if "Pure" in text.split("\n\n")[0]:
            name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
            found.append(name.removesuffix(".__init__"))
    return found


def test_there_are_pure_modules() -> None:
    assert {"openegress.room.sync.arrival", "openegress.output.live.reconnect"} <= set(pure_modules())


@pytest.mark.parametrize("part", ["core", "request", "room", "media", "output", "source", "storage", "rest"])
def test_pure_modules_load_no_engine(part: str) -> None:
    parts = ("core", "request", "room", "media", "output", "source", "storage")
    mine = [m for m in pure_modules() if (m.split(".")[1] if m.split(".")[1] in parts else "rest") == part]
    program = f"""
import importlib, sys
for name in {mine!r}:
    importlib.import_module(name)
    loaded = sorted(set({ENGINES!r}) & set(sys.modules))
    assert not loaded, f"{{name}} loads {{', '.join(loaded)}}"
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr.splitlines()[-1]
