"""Limits repeated warnings: one now and then, with the number that was dropped."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from structlog.typing import EventDict, WrappedLogger

INTERVAL_S = 10.0
"""When a storage is down, each recording warns once a second, and an outage lasts for hours."""
MAX_KEYS = 1000
"""Kinds of warnings remembered; the oldest are forgotten."""

_LIMITED = frozenset({"warning", "error", "critical"})
_KEY_FIELDS = ("egress_id", "request_id", "url")
"""Fields that distinguish warnings with the same text."""


@dataclass(slots=True)
class _Logged:
    at_s: float
    left_out: int = 0


class LogRateLimit:
    """A structlog processor that follows the one that adds the level."""

    def __init__(self, every_s: float = INTERVAL_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._now_s = now_s
        self._told: dict[tuple[object, ...], _Logged] = {}

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Raises structlog.DropEvent for a warning that was logged a moment ago."""
        if event.get("level") not in _LIMITED:
            return event
        key = (event.get("event"), *(event.get(name) for name in _KEY_FIELDS))
        now_s = self._now_s()
        told = self._told.get(key)
        if told is not None and now_s - told.at_s < self._every_s:
            told.left_out += 1
            raise structlog.DropEvent
        if told is not None and told.left_out:
            event["left_out"] = told.left_out
        self._told.pop(key, None)
        self._told[key] = _Logged(now_s)
        if len(self._told) > MAX_KEYS:
            self._told.pop(next(iter(self._told)), None)
        return event
