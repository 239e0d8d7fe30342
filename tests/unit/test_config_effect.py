"""Every setting does something, or is said to do nothing."""

import ast
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import openegress
from openegress.cli import main
from openegress.config.settings import NO_EFFECT, Settings
from openegress.config.storages import S3

SOURCES = Path(openegress.__file__).parent
DECLARATIONS = SOURCES / "config" / "settings.py"


def leaves_of(kind: type, prefix: str = "") -> Iterator[str]:
    """Paths of the settings that are not blocks."""
    for name, hint in typing.get_type_hints(kind).items():
        blocks = [
            part
            for part in (hint, *typing.get_args(hint))
            if isinstance(part, type) and issubclass(part, msgspec.Struct)
        ]
        if blocks and typing.get_origin(hint) is not dict:
            yield from leaves_of(blocks[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def names_read() -> set[str]:
    """Names of all attributes that some code takes."""
    read = set()
    for path in SOURCES.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        read |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return read


def has_no_effect(path: str) -> bool:
    return any(path == silent or path.startswith(silent + ".") for silent in NO_EFFECT)


def test_what_nobody_reads_is_said_to_have_no_effect() -> None:
    read = names_read()
    unread = [path for path in leaves_of(Settings) if path.rpartition(".")[2] not in read]
    assert [path for path in unread if not has_no_effect(path)] == []


@pytest.mark.parametrize("path", sorted(NO_EFFECT))
def test_what_has_no_effect_is_a_setting(path: str) -> None:
    kind: object = Settings()
    for name in path.split("."):
        kind = getattr(kind, name) if name != "s3" else S3()
    assert isinstance(kind, msgspec.Struct | dict | int | float | str)


SILENT = [
    ("cpu_cost: {memory_source: proc_rss}", "cpu_cost.memory_source"),
    ("cpu_cost: {memory_kill_grace_sec: 3}", "cpu_cost.memory_kill_grace_sec"),
    ("max_upload_queue: 10", "max_upload_queue"),
    ("debug_handler_port: 7000", "debug_handler_port"),
    ("debug: {enable_track_logging: true}", "debug.enable_track_logging"),
    ("debug: {s3: {bucket: b, aws_log_level: INFO}}", "debug.s3.aws_log_level"),
    ("logging: {sample: true}", "logging.sample"),
    ("logging: {item_sample_seconds: 5}", "logging.item_sample_seconds"),
    ("video_encoder_threads: 4", "video_encoder_threads"),
    ("latency: {pipeline_latency: 9s}", "latency"),
]


@pytest.mark.parametrize(("body", "path"), SILENT)
def test_config_check_names_what_has_no_effect(
    capsys: pytest.CaptureFixture[str], body: str, path: str
) -> None:
    assert main(["config", "check", "--config-body", body]) == 0
    assert f"warning: {path}: has no effect here" in capsys.readouterr().out


def test_config_check_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "egress.yaml"
    file.write_text("port: 8000\nabc: 1\n")
    assert main(["config", "check", "--config", str(file)]) == 0
    assert "warning: abc: " in capsys.readouterr().out
    file.write_text("port: 8000\n")
    assert main(["config", "check", "--config", str(file)]) == 0
    assert capsys.readouterr().out == "the configuration is fine\n"
    file.write_text("port: 80000\n")
    assert main(["config", "check", "--config", str(file)]) == 1
    out, err = capsys.readouterr()
    assert "port: 80000 is not a port" in out + err
