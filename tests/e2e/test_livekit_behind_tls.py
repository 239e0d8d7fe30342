"""A LiveKit server behind a load balancer whose TLS certificate nobody signed."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from testkit.certificates import make_certificate
from testkit.fault_proxy import copy
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher
from testkit.probe import has_tone, tones
from testkit.service import Refused, Service, location

SECONDS = 3.0


@dataclass
class BehindTLS:
    """The server as its clients know it."""

    ws_url: str
    api_key: str
    api_secret: str


@asynccontextmanager
async def behind_tls(livekit: LivekitServer, folder: Path) -> AsyncIterator[BehindTLS]:
    port = int(livekit.ws_url.rpartition(":")[2])

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(folder))
    async with await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context) as front:
        url = f"wss://127.0.0.1:{front.sockets[0].getsockname()[1]}"
        yield BehindTLS(url, livekit.api_key, livekit.api_secret)


async def test_it_is_recorded_only_if_the_configuration_takes_any_certificate(tmp_path: Path) -> None:
    async with (
        LivekitServer() as livekit,
        behind_tls(livekit, tmp_path) as server,
        Publisher(livekit, "tls", "ann", None, AudioSpec(tone_hz=440)),
    ):
        request = {"room_name": "tls", "audio_only": True, "file_outputs": [{"filepath": "tls.ogg"}]}
        async with Service(tmp_path / "insecure", server, {"insecure": True}) as service:
            info = await service.record("StartRoomCompositeEgress", SECONDS, **request)
            assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
            assert has_tone(tones(location(info)), 440)
            assert "certificates of pages and of the LiveKit server are not checked" in service.log
        async with Service(tmp_path / "checked", server) as service:
            with pytest.raises(Refused) as refused:
                await service.call("StartRoomCompositeEgress", **request)
            assert refused.value.status == 503
            assert server.ws_url.removeprefix("wss://") in str(refused.value)
            assert "certificate" in str(refused.value)
            assert "are not checked" not in service.log
