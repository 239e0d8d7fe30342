"""The log: what repeats is told now and then, with a count."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiohttp.http_exceptions import BadHttpMessage

from openegress.app import log, log_rate_limit
from openegress.app.log_rate_limit import LogRateLimit
from openegress.config.settings import Logging, LogLevel
from openegress.core import ipc
from openegress.handler import log as handler_log
from openegress.worker.supervisor import relay_log


class Clock:
    now_s = 0.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> LogRateLimit:
    return LogRateLimit(10.0, lambda: clock.now_s)


def passes(limiter: LogRateLimit, level: str, event: str, **fields: object) -> dict[str, object] | None:
    try:
        return dict(limiter(None, level, {"level": level, "event": event, **fields}))
    except structlog.DropEvent:
        return None


def test_a_repeated_warning_passes_once_in_a_while_with_a_count(limiter: LogRateLimit, clock: Clock) -> None:
    passed = []
    for second in range(25):
        clock.now_s = float(second)
        if told := passes(limiter, "warning", "upload failed", egress_id="EG_1", attempt=second):
            passed.append((told["attempt"], told.get("left_out")))
    assert passed == [(0, None), (10, 9), (20, 9)]
    clock.now_s = 100.0
    assert passes(limiter, "warning", "upload failed", egress_id="EG_1") is not None
    clock.now_s = 200.0
    assert "left_out" not in (
        passes(limiter, "warning", "upload failed", egress_id="EG_1") or {"left_out": 1}
    )


@pytest.mark.parametrize(
    "other",
    [
        ("warning", "stream lost", {"egress_id": "EG_1"}),
        ("warning", "upload failed", {"egress_id": "EG_2"}),
        ("warning", "upload failed", {}),
        ("error", "request failed", {"request_id": "REQ_1"}),
        ("warning", "upload failed", {"egress_id": "EG_1", "url": "https://b"}),
    ],
)
def test_another_warning_is_not_held_back(
    limiter: LogRateLimit, other: tuple[str, str, dict[str, object]]
) -> None:
    level, event, fields = other
    assert passes(limiter, "warning", "upload failed", egress_id="EG_1")
    assert passes(limiter, level, event, **fields)
    assert passes(limiter, level, event, **fields) is None


@pytest.mark.parametrize("level", ["debug", "info"])
def test_what_is_no_warning_always_passes(limiter: LogRateLimit, level: str) -> None:
    assert all(passes(limiter, level, "egress starts") for _ in range(3))


def test_it_remembers_no_more_than_it_has_to(limiter: LogRateLimit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rate_limit, "MAX_KEYS", 2)
    for egress_id in ("EG_1", "EG_2", "EG_3"):
        assert passes(limiter, "error", "lost", egress_id=egress_id)
    assert passes(limiter, "error", "lost", egress_id="EG_3") is None
    assert passes(limiter, "error", "lost", egress_id="EG_1")


@pytest.fixture
def configured() -> Iterator[None]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers = root.handlers[:]
    levels = {
        name: logging.getLogger(name).level for name in (None, "openegress", "asyncio", "libav", "aioice")
    }
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.configure(**before)


def test_the_service_logs_through_it(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Logging(json=True))
    for attempt in range(5):
        relay_log("EG_1", ipc.Log("warning", "upload failed: trying again", {"attempt": attempt}))
        relay_log("EG_1", ipc.Log("info", "page loaded", {}))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["upload failed: trying again", *["page loaded"] * 5]


LIBRARIES = ("aiosqlite", "botocore.auth", "websockets.client")
"""Say, while they are debugged, values of SQL, signed headers, URLs with tokens."""


def test_libraries_are_not_debugged(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Logging(level=LogLevel.DEBUG, json=True))
    speak()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["ours"]


def test_what_is_no_request_leaves_no_trace(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    """As aiohttp tells of it: with a traceback for each."""
    log.configure(Logging(json=True))
    server = logging.getLogger("aiohttp.server")
    for error in (BadHttpMessage("no method"), RuntimeError("ours")):
        try:
            raise error
        except Exception:
            server.exception("Error handling request from %s", "192.0.2.1")
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert "RuntimeError: ours" in line["exception"]


def test_nor_in_a_handler(configured: None) -> None:
    sent: list[ipc.Log] = []

    class Channel:
        def send(self, message: ipc.Log) -> None:
            sent.append(message)

    handler_log.install(Channel(), "debug")  # type: ignore[arg-type]
    speak()
    assert [message.event for message in sent] == ["ours"]


def speak() -> None:
    for name in LIBRARIES:
        logging.getLogger(name).debug("a secret")
    logging.getLogger("openegress.store").debug("ours")
