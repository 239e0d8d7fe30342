"""Sends the handler's log to its worker, which writes the records into its own log."""

import logging

from openegress.core import ipc
from openegress.handler.channel import WorkerChannel

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class ChannelHandler(logging.Handler):
    """Sends log records as ipc.Log; `extra` values become fields."""

    def __init__(self, channel: WorkerChannel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(record)
        except Exception:
            pass  # a record that cannot be sent must not end the recording, and cannot be reported

    def _send(self, record: logging.LogRecord) -> None:
        fields = {
            name: value if isinstance(value, str | int | float | bool | None) else repr(value)
            for name, value in vars(record).items()
            if name not in _OWN_FIELDS
        }
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        self._channel.send(ipc.Log(record.levelname.lower(), record.getMessage(), fields))


def install(channel: WorkerChannel, level: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [ChannelHandler(channel)]
    # As in app.log: debug output of libraries contains secrets.
    root.setLevel(max(logging.getLevelNamesMapping()[level.upper()], logging.INFO))
    logging.getLogger("openegress").setLevel(level.upper())
    # FFmpeg and ICE log a lot below warnings.
    for noisy in ("libav", "aioice"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
