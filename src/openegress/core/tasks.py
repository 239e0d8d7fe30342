"""How a task that should run until its owner cancels it is doing."""

import asyncio
from typing import Any


def stopped(task: "asyncio.Task[Any] | None") -> str | None:
    """Why nobody does its work any more; None while it runs, before it does and after its owner closed it."""
    if task is None or not task.done() or task.cancelled():
        return None
    error = task.exception()
    why = f"failed ({type(error).__name__})" if error is not None else "ended"
    return f"its task {task.get_name()} {why}: restart this process"
