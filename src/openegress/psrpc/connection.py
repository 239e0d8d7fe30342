"""Makes connections to Redis from the `redis:` block: one server, sentinels or a cluster, with or without
TLS."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from openegress.config import settings as config
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.tasks import cancellable

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)
"""Exceptions of a command if Redis cannot be reached or refuses it."""

Argument = str | bytes | int | float

QUICK_RETRIES = 2
"""Retries of a command. The first replaces a connection that was lost while idle."""


POOL_SIZE = 50
"""Limit for parallel commands if `pool_size` is not set. Further ones wait."""


def connect(settings: config.Redis) -> "Redis | RedisCluster":
    """Makes a client for commands. It connects for its first command, and again after each loss."""
    retries = max(QUICK_RETRIES, settings.max_redirects if settings.cluster_addresses else 0)
    retry = Retry(ExponentialWithJitterBackoff(cap=0.2, base=0.02), retries)
    options = _options(settings) | {
        "retry": retry,
        "socket_timeout": max(settings.read_timeout, settings.write_timeout) / 1000,
    }
    # redis-py raises an error if all connections are in use; RedisLink waits before that.
    options["max_connections"] = pool_size(settings)
    if settings.sentinel_addresses:
        return _master(settings, options)
    if settings.cluster_addresses:
        nodes = [ClusterNode(*split_address(address)) for address in settings.cluster_addresses]
        cluster = RedisCluster(startup_nodes=nodes, **options)
        _name_in(cluster, settings.tls)
        return cluster
    host, port = split_address(settings.address)
    client = Redis(host=host, port=port, db=settings.db, **options)
    _name_in(client, settings.tls)
    return client


def connect_subscriber(settings: config.Redis) -> Redis:
    """Makes a client for one subscription connection, without automatic retries.

    In a cluster messages reach all nodes, so it connects to a random one.
    """
    options = _options(settings) | {"retry": Retry(NoBackoff(), 0), "protocol": 2}
    if settings.sentinel_addresses:
        return _master(settings, options)
    address = random.choice(settings.cluster_addresses) if settings.cluster_addresses else settings.address
    host, port = split_address(address)
    client = Redis(host=host, port=port, **options)
    _name_in(client, settings.tls)
    return client


def pool_size(settings: config.Redis) -> int:
    return settings.pool_size or POOL_SIZE


class RedisLink:
    """A pool of connections for commands. Failures are raised as EgressError."""

    def __init__(self, settings: config.Redis) -> None:
        self._settings = settings
        self._turns = asyncio.Semaphore(pool_size(settings))
        self.client: Any = connect(settings)

    async def run(self, command: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        """Runs a command of `client`. Raises EgressError (UNAVAILABLE) if it fails."""
        await self._turn()
        try:
            return await cancellable(command(*arguments, **options))
        except FAILURES as error:
            raise unreachable(self._settings, error) from error
        finally:
            self._turns.release()

    async def _turn(self) -> None:
        """Waits for a free connection."""
        patience_s = float(self._settings.pool_timeout)
        try:
            async with asyncio.timeout(patience_s or None):
                await self._turns.acquire()
        except TimeoutError:
            error = TimeoutError(
                f"all {pool_size(self._settings)} connections are busy (pool_size, pool_timeout)"
            )
            raise unreachable(self._settings, error) from None

    async def script(self, script: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:
        """Runs a Lua script, which Redis executes atomically."""
        return await self.run(self.client.eval, script, len(keys), *keys, *arguments)

    async def close(self) -> None:
        await disconnect(self.client)


async def disconnect(client: "Redis | RedisCluster") -> None:
    """Closes a client and, behind sentinels, the connections to them, which redis-py leaves open."""
    await client.aclose()
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, SentinelConnectionPool):
        await pool.disconnect()
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def unreachable(settings: config.Redis, error: BaseException) -> EgressError:
    """The failure of a command as an EgressError. redis-py never prints the password."""
    where = ", ".join(settings.sentinel_addresses or settings.cluster_addresses or (settings.address,))
    reason = str(error) or type(error).__name__
    return EgressError(Code.UNAVAILABLE, f"redis at {where}: {reason}", fault=Fault.SERVICE)


def split_address(address: str) -> tuple[str, int]:
    """Splits host:port, [v6]:port or a host alone; the default port is 6379."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.startswith("[")):
        return address.strip("[]"), 6379
    return host.strip("[]"), int(port)


def _options(settings: config.Redis) -> dict[str, Any]:
    return {
        "username": settings.username or None,
        "password": settings.password.reveal() or None,
        "socket_connect_timeout": settings.dial_timeout / 1000,
        "socket_keepalive": True,
        **_tls(settings.tls),
    }


def _tls(tls: config.RedisTLS) -> dict[str, Any]:
    if not tls.enabled:
        return {}
    return {
        "ssl": True,
        "ssl_ca_certs": tls.ca_cert_file or None,
        "ssl_certfile": tls.client_cert_file or None,
        "ssl_keyfile": tls.client_key_file or None,
        "ssl_cert_reqs": "none" if tls.insecure else "required",
        "ssl_check_hostname": not tls.insecure,
    }


def _master(settings: config.Redis, options: dict[str, Any]) -> Redis:
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        [split_address(address) for address in settings.sentinel_addresses],
        sentinel_kwargs=_options(settings)
        | {
            "username": settings.sentinel_username or None,
            "password": settings.sentinel_password.reveal() or None,
            "socket_timeout": settings.read_timeout / 1000,
        },
        **options,
    )
    master: Redis = sentinels.master_for(settings.sentinel_master_name, db=settings.db)
    for client in (*sentinels.sentinels, master):
        _name_in(client, settings.tls)
    return master


def _name_in(client: "Redis | RedisCluster", tls: config.RedisTLS) -> None:
    """Sets the server name for certificate checks and SNI. redis-py has no setting for it and would use the
    address, so each connection gets it here."""
    if not (tls.enabled and tls.server_name):
        return
    if isinstance(client, RedisCluster):
        named = _named(SSLConnection, tls.server_name)
        client.connection_kwargs["connection_class"] = named
        for node in client.nodes_manager.startup_nodes.values():
            node.connection_class = named
    else:
        pool = client.connection_pool
        pool.connection_class = _named(pool.connection_class, tls.server_name)


def _named(base: type[Any], server_name: str) -> type[Any]:
    """A subclass of `base`, a connection with TLS, that uses `server_name`."""

    class Named(base):  # type: ignore[misc]
        def _connection_arguments(self) -> dict[str, Any]:
            return {**super()._connection_arguments(), "server_hostname": server_name}

    return Named
