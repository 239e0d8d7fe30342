"""Secrets of the configuration and of a request: where they must not show while it records, and after."""

import asyncio
import io
import json
import re
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiohttp import web

from openegress.core.tokens import egress_token
from testkit.livekit_server import LivekitServer, free_port
from testkit.local_app import serving
from testkit.page_server import PageServer
from testkit.participants import AudioSpec, Publisher, VideoSpec
from testkit.servers import S3Server
from testkit.service import Refused, Service

STREAM_KEY = "stream-key-0a1b2c3d4e5f"
BACKUP_SECRET = "backup-secret-5e4d3c2b1a0f"
HOOK_PASSWORD = "hook-password-9z8y7x6w5v4u"
URL_SECRETS = [f"secret-{number}-of-a-url" for number in range(8)]
"""Of streams and of a request's webhook, one for each place in which a URL may hold one."""
SMALL = {"width": 320, "height": 180, "framerate": 15}
TOKEN = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.")
"""A JWT, as the recorder joins with."""
METADATA = "http://169.254.169.254/latest/meta-data/"


def read(process: psutil.Process) -> dict[str, str]:
    """argv and environment, as anybody on the machine may read them."""
    found = {}
    for name in ("cmdline", "environ"):
        path = Path(f"/proc/{process.pid}/{name}")
        try:
            found[f"{process.name()} {process.pid} {name}"] = (
                path.read_bytes().replace(b"\0", b"\n").decode(errors="replace")
            )
        except (OSError, psutil.NoSuchProcess):
            continue  # ended meanwhile
    return found


def rtmp_urls() -> list[str]:
    """Where nobody listens, with secrets in every place."""
    where = f"127.0.0.1:{free_port()}"
    user, path, query, token, *_ = URL_SECRETS
    return [
        f"rtmp://u:{user}@{where}/app/key",
        f"rtmps://{where}/app/inst/key{path}key",
        f"rtmp://{where}/app/key?token={query}/x&s=y",
        f"rtmp://{where}/app?backup={token}/key",
    ]


def srt_urls() -> list[str]:
    where = f"127.0.0.1:{free_port()}"
    *_, stream_id, phrase, _, _ = URL_SECRETS
    return [f"srt://{where}?streamid=#!::r=x,u={stream_id}", f"srt://{where}?passphrase={phrase}&latency=60"]


def core_file_limit(process: psutil.Process) -> str:
    """Soft and hard, in bytes."""
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    return " ".join(re.findall(r"^Max core file size +(\S+) +(\S+)", limits, re.MULTILINE)[0])


