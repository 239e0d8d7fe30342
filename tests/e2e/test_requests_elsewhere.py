"""What a request says of other servers, asked of our API and of a stock livekit-server: the role that its
storage is written in, the storage behind that one, and who is told by webhook, signed with which key."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from livekit.protocol.webhook import WebhookEvent

from testkit.fault_proxy import FaultProxy
from testkit.livekit_server import LivekitServer
from testkit.participants import AudioSpec, Publisher
from testkit.probe import has_tone, tones
from testkit.redis_server import RedisServer
from testkit.servers import S3Server
from testkit.service import EgressClient, Info, Refused, Service
from testkit.webhook_receiver import VerifiedWebhooks

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER_KEY, OTHER_SECRET = "otherkey", "another-secret-of-more-than-32-characters"
UPDATED = "egress_updated"
TONE_HZ = 440
RECORDED_S = 2.0


class Reluctant(VerifiedWebhooks):
    """Fails the first deliveries, of which it keeps the names too."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = 0
        self.failed: list[str] = []

    async def answer_to(self, event: WebhookEvent, body: str) -> web.StreamResponse:
        if len(self.failed) < self.fails:
            self.failed.append(event.event)
            return web.Response(status=503)
        return await super().answer_to(event, body)


ALLOWED = {
    "assumer": {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"},
    "recorder": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
}
"""Who may do what: the user that a request names, and the role that it names."""


def assumer_of(s3: S3Server) -> dict[str, str]:
    """The key of a user that may take on the role, and do nothing else."""
    iam = s3.client("iam")
    policies = {
        name: json.dumps({"Version": "2012-10-17", "Statement": [may]}) for name, may in ALLOWED.items()
    }
    iam.create_role(RoleName="recorder", AssumeRolePolicyDocument=policies["assumer"])
    iam.put_role_policy(RoleName="recorder", PolicyName="p", PolicyDocument=policies["recorder"])
    iam.create_user(UserName="assumer")
    iam.put_user_policy(UserName="assumer", PolicyName="p", PolicyDocument=policies["assumer"])
    key = iam.create_access_key(UserName="assumer")["AccessKey"]
    return {"access_key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}


def access(s3: S3Server, bucket: str, **more: str) -> dict[str, str]:
    given = {"access_key": s3.access_key, "secret": s3.secret, "region": s3.region, "endpoint": s3.url}
    return given | {"bucket": bucket} | more


@dataclass(frozen=True, slots=True)
class World:
    s3: S3Server
    assumer: dict[str, str]
    down: FaultProxy
    """Before `s3`. It refuses connections."""
    ours: Service
    asked: dict[str, EgressClient]
    """Ours, and a livekit-server's with a worker of ours."""
    api_key: str
    api_secret: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        s3 = stack.enter_context(S3Server(enforce=True))
        for bucket in ("first", "second"):
            s3.create_bucket(bucket)
        down, redis = await enter(FaultProxy(s3.port)), await enter(RedisServer())
        await down.refuse()
        livekit = await enter(LivekitServer(redis_url=redis.url))
        config = {
            "backup": {"prefix": "behind", "s3": access(s3, "second")},
            "retries": {"upload_for": "1s"},
            "storage_check": False,
        }
        api_key, api_secret = livekit.api_key, livekit.api_secret
        own = config | {"keys": {api_key: api_secret, OTHER_KEY: OTHER_SECRET}}
        ours = await enter(Service(tmp_path_factory.mktemp("ours"), livekit, own))
        behind = config | {"redis": {"address": redis.address}}
        await enter(Service(tmp_path_factory.mktemp("worker"), livekit, behind, "worker"))
        stock = await enter(EgressClient(livekit.http_url, api_key, api_secret))
        await enter(Publisher(livekit, "elsewhere", "ann", None, AudioSpec(tone_hz=TONE_HZ)))
        asked = {"ours": ours, "stock": stock}
        yield World(s3, assumer_of(s3), down, ours, asked, api_key, api_secret)


def sound(path: str, **storage: Any) -> dict[str, Any]:
    """Of the room."""
    return {
        "room_name": "elsewhere",
        "audio_only": True,
        "file_outputs": [{"filepath": path, "disable_manifest": True, **storage}],
    }


def check_stored(world: World, bucket: str, key: str, folder: Path) -> None:
    stored = folder / "stored.ogg"
    stored.write_bytes(world.s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())
    assert has_tone(tones(stored), TONE_HZ)


def backup_key(world: World, info: Info, path: str) -> str:
    """Where the backup has the file of the bucket `first`: in a folder of that bucket."""
    key = info["file_results"][0]["location"].removeprefix(f"{world.s3.url}/second/")
    assert re.fullmatch(rf"behind/first-[0-9a-f]{{16}}/{re.escape(path)}", key)
    return str(key)


@pytest.mark.parametrize("of", ["ours", "stock"])
async def test_a_file_is_written_in_the_role_of_its_request(world: World, of: str, tmp_path: Path) -> None:
    role = {"assume_role_arn": world.s3.role_arn, "assume_role_external_id": "customer-7"}
    upload = access(world.s3, "first", **world.assumer, **role)
    client = world.asked[of]
    info = await client.record("StartRoomCompositeEgress", RECORDED_S, **sound(f"{of}.ogg", s3=upload))
    assert (info["status"], info["error"], info["backup_storage_used"]) == ("EGRESS_COMPLETE", "", False)
    check_stored(world, "first", f"{of}.ogg", tmp_path)
    shown = info["room_composite"]["file_outputs"][0]["s3"]
    assert (shown["secret"], shown["assume_role_external_id"]) == ("{secret}", "{external_id}")
    assert shown["assume_role_arn"] == world.s3.role_arn


@pytest.mark.parametrize("of", ["ours", "stock"])
async def test_without_its_role_the_same_key_writes_nothing(world: World, of: str, tmp_path: Path) -> None:
    """And what it does not write goes to the backup of the server."""
    upload = access(world.s3, "first", **world.assumer)
    path = f"{of}-alone.ogg"
    info = await world.asked[of].record("StartRoomCompositeEgress", RECORDED_S, **sound(path, s3=upload))
    assert (info["status"], info["backup_storage_used"]) == ("EGRESS_COMPLETE", True), info["error"]
    assert f"{of}-alone.ogg" not in world.s3.keys("first")
    check_stored(world, "second", backup_key(world, info, path), tmp_path)


@pytest.mark.parametrize("of", ["ours", "stock"])
async def test_the_backup_takes_what_cannot_reach_the_storage_of_a_request(
    world: World, of: str, tmp_path: Path
) -> None:
    upload = access(world.s3, "first", endpoint=world.down.url)
    path = f"{of}-down.ogg"
    info = await world.asked[of].record("StartRoomCompositeEgress", RECORDED_S, **sound(path, s3=upload))
    assert (info["status"], info["backup_storage_used"]) == ("EGRESS_COMPLETE", True), info["error"]
    check_stored(world, "second", backup_key(world, info, path), tmp_path)


async def test_webhooks_of_a_request_are_signed_with_the_keys_it_names_and_retried(world: World) -> None:
    """By two keys of the server, in order for each receiver, though one of them refuses at first."""
    async with Reluctant() as first, Reluctant() as second:
        first.trust(world.api_key, world.api_secret)
        second.trust(OTHER_KEY, OTHER_SECRET)
        second.fails = 2
        hooks = [
            {"url": first.url},
            {"url": second.url, "signing_key": OTHER_KEY, "filter_params": {"exclude_events": [UPDATED]}},
        ]
        request = sound("hooks.ogg") | {"webhooks": hooks}
        info = await world.ours.record("StartRoomCompositeEgress", RECORDED_S, **request)
        assert (info["status"], info["error"]) == ("EGRESS_COMPLETE", "")
        for receiver in (first, second):
            await receiver.until(info["egress_id"], "egress_ended")
            assert receiver.refused == []
        assert second.failed == ["egress_started", "egress_started"]
        assert second.of(info["egress_id"]) == ["egress_started", "egress_ended"]
        heard = first.of(info["egress_id"])
        assert (heard[0], set(heard[1:-1]), heard[-1]) == ("egress_started", {UPDATED}, "egress_ended")


async def test_a_key_that_nobody_knows_is_refused_at_once(world: World) -> None:
    request = sound("nobody.ogg") | {"webhooks": [{"url": "http://127.0.0.1:1/", "signing_key": "nobody"}]}
    with pytest.raises(Refused) as refused:
        await world.ours.call("StartRoomCompositeEgress", **request)
    assert (refused.value.code, refused.value.message) == (
        "invalid_argument",
        "no secret for provided signing key {no...dy}: name an API key of this server",
    )


async def test_a_livekit_server_signs_the_webhooks_of_its_requests(world: World) -> None:
    async with Reluctant() as receiver:
        receiver.trust(world.api_key, world.api_secret)
        hooks = [{"url": receiver.url, "signing_key": world.api_key}]
        request = sound("stock-hooks.ogg") | {"webhooks": hooks}
        info = await world.asked["stock"].record("StartRoomCompositeEgress", RECORDED_S, **request)
        await receiver.until(info["egress_id"], "egress_ended")
        assert receiver.refused == []
        assert receiver.of(info["egress_id"])[0] == "egress_started"
