"""Storages through the API: where files go, what is refused at the start, and that nothing is lost and every
record is true when a storage is away."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import m3u8
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from testkit.fault_proxy import FaultProxy
from testkit.livekit_server import free_port
from testkit.page_server import PageServer
from testkit.probe import counters, probe
from testkit.servers import S3Server, fetch
from testkit.service import Info, Refused, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL = {"width": 320, "height": 180, "framerate": 15, "video_bitrate": 300}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[str]:
    async with PageServer() as pages:
        yield pages.url("pattern.html?tone=1")


def access(s3: S3Server, bucket: str, **changed: Any) -> dict[str, Any]:
    return {
        "access_key": s3.access_key,
        "secret": s3.secret,
        "region": s3.region,
        "endpoint": s3.url,
        "bucket": bucket,
    } | changed


def config(s3: S3Server, **more: Any) -> dict[str, Any]:
    return {"storage": {"prefix": "all/of-us", "s3": access(s3, "server")}, **more}


async def start(service: Service, page: str, **request: Any) -> str:
    info = await service.call("StartWebEgress", **({"url": page, "advanced": SMALL} | request))
    await service.active(info["egress_id"])
    return str(info["egress_id"])


async def until(
    service: Service, egress_id: str, wanted: Callable[[Info], bool], timeout_s: float = 30
) -> Info:
    info: Info = {}
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                info = await service.info(egress_id)
                if wanted(info):
                    return info
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{info}\n{service.log[-3000:]}") from None


def is_stored(info: Info) -> bool:
    return bool(info["file_results"][0]["location"])


def check_stored(s3: S3Server, bucket: str, key: str, folder: Path, seconds: float) -> None:
    """The object plays, and holds what was recorded."""
    copy = folder / f"{bucket}.mp4"
    s3.client().download_file(bucket, key, str(copy))
    facts = probe(copy)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.duration_s > seconds
    assert counters(copy).in_order


async def test_the_servers_storage_and_a_requests_own(page: str, s3: S3Server, tmp_path: Path) -> None:
    async with Service(tmp_path, config=config(s3)) as service:
        output = {"filepath": "a/page.mp4"}
        segments = {"filename_prefix": "hls/page", "segment_duration": 1, "s3": access(s3, "request")}
        egress_id = await start(service, page, file_outputs=[output], segment_outputs=[segments])
        await asyncio.sleep(2.5)
        info = await service.finish(egress_id)
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        assert not info["backup_storage_used"]
        assert info["file_results"][0]["location"] == f"{s3.url}/server/all/of-us/a/page.mp4"
        assert info["manifest_location"] == f"{s3.url}/server/all/of-us/a/{egress_id}.json"
        # The prefix is the server's, whichever storage it is.
        [result] = info["segment_results"]
        keys = [key for key in s3.keys("request") if key.startswith("all/")]
        assert result["playlist_location"] == f"{s3.url}/request/all/of-us/hls/page.m3u8"
        parsed = m3u8.loads(
            s3.client().get_object(Bucket="request", Key="all/of-us/hls/page.m3u8")["Body"].read().decode()
        )
        wanted = [f"all/of-us/hls/{segment.uri}" for segment in parsed.segments]
        assert len(wanted) == int(result["segment_count"]) >= 2
        assert sorted(keys) == sorted([*wanted, "all/of-us/hls/page.m3u8", f"all/of-us/hls/{egress_id}.json"])
        check_stored(s3, "server", "all/of-us/a/page.mp4", tmp_path, 2.0)
        assert s3.secret not in json.dumps(info) and s3.secret not in service.log
        assert list((service.data / "spool").glob("EG_*")) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"bucket": "nowhere"}, "S3 upload failed: NoSuchBucket"),
        ({"secret": "wrong"}, "S3 upload failed: SignatureDoesNotMatch"),
        ({"access_key": "AKIAWRONGWRONGWRONG0"}, "S3 upload failed: InvalidAccessKeyId"),
        ({"bucket": ""}, "request has missing or invalid field: s3 bucket"),
    ],
    ids=["bucket", "secret", "key", "none"],
)
async def test_a_storage_that_refuses_is_told_before_anything_is_recorded(
    page: str, s3: S3Server, tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    async with Service(tmp_path) as service:
        storage = {"s3": access(s3, "request") | changed}
        with pytest.raises(Refused) as caught:
            await service.call("StartWebEgress", url=page, file_outputs=[{"filepath": "x.mp4", **storage}])
        assert caught.value.code == "invalid_argument"
        assert said in caught.value.message
        assert s3.secret not in caught.value.message
        assert (await service.call("ListEgress"))["items"] == []


async def test_presigned_locations(page: str, s3: S3Server, tmp_path: Path) -> None:
    storage = {"generate_presigned_url": True, "s3": access(s3, "server")}
    async with Service(tmp_path, config={"storage": storage}) as service:
        egress_id = await start(service, page, file_outputs=[{"filepath": "signed.mp4"}])
        info = await service.finish(egress_id)
        location = info["file_results"][0]["location"]
        assert location.startswith(f"{s3.url}/server/signed.mp4?") and "X-Amz-Signature=" in location
        status, body = await asyncio.to_thread(s3.fetch, location)
        assert (status, len(body)) == (200, int(info["file_results"][0]["size"]))
        assert fetch(location.partition("?")[0])[0] == 403


async def test_a_storage_that_goes_and_comes_back_gets_everything(
    page: str, s3: S3Server, tmp_path: Path
) -> None:
    async with FaultProxy(s3.port) as link, Service(tmp_path) as service:
        storage = {"s3": access(s3, "request", endpoint=link.url)}
        egress_id = await start(
            service,
            page,
            file_outputs=[{"filepath": "back/page.mp4", **storage}],
            segment_outputs=[{"filename_prefix": "back/hls/s", "segment_duration": 1, **storage}],
            image_outputs=[{"capture_interval": 1, "filename_prefix": "back/i", **storage}],
        )
        await asyncio.sleep(1.5)
        await link.refuse()
        await asyncio.sleep(3)
        assert (await service.info(egress_id))["status"] == "EGRESS_ACTIVE"
        await service.call("StopEgress", egress_id=egress_id)
        await until(service, egress_id, lambda info: info["status"] == "EGRESS_ENDING")
        await service.logged("upload failed: trying again")
        link.answer(503, 3)
        await link.accept()
        info = await service.wait(egress_id, timeout_s=40)
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        assert not info["backup_storage_used"]
        check_stored(s3, "request", "back/page.mp4", tmp_path, 4.0)
        keys = [key for key in s3.keys("request") if key.startswith("back/")]
        images = int(info["image_results"][0]["image_count"])
        segments = int(info["segment_results"][0]["segment_count"])
        assert images >= 4 and segments >= 4
        assert [key for key in keys if key.endswith(".jpeg")] == [
            f"back/i_{n:05d}.jpeg" for n in range(images)
        ]
        assert [key for key in keys if key.endswith(".ts")] == [
            f"back/hls/s_{n:05d}.ts" for n in range(segments)
        ]
        assert list((service.data / "spool").glob("EG_*")) == []


async def test_the_backup_takes_what_the_storage_does_not(page: str, s3: S3Server, tmp_path: Path) -> None:
    async with FaultProxy(s3.port) as link:
        storage = {"s3": access(s3, "server", endpoint=link.url)}
        backup = {"prefix": "second", "s3": access(s3, "backup")}
        retries = {"upload_for": "2s"}
        async with Service(
            tmp_path, config={"storage": storage, "backup": backup, "retries": retries}
        ) as service:
            egress_id = await start(service, page, file_outputs=[{"filepath": "backed.mp4"}])
            await asyncio.sleep(2)
            await link.refuse()
            info = await service.finish(egress_id)
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        assert info["backup_storage_used"]
        assert info["file_results"][0]["location"] == f"{s3.url}/backup/second/backed.mp4"
        assert info["manifest_location"] == f"{s3.url}/backup/second/{egress_id}.json"
        check_stored(s3, "backup", "second/backed.mp4", tmp_path, 1.5)


@pytest.mark.parametrize("how", ["interrupted", "killed", "handler killed"])
async def test_an_upload_that_waits_is_done_after_a_restart(
    page: str, s3: S3Server, tmp_path: Path, how: str
) -> None:
    name = f"{how.replace(' ', '-')}/page.mp4"
    metrics_port = free_port()
    async with FaultProxy(s3.port) as link:
        service = Service(tmp_path, config={"prometheus_port": metrics_port})
        async with service:
            storage = {"s3": access(s3, "request", endpoint=link.url)}
            egress_id = await start(
                service,
                page,
                file_outputs=[{"filepath": name, **storage}],
                image_outputs=[{"capture_interval": 1, "filename_prefix": f"{how}/i", **storage}],
            )
            await asyncio.sleep(1.5)
            await link.refuse()
            await asyncio.sleep(1)
            await service.call("StopEgress", egress_id=egress_id)
            info = await until(service, egress_id, lambda info: int(info["file_results"][0]["ended_at"]) > 0)
            assert info["status"] == "EGRESS_ENDING" and not is_stored(info)
            async with asyncio.timeout(15):
                if how == "interrupted":
                    await service.stop()
                else:
                    await service.kill()
            assert list((service.data / "spool").glob("EG_*/file-0/recording.mp4")) != []
            if how == "handler killed":
                await kill_handlers(service)
            await link.accept()
            await service.start()
            info = await until(service, egress_id, is_stored)
            info = await service.wait(egress_id)
            assert info["status"] == "EGRESS_FAILED"
            assert "ended while it recorded this" in info["error"] or "storage write" in info["error"]
            assert info["file_results"][0]["location"] == f"{link.url}/request/{name}"
            check_stored(s3, "request", name, tmp_path, 2.0)
            images = [key for key in s3.keys("request") if key.startswith(f"{how}/i_")]
            assert len(images) == int(info["image_results"][0]["image_count"]) >= 2
            assert info["manifest_location"].endswith(f"/{egress_id}.json")
            manifest = s3.client().get_object(
                Bucket="request", Key=f"{name.partition('/')[0]}/{egress_id}.json"
            )
            said = json.loads(manifest["Body"].read())
            assert [image["filename"] for image in said["images"]] == images
            await until(service, egress_id, lambda _: not list((service.data / "spool").glob("EG_*")))
            # One that was stopped in order had ended, and been counted, before.
            assert await asyncio.to_thread(ends, metrics_port) == (0 if how == "interrupted" else 1)


def ends(metrics_port: int) -> float:
    """How many egresses this life of the worker has counted."""
    _, text = fetch(f"http://127.0.0.1:{metrics_port}/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "livekit_egress_handler_results_total"
    )


async def kill_handlers(service: Service) -> None:
    """Those that outlived their service."""
    import psutil

    spool = str(service.data / "spool")
    for process in psutil.process_iter(["cmdline"]):
        if "openegress.handler" in (process.info["cmdline"] or []) and any(
            file.path.startswith(spool) for file in process.open_files()
        ):
            process.kill()
            await asyncio.to_thread(psutil.wait_procs, [process], 5)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """1 MiB, full within seconds. Needs root, as mounting does."""
    path = tmp_path / "data" / "spool"
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


async def test_a_full_disk_is_named_and_leaves_a_file_that_plays(
    page: str, tmp_path: Path, small_disk: Path
) -> None:
    async with Service(tmp_path) as service:
        info = await service.call(
            "StartWebEgress",
            url=page + "&busy=1",
            advanced={"width": 1280, "height": 720, "framerate": 30, "video_bitrate": 8000},
            file_outputs=[{"filepath": "full.mp4"}],
        )
        info = await service.wait(info["egress_id"], timeout_s=60)
        assert info["status"] == "EGRESS_FAILED"
        assert f"the disk of the recordings ({small_disk}" in info["error"] and "is full" in info["error"]
        assert "free some space" in info["error"]
        path = Path(info["file_results"][0]["location"])
        assert path == service.out / "full.mp4"
        facts = probe(path)
        assert facts.video is not None and facts.video.duration_s > 1
        assert counters(path).in_order
        assert int(info["file_results"][0]["size"]) == path.stat().st_size