async def page(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as answer:
        return await answer.text()


async def test_secrets_stay_secret(tmp_path: Path) -> None:
    metrics_port = free_port()
    config = {
        "prometheus_port": metrics_port,
        "logging": {"level": "debug"},
        "backup": {"s3": {"access_key": "b", "secret": BACKUP_SECRET, "bucket": "b", "region": "r"}},
        # Nobody listens there: each attempt is in the log.
        "webhook": {
            "urls": [f"http://hook:{HOOK_PASSWORD}@127.0.0.1:{free_port()}/hooks/{HOOK_PASSWORD}/1"],
            "api_key": "devkey",
        },
    }
    async with (
        LivekitServer() as livekit,
        Service(tmp_path, livekit, config) as service,
        Publisher(livekit, "r", "alice", VideoSpec(width=320, height=180, fps=15), AudioSpec()) as alice,
        aiohttp.ClientSession() as http,
    ):
        with S3Server() as s3:
            await asyncio.to_thread(s3.client().create_bucket, Bucket="recordings")
            upload = {
                "bucket": "recordings",
                "endpoint": s3.url,
                "region": s3.region,
                "force_path_style": True,
                "access_key": s3.access_key,
                "secret": s3.secret,
            }
            info = await service.call(
                "StartRoomCompositeEgress",
                room_name=alice.room_name,
                # A page, so that a browser is among what is looked at.
                custom_base_url=f"{service.url}/",
                advanced=SMALL,
                file_outputs=[{"filepath": "room.mp4", "s3": upload}],
                # Nobody listens there: what is said of the failure must not tell the key.
                stream_outputs=[{"urls": [f"rtmp://127.0.0.1:{free_port()}/app/{STREAM_KEY}", *rtmp_urls()]}],
                webhooks=[
                    {
                        "url": f"http://u:{URL_SECRETS[7]}@127.0.0.1:{free_port()}/in/{URL_SECRETS[7]}",
                        "signing_key": "devkey",
                    }
                ],
            )
            egress_id = info["egress_id"]
            await service.active(egress_id)
            sound = await service.call(
                "StartRoomCompositeEgress",
                room_name=alice.room_name,
                audio_only=True,
                file_outputs=[{"filepath": "sound.mp4"}],
                stream_outputs=[{"protocol": "SRT", "urls": srt_urls()}],
            )
            await service.active(sound["egress_id"])
            added = f"rtmp://127.0.0.1:{free_port()}/app/key{URL_SECRETS[6]}key"
            updated = await service.call("UpdateStream", egress_id=egress_id, add_output_urls=[added])
            await asyncio.sleep(2.0)
            places = {"answer": json.dumps(info), "others": json.dumps([updated, sound])}
            process = psutil.Process(service.pid)
            children = process.children(recursive=True)
            # Of the service itself the argv only: how it was configured is its owner's choice.
            places["argv"] = "\n".join(process.cmdline())
            for child in children:
                places |= read(child)
            limits = {one.name(): core_file_limit(one) for one in (process, *children) if one.is_running()}
            assert set(limits.values()) == {"0 0"}, limits
            sound = await service.finish(sound["egress_id"])
            assert (len(updated["stream_results"]), len(sound["stream_results"])) == (6, 2)
            places["list"] = json.dumps(await service.call("ListEgress"))
            places["dashboard"] = json.dumps(await service.dashboard())
            places["health"] = await page(http, f"http://127.0.0.1:{service.health_port}/")
            places["metrics"] = await page(http, f"http://127.0.0.1:{metrics_port}/metrics")
            ended = await service.finish(egress_id)
            assert ended["status"] == "EGRESS_COMPLETE", ended["error"]
            places["ended"] = json.dumps(ended)
            places["log"] = service.log
        for name in ("health", "dashboard", "metrics", "log"):
            assert egress_id in places[name], name
        assert "serve" in places["argv"]
        kinds = {name.partition(" ")[0] for name in places if name.endswith(("cmdline", "environ"))}
        assert {"Xvfb", "pulseaudio", "python"} <= kinds and any("chrom" in kind for kind in kinds), kinds
        secrets = (livekit.api_secret, s3.secret, s3.access_key, STREAM_KEY, BACKUP_SECRET, HOOK_PASSWORD)
        told = [
            (name, secret)
            for name, text in places.items()
            for secret in (*secrets, *URL_SECRETS, *TOKEN.findall(text))
            if secret in text
        ]
        assert told == []


async def test_what_must_not_be_reached_is_not(tmp_path: Path) -> None:
    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound(METADATA)

    app = web.Application()
    app.router.add_get("/", redirect)
    async with PageServer() as pages, Service(tmp_path) as service, serving(app) as port:
        outputs = {"file_outputs": [{"filepath": "page.mp4"}], "advanced": SMALL}

        with pytest.raises(Refused, match=r"169\.254\.169\.254") as refused:
            await service.call("StartWebEgress", url=METADATA, **outputs)
        assert refused.value.status == 400

        info = await service.call("StartWebEgress", url=f"http://127.0.0.1:{port}/", **outputs)
        info = await service.wait(info["egress_id"])
        assert info["status"] == "EGRESS_FAILED"
        assert "169.254.0.0/16" in info["error"]

        url = pages.url(f"fetch?url={METADATA}")
        info = await service.call("StartWebEgress", url=url, await_start_signal=True, **outputs)
        await service.active(info["egress_id"])
        await service.finish(info["egress_id"])
        assert "refused" in service.log and "reached" not in service.log


async def test_bodies_and_paths(tmp_path: Path) -> None:
    async with Service(tmp_path) as service:
        headers = {
            "Authorization": f"Bearer {egress_token(service.api_key, service.api_secret)}",
            "Content-Type": "application/json",
        }
        url = f"{service.url}/twirp/livekit.Egress/StartWebEgress"
        body = io.BytesIO(b'{"url": "http://127.0.0.1/' + b"x" * 2_000_000 + b'"}')
        async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=headers) as answer:
            assert answer.status == 413
        for path in ("/etc/out.mp4", f"{service.out}/../out.mp4", f"{service.out}-other/out.mp4"):
            with pytest.raises(Refused) as refused:
                await service.call(
                    "StartWebEgress", url="http://127.0.0.1/", file_outputs=[{"filepath": path}]
                )
            assert (refused.value.status, refused.value.code) == (400, "invalid_argument"), path
        assert await asyncio.to_thread(lambda: list(service.out.rglob("*"))) == []
