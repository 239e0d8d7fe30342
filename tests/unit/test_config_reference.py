"""The reference configuration, the settings and each other: what one has, the other has."""

import re
import typing
from importlib import resources

import msgspec

from openegress.config.check import check
from openegress.config.decode import read_yaml
from openegress.config.load import load
from openegress.config.settings import Settings

REFERENCE = resources.files("openegress.config").joinpath("reference.yaml").read_text(encoding="utf-8")
EXAMPLES = re.sub(r"(?m)^( *)#(?=(- )?[a-z0-9_]+:)", r"\1", REFERENCE)
"""The reference with its examples in force."""

NOT_REPEATED = {
    f"{block}.{kind}" for block in ("backup", "debug") for kind in ("s3", "azure", "gcp", "alioss", "local")
}
"""Blocks that the reference describes once, under storage."""


def paths_of(kind: type, prefix: str = "") -> set[str]:
    found = set()
    for name, hint in typing.get_type_hints(kind).items():
        path = prefix + name
        found.add(path)
        for part in typing.get_args(hint) or (hint,):
            if (
                isinstance(part, type)
                and issubclass(part, msgspec.Struct)
                and typing.get_origin(hint) is not dict
            ):
                found |= paths_of(part, path + ".")
    return {path for path in found if not any(path == p or path.startswith(p + ".") for p in NOT_REPEATED)}


def paths_in(tree: dict[str, object], prefix: str = "") -> set[str]:
    found = set()
    for key, value in tree.items():
        found.add(prefix + key)
        for block in value if isinstance(value, list) else [value]:
            if isinstance(block, dict):
                found |= paths_in(block, prefix + key + ".")
    return found


def test_as_it_stands_it_changes_nothing() -> None:
    loaded = load(body=REFERENCE, environ={})
    assert loaded.warnings == ()
    assert loaded.settings == Settings()
    assert check(loaded.settings) == []


def test_it_names_every_setting_and_no_other() -> None:
    assert paths_in(read_yaml(EXAMPLES)) == paths_of(Settings)


def test_every_key_is_explained_above_it() -> None:
    unexplained = []
    before = ""
    for line in REFERENCE.splitlines():
        if re.match(r" *(#- |#)?[a-z0-9_]+:", line) and not re.match(r" *# ", before):
            unexplained.append(line)
        before = line
    assert unexplained == []
