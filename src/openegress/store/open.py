"""The store that the settings ask for."""

from openegress.config.settings import Settings
from openegress.store.redis import RedisStore
from openegress.store.sqlite import SqliteStore


async def open_store(settings: Settings) -> SqliteStore | RedisStore:
    """Redis where it is configured, else the SQLite file; open. Raises EgressError when it cannot be."""
    store = RedisStore(settings.redis) if settings.redis.configured else SqliteStore(settings.db_path)
    await store.open()
    return store
