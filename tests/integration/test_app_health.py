"""What orchestrators are told of a server and of a worker: alive without Redis, ready only with it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from openegress.app.drop_in import DropIn
from openegress.app.server import Server
from openegress.config.settings import Redis, Settings
from openegress.core.tokens import egress_token
from openegress.core.values import Secret
from openegress.store import janitor
from testkit.livekit_server import free_port
from testkit.redis_server import RedisServer

SECRET = "a secret of more than thirty-two bytes"


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


async def look(settings: Settings, path: str) -> tuple[int, dict[str, str]]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{settings.health_port}/{path}") as response,
    ):
        return response.status, (await response.json())["checks"]


async def until(settings: Settings, path: str, status: int) -> dict[str, str]:
    async with asyncio.timeout(20):
        while True:
            found, checks = await look(settings, path)
            if found == status:
                return checks
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("kind", [Server, DropIn])
async def test_redis_is_a_matter_of_readiness_not_of_life(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Server] | type[DropIn]
) -> None:
    monkeypatch.setattr(janitor, "ROUND_S", 0.2)
    settings = Settings(
        redis=Redis(address=redis.address, dial_timeout=500),
        api_key="devkey",
        api_secret=Secret(SECRET),
        host="127.0.0.1",
        port=free_port(),
        template_port=free_port(),
        health_port=free_port(),
        data_dir=str(tmp_path),
        prewarmed_browsers=0,
    )
    service = kind(settings)
    try:
        await service.start()
        checks = await until(settings, "readyz", 200)
        assert {"event loop", "janitor", "bus", "redis"} <= set(checks)
        await redis.kill()
        checks = await until(settings, "readyz", 503)
        assert checks["redis"].startswith(f"redis at {redis.address}:")
        assert (await look(settings, "healthz"))[0] == 200
        await redis.start()
        await until(settings, "readyz", 200)

        monkeypatch.setattr(janitor, "ROUND_S", "no number")
        checks = await until(settings, "healthz", 503)
        assert checks["janitor"].startswith("its task janitor failed (TypeError)")
    finally:
        await service.close()


async def test_metrics_are_served_under_upstreams_names(tmp_path: Path) -> None:
    port = free_port()
    settings = Settings(
        host="127.0.0.1", port=0, prometheus_port=port, data_dir=str(tmp_path), prewarmed_browsers=0
    )
    service = Server(settings)
    try:
        await service.start()
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port}/metrics") as response,
        ):
            assert response.status == 200
            text = await response.text()
    finally:
        await service.close()
    served = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {
        *(f"livekit_egress_{name}" for name in ("available", "can_accept_request", "is_disabled")),
        *(f"livekit_egress_{name}" for name in ("is_terminating", "requests", "cgroup_memory_bytes")),
        *(f"livekit_egress_{name}" for name in ("cgroup_read_success", "proc_rss_bytes", "pulse_sinks")),
        *(f"livekit_egress_{name}" for name in ("would_reject_cgroup", "handler_results_total")),
        *(f"livekit_egress_{name}" for name in ("pipeline_uploads", "pipline_upload_response_time_ms")),
        *(f"livekit_egress_{name}" for name in ("backup_storage_writes", "segments_uploads_channel_size")),
        "livekit_egress_playlist_uploads_channel_size",
        *(f"livekit_psrpc_{name}" for name in ("request_time_ms", "error_total", "bytes_total")),
        *(f"livekit_psrpc_{name}" for name in ("requests_received_total", "requests_expired_total")),
        "livekit_psrpc_claim_wait_time_ms",
        "livekit_node_cpu_load",
        "livekit_load_ratio",
    } <= served


async def test_a_workers_dashboard_can_stop_what_it_shows(redis: RedisServer, tmp_path: Path) -> None:
    settings = Settings(
        redis=Redis(address=redis.address),
        api_key="devkey",
        api_secret=Secret(SECRET),
        template_port=free_port(),
        data_dir=str(tmp_path),
        prewarmed_browsers=0,
    )
    service = DropIn(settings)
    url = f"http://127.0.0.1:{settings.template_port}/twirp/livekit.Egress"
    headers = {"Authorization": f"Bearer {egress_token('devkey', SECRET)}"}
    try:
        await service.start()
        async with aiohttp.ClientSession(headers=headers) as http:
            async with http.post(f"{url}/ListEgress", json={}) as response:
                assert (response.status, (await response.json())["items"]) == (200, [])
            async with http.post(f"{url}/StopEgress", json={"egress_id": "EG_9"}) as response:
                assert (response.status, (await response.json())["code"]) == (404, "not_found")
    finally:
        await service.close()
