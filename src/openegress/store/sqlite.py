"""Stores records and outbox of a single server in one SQLite file, owned by one process."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import structlog
from livekit.protocol.egress import EgressInfo

from openegress.core.errors import Code, EgressError, Fault
from openegress.core.info import is_terminal
from openegress.store import Announce, Change, Delivery
from openegress.store.record import judge, read, stamped

_log = structlog.get_logger(__name__)

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE egress (
    id TEXT PRIMARY KEY,
    room TEXT NOT NULL,
    active INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    info BLOB NOT NULL
);
CREATE INDEX egress_room ON egress (room, started_at);
CREATE INDEX egress_active ON egress (active, started_at);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    egress_id TEXT NOT NULL,
    url TEXT NOT NULL,
    signing_key TEXT NOT NULL,
    event TEXT NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due_at INTEGER NOT NULL
);
CREATE INDEX outbox_lane ON outbox (egress_id, url, id);
CREATE INDEX outbox_due ON outbox (due_at);
"""

HEADS = "id = (SELECT min(id) FROM outbox AS lane WHERE lane.egress_id = o.egress_id AND lane.url = o.url)"


class SqliteStore:
    """A Store and an Outbox. Many tasks may call methods at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: aiosqlite.Connection | None = None
        # One connection has one transaction at a time.
        self._turn = asyncio.Lock()
        self._revision = 0

    async def open(self) -> None:
        """Creates the file if it does not exist. Raises EgressError if it cannot be used."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # aiosqlite leaves a thread behind when it cannot open a file, so that is tried here first.
            await asyncio.to_thread(self._make)
            self._connection = await aiosqlite.connect(self._path, isolation_level=None)
            await self._database.execute("PRAGMA journal_mode = WAL")
            # A webhook that was promised must survive a power cut.
            await self._database.execute("PRAGMA synchronous = FULL")
            await self._migrate()
            await self._database.execute("CREATE TABLE IF NOT EXISTS damaged (id TEXT, info BLOB)")
        except (OSError, aiosqlite.Error) as error:
            await self.close()
            raise self._unusable(error) from error

    def _make(self) -> None:
        """Makes the file with access for this user only. SQLite gives its other files the same rights."""
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with contextlib.suppress(PermissionError):  # the file belongs to another user, who gave us access
            self._path.chmod(0o600)
        sqlite3.connect(self._path).close()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def put(self, info: EgressInfo) -> bool:
        return await self.apply(info) is Change.NEW

    async def apply(self, info: EgressInfo, announce: Announce | None = None) -> Change:
        async with self._transaction() as database:
            stored = await self._read(info.egress_id)
            change = judge(stored, info)
            if change is Change.STALE:
                return change
            info = stamped(stored, info)
            await database.execute(
                "INSERT OR REPLACE INTO egress (id, room, active, started_at, ended_at, info)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    info.egress_id,
                    info.room_name,
                    not is_terminal(info),
                    info.started_at,
                    info.ended_at or info.updated_at if is_terminal(info) else 0,
                    info.SerializeToString(),
                ),
            )
            for delivery in announce(change, info) if announce else ():
                await database.execute(
                    "INSERT INTO outbox"
                    " (egress_id, url, signing_key, event, body, created_at, attempts, due_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
                    (
                        delivery.egress_id,
                        delivery.url,
                        delivery.signing_key,
                        delivery.event,
                        delivery.body,
                        delivery.created_at_ns,
                        delivery.created_at_ns,
                    ),
                )
        self._revision += 1
        return change

    async def revision(self) -> int:
        return self._revision  # only this process uses the file

    async def get(self, egress_id: str) -> EgressInfo | None:
        return await self._read(egress_id)

    async def list(self, room_name: str = "", active: bool = False) -> Sequence[EgressInfo]:
        rows = await self._fetch(
            "SELECT id, info FROM egress WHERE (? = '' OR room = ?) AND (? = 0 OR active = 1)"
            " ORDER BY started_at DESC, id",
            (room_name, room_name, active),
        )
        return [info for row in rows if (info := await self._decoded(row)) is not None]

    async def purge(self, ended_before_ns: int) -> int:
        async with self._transaction() as database:
            cursor = await database.execute(
                "DELETE FROM egress WHERE active = 0 AND ended_at < ?", (ended_before_ns,)
            )
        self._revision += 1
        return cursor.rowcount

    # --- outbox

    async def claim(self, now_ns: int, until_ns: int, limit: int) -> Sequence[Delivery]:
        async with self._transaction() as database:
            rows = await database.execute_fetchall(
                "SELECT egress_id, url, signing_key, event, body, created_at, attempts, id FROM outbox AS o"
                f" WHERE due_at <= ? AND {HEADS} ORDER BY due_at, id LIMIT ?",
                (now_ns, limit),
            )
            deliveries = [Delivery(*row) for row in rows]
            await database.executemany(
                "UPDATE outbox SET due_at = ? WHERE id = ?", [(until_ns, one.id) for one in deliveries]
            )
            return deliveries

    async def confirm(self, delivery: Delivery) -> None:
        async with self._transaction() as database:
            await database.execute("DELETE FROM outbox WHERE id = ?", (delivery.id,))

    async def postpone(self, delivery: Delivery, due_ns: int, attempts: int) -> None:
        async with self._transaction() as database:
            await database.execute(
                "UPDATE outbox SET due_at = ?, attempts = ? WHERE id = ?", (due_ns, attempts, delivery.id)
            )

    async def is_followed(self, delivery: Delivery) -> bool:
        rows = await self._fetch(
            "SELECT 1 FROM outbox WHERE egress_id = ? AND url = ? AND id > ? LIMIT 1",
            (delivery.egress_id, delivery.url, delivery.id),
        )
        return any(True for _ in rows)

    async def next_due_ns(self) -> int | None:
        rows = await self._fetch(f"SELECT min(due_at) FROM outbox AS o WHERE {HEADS}")
        due_ns: int | None = next(iter(rows))[0]
        return due_ns

    # --- inside

    @property
    def _database(self) -> aiosqlite.Connection:
        if self._connection is None:
            raise EgressError(Code.UNAVAILABLE, "the records are not open", fault=Fault.SERVICE)
        return self._connection

    def _unusable(self, error: Exception) -> EgressError:
        return EgressError(
            Code.UNAVAILABLE,
            f"the records in {self._path} cannot be used: {error}; db or data_dir says where they are",
            fault=Fault.SERVICE,
        )

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._turn:
            database = self._database
            try:
                try:
                    await database.execute("BEGIN IMMEDIATE")
                    yield database
                    await database.execute("COMMIT")
                except BaseException:
                    # A cancelled statement, even BEGIN, still runs in the connection's thread. Its open
                    # transaction would block every later one.
                    await self._roll_back(database)
                    raise
            except aiosqlite.Error as error:
                raise self._unusable(error) from error

    async def _roll_back(self, database: aiosqlite.Connection) -> None:
        """Rolls back after all earlier statements, even those that nobody awaits any more."""
        try:
            await database.execute("ROLLBACK")
        except sqlite3.OperationalError:
            pass  # BEGIN failed or COMMIT was done: there is nothing to roll back

    async def _execute(self, statement: str, values: tuple[str | bytes, ...] = ()) -> None:
        try:
            await self._database.execute(statement, values)
        except aiosqlite.Error as error:
            raise self._unusable(error) from error

    async def _fetch(self, query: str, values: tuple[str | int, ...] = ()) -> Iterable[sqlite3.Row]:
        try:
            return await self._database.execute_fetchall(query, values)
        except aiosqlite.Error as error:
            raise self._unusable(error) from error

    async def _read(self, egress_id: str) -> EgressInfo | None:
        rows = await self._fetch("SELECT id, info FROM egress WHERE id = ?", (egress_id,))
        row = next(iter(rows), None)
        return await self._decoded(row) if row is not None else None

    async def _decoded(self, row: sqlite3.Row) -> EgressInfo | None:
        """The record in a row; None for one that cannot be decoded, which is moved to the table `damaged`."""
        info = read(*row)
        if info is None:
            _log.error("a record cannot be decoded and is put aside", record=repr(row[0]), aside="damaged")
            await self._execute("INSERT INTO damaged (id, info) VALUES (?, ?)", tuple(row))
            await self._execute("DELETE FROM egress WHERE id = ?", (row[0],))
            self._revision += 1
        return info

    async def _migrate(self) -> None:
        rows = await self._database.execute_fetchall("PRAGMA user_version")
        version = next(iter(rows))[0]
        if version > SCHEMA_VERSION:
            raise aiosqlite.DatabaseError(
                f"written by a newer release (schema {version}, this one knows {SCHEMA_VERSION})"
            )
        if version == 0:
            await self._database.executescript(
                f"BEGIN;{SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
            )
