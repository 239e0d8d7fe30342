"""A thread for a call that may never return: a disk or a server that does not answer, a lock that is held.

A daemon, which nobody has to wait for: a call that hangs must not keep the process from ending, as the
threads of an executor do.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def begun(name: str, call: Callable[[], T]) -> "Future[T]":
    """What `call` returns or raises. Cancelled, the thread is left to itself."""
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
