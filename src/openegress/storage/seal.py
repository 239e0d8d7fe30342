"""Seals plans, so that a worker can trust the plan in a journal that a handler wrote.

A handler reads what strangers send, and an attacker may control it. The plan in its journal says where a
later process stores, with whose credentials. So the worker seals each plan that it gives to a handler, with a
key that a caged handler cannot read.
"""

import contextlib
import hmac
import os
import secrets
from functools import cached_property
from pathlib import Path

from openegress.config.destination import SEAL
from openegress.storage.journal import failed, privately, sync_folder
from openegress.storage.local import NO_LINK

_KEY_BYTES = 32


class Seal:
    def __init__(self, spool: Path) -> None:
        """Finds the key beside the spool, so that all services that share a spool have the same key."""
        self._path = spool.parent / SEAL

    def of(self, plan: bytes) -> str:
        """The seal of `plan`, which is encoded by core.plan.encode. Raises EgressError if there is no key and
        none can be made."""
        return hmac.digest(self._key, plan, "sha256").hex()

    def fits(self, plan: bytes, seal: str) -> bool:
        """Whether `seal` is that of `plan`. Raises EgressError if there is no key and none can be made."""
        return hmac.compare_digest(self.of(plan).encode(), seal.encode(errors="replace"))

    @cached_property
    def _key(self) -> bytes:
        try:
            with contextlib.suppress(FileNotFoundError):
                return self._path.read_bytes()
            return self._made()
        except OSError as error:
            raise failed(self._path, error) from error

    def _made(self) -> bytes:
        """Makes a key. Returns ours, or that of a service that made one first."""
        made = self._path.with_name(f"{SEAL}-{secrets.token_hex(8)}")
        with open(made, "wb", opener=privately) as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            self._put_in_place(made)
        finally:
            made.unlink(missing_ok=True)
        sync_folder(self._path.parent)
        return self._path.read_bytes()

    def _put_in_place(self, made: Path) -> None:
        """Moves the key to its place, unless there is one. Raises OSError."""
        try:
            os.link(made, self._path)
        except FileExistsError:
            pass  # another service was quicker
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            if not self._path.exists():
                made.rename(self._path)
