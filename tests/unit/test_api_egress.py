"""What the API refuses before it asks any worker."""

from pathlib import Path

import pytest
from livekit.protocol.models import WebhookConfig

from openegress.api.egress import ApiPolicy, EgressService
from openegress.core.errors import EgressError
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.psrpc.client import RPCClient
from openegress.psrpc.memory import MemoryBus
from openegress.store.ioinfo import IOInfoService
from openegress.store.sqlite import SqliteStore


async def test_a_webhook_that_could_not_be_signed_is_refused_without_its_secrets(tmp_path: Path) -> None:
    client = RPCClient(MemoryBus())
    records = IOInfoService(SqliteStore(tmp_path / "never opened"))
    service = EgressService(client, records, None, ApiPolicy(signing_keys={"key"}))
    request = StartEgressRequest(egress_id="EG_1")
    request.web.url = "http://e"
    for webhook, said in (
        (
            WebhookConfig(url="ftp://a/?token=hunter2", signing_key="key"),
            'webhook url "ftp://a/?token={...}" is not an http',
        ),
        (WebhookConfig(url="https://a"), "webhook without signing_key"),
    ):
        del request.web.webhooks[:]
        request.web.webhooks.append(webhook)
        with pytest.raises(EgressError) as refused:
            await service.start(request)
        assert said in refused.value.message
        assert "hunter2" not in refused.value.message
    await client.close()
