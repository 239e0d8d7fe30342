"""Opens the store that is configured."""

from openegress.config.settings import Settings
from openegress.store.redis import RedisStore
from openegress.store.sqlite import SqliteStore


async def open_store(settings: Settings) -> SqliteStore | RedisStore:
    """Opens Redis if it is configured, else the SQLite file. Raises EgressError."""
    store = RedisStore(settings.redis) if settings.redis.configured else SqliteStore(settings.db_path)
    await store.open()
    return store
