"""A thread for a call that may never return: a disk or a server that does not answer, a lock that is held.

It is a daemon thread, for which nobody has to wait: a call that hangs must not keep the process from exiting,
as the threads of an executor would.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def submit(name: str, call: Callable[[], T]) -> "Future[T]":
    """Runs `call` in a thread; the future gets its result or exception. Cancelling it leaves the thread
    running."""
    result: Future[T] = Future()
    threading.Thread(target=settle, args=(result, call), name=name, daemon=True).start()
    return result


def settle(result: "Future[T]", call: Callable[[], T]) -> None:
    if not result.set_running_or_notify_cancel():
        return
    try:
        result.set_result(call())
    except BaseException as error:
        result.set_exception(error)
