"""The log's stream: one record a line, bounded lines, bounded bytes, and no failure that spreads."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from openegress.app import log, log_stream
from openegress.app.log_stream import BURST_BYTES, BYTES_PER_S, MAX_LINE_CHARS, Budget, LogStream
from openegress.config.settings import Logging

FORGED = "2026-01-01T00:00:00Z [error    ] forged"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def configured(root: logging.Logger, *, as_json: bool = False) -> io.StringIO:
    """Where the log of a service goes."""
    log.configure(Logging(json=as_json))
    (handler,) = root.handlers
    assert isinstance(handler, LogStream)
    stream = io.StringIO()
    handler.setStream(stream)
    return stream


@pytest.mark.parametrize("break_", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("as_json", [False, True])
def test_words_of_others_make_no_line(root: logging.Logger, break_: str, as_json: bool) -> None:
    stream = configured(root, as_json=as_json)
    forged = f"No{break_}{FORGED}"
    logger = logging.getLogger("openegress.test")
    logger.info("refused: %s", forged)
    logger.info("refused", extra={"why": forged, "more": [forged]})
    try:
        raise ValueError(forged)
    except ValueError:
        logger.exception("failed: %s", forged)
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if line.startswith("2026-01-01")] == []
    assert sum("[error" in line[:45] or '"error"' in line for line in lines if line[0] != " ") == 1
    if as_json:
        assert all(json.loads(line) for line in stream.getvalue().split("\n")[:-1])


def test_a_line_is_bounded(root: logging.Logger) -> None:
    stream = configured(root)
    logging.getLogger("openegress.test").info("a storage says: %s", "a" * 60_000_000)
    assert len(stream.getvalue()) < 2 * MAX_LINE_CHARS


def test_what_is_written_is_bounded_in_bytes_and_told(root: logging.Logger) -> None:
    clock = Clock()
    stream = io.StringIO()
    root.handlers[:] = [LogStream(stream, clock)]
    root.setLevel(logging.INFO)
    for second in range(60):
        clock.now_s = float(second)
        for number in range(1000):
            logging.info("a page says %s %d", "a" * 200, number)
    flood = len(stream.getvalue())
    assert flood < BURST_BYTES + 61 * BYTES_PER_S
    logging.error("the spool is full")
    told = stream.getvalue()[flood:].splitlines()
    assert [line.partition(" lines")[0].isdigit() for line in told] == [True, False]
    assert told[1] == "the spool is full"


def test_a_budget_comes_back_with_time() -> None:
    budget = Budget(10.0, 100.0, now_s=0.0)
    assert budget.take(75, 0.0, important=False)
    assert not budget.take(1, 0.0, important=False)
    assert budget.take(25, 0.0, important=True)
    assert not budget.take(1, 0.0, important=True)
    assert not budget.take(6, 3.0, important=False)
    assert budget.take(5, 3.0, important=False)
    assert not budget.take(101, 1e6, important=True)


class _Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_log_that_fails_ends_nothing(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    root.handlers[:] = [LogStream(_Full())]
    logging.error("the disk is full")
    stream = io.StringIO()
    root.handlers[:] = [LogStream(stream)]
    logging.error("%s", _Unprintable())
    logging.error("half a character: \ud800")
    assert "half a character: \\ud800" in stream.getvalue()
    assert capfd.readouterr().err == ""
    assert log_stream.MAX_LINE_CHARS < BURST_BYTES * log_stream.RESERVED
