"""A failed egress leaves a report in the storage that the service has for them, and no secret in it."""

import io
import json
import zipfile
from pathlib import Path

import pytest

from testkit.page_server import PageServer
from testkit.service import Service
from testkit.strict_s3 import StrictS3

SECRETS = ("s3cret-of-the-page", "s3cret-of-the-storage", "s3cret-of-the-stream")


@pytest.fixture
def storage() -> StrictS3:
    return StrictS3(lambda request: None)


async def test_a_failed_egress_leaves_a_report(tmp_path: Path, storage: StrictS3) -> None:
    with storage:
        bucket = {
            "bucket": storage.bucket,
            "endpoint": storage.url,
            "access_key": "key",
            "secret": SECRETS[1],
            "region": "us-east-1",
        }
        config = {"debug": {"enable_profiling": True, "path_prefix": "reports", "s3": bucket}}
        async with PageServer() as pages, Service(tmp_path, config=config) as service:
            started = await service.call(
                "StartWebEgress",
                url=pages.url(f"status/503?token={SECRETS[0]}"),
                await_start_signal=True,
                file_outputs=[{"filepath": "a.mp4", "s3": bucket}],
                stream_outputs=[{"urls": [f"rtmp://127.0.0.1:9/app/{SECRETS[2]}"]}],
            )
            egress_id = started["egress_id"]
            info = await service.wait(egress_id)
            assert info["status"] == "EGRESS_FAILED"
        # The service has ended, and waited for the report.
        key = f"reports/{egress_id}/{egress_id}.zip"
        body = storage.client().get_object(Bucket=storage.bucket, Key=key)["Body"].read()
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    state = json.loads(files["state.json"])
    assert state["egress"]["status"] == "EGRESS_FAILED" and "503" in state["egress"]["error"]
    assert state["machine"]["node_id"].startswith("NE_")
    assert files["log.jsonl"].count("\n") > 0
    assert [one for one in SECRETS if any(one in text for text in files.values())] == []
