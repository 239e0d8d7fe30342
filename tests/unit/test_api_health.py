"""What health tells to anybody: what runs, and nothing that opens a door."""

import json
from typing import Any

import pytest
from livekit.protocol.egress import EgressInfo

from openegress.api.health import Health, upstream_status

SECRETS = ("t0ken", "s3cret", "pa55")


@pytest.mark.parametrize(
    "body",
    [
        {"web": {"url": "https://user:pa55@example.com/page?access_token=t0ken#s3cret"}},
        {"room_composite": {"custom_base_url": "https://example.com/?key=t0ken", "room_name": "r"}},
        {"track": {"websocket_url": "wss://u:pa55@example.com/x?key=t0ken"}},
        {"web": {"url": "http://a", "webhooks": [{"url": "https://u:pa55@example.com/h?s=t0ken"}]}},
        {"web": {"url": "http://a", "stream_outputs": [{"urls": ["rtmp://example.com/live/s3cret"]}]}},
        {
            "web": {
                "url": "http://a",
                "file_outputs": [
                    {
                        "s3": {
                            "bucket": "b",
                            "secret": "s3cret",
                            "proxy": {"url": "http://u:pa55@example.com", "password": "pa55"},
                            "endpoint": "https://u:pa55@example.com/?t0ken",
                        }
                    }
                ],
            }
        },
        {"egress": {"web": {"url": "http://example.com/a?b=t0ken"}}},
    ],
)
def test_no_token_is_shown(body: dict[str, Any]) -> None:
    shown = json.dumps(upstream_status(1.0, [EgressInfo(egress_id="EG_1", **body)]))
    assert "EG_1" in shown
    assert [secret for secret in SECRETS if secret in shown] == []
    assert "example.com" in shown


async def test_a_check_that_fails_tells_only_that() -> None:
    async def check() -> str | None:
        raise ValueError("at redis://:pa55@host")

    answer = await Health(alive={"store": check}).healthz(None)  # type: ignore[arg-type]
    assert answer.status == 503
    assert b"pa55" not in (answer.body or b"") and b"ValueError" in (answer.body or b"")  # type: ignore[operator]
