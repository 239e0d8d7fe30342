"""Rigs that several modules of end-to-end tests share. One of each runs for a whole module."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from testkit.livekit_server import LivekitServer
from testkit.page_server import PageServer
from testkit.parts import Parts
from testkit.servers import S3Server
from testkit.service import Service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def livekit() -> AsyncIterator[LivekitServer]:
    async with LivekitServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pages() -> AsyncIterator[PageServer]:
    async with PageServer() as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """It checks signatures, and has three buckets."""
    with S3Server(enforce=True) as server:
        for bucket in ("server", "request", "backup"):
            server.create_bucket(bucket)
        yield server


@pytest.fixture(scope="module")
def service_config() -> dict[str, Any]:
    """The settings of `service`. A module that needs others overrides this fixture."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(
    tmp_path_factory: pytest.TempPathFactory, livekit: LivekitServer, service_config: dict[str, Any]
) -> AsyncIterator[Parts]:
    async with Service(tmp_path_factory.mktemp("service"), livekit, service_config) as service:
        yield Parts(livekit, service)


@pytest_asyncio.fixture(loop_scope="module")
async def parts(servers: Parts) -> AsyncIterator[Parts]:
    """The servers, and people who leave at the end of the test."""
    async with servers.people:
        yield servers
