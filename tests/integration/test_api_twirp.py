"""The Egress API over raw HTTP: routes, codings, tokens, error bodies, garbage."""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.protocol import egress as wire

from openegress.api import wire_json
from openegress.api.idempotent_calls import REQUEST_ID_HEADER
from openegress.core.errors import Code, EgressError
from openegress.proto.today import known
from openegress.request import options
from testkit.egress_api import EgressApi, egress_api

WEB = {"url": "http://example.com", "file_outputs": [{"filepath": "x"}]}
JSON = "application/json"
PROTOBUF = "application/protobuf"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EgressApi]:
    async with egress_api(tmp_path) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def post(
    http: aiohttp.ClientSession,
    api: EgressApi,
    method: str,
    body: dict[str, Any] | bytes,
    headers: dict[str, str] | None = None,
    prefix: str = "/twirp/livekit.Egress/",
) -> tuple[int, Any]:
    data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    url = f"{api.url}{prefix}{method}"
    async with http.post(url, data=data, headers=api.headers() if headers is None else headers) as answer:
        raw = await answer.read()
        is_json = answer.headers["Content-Type"].startswith(JSON)
        return answer.status, json.loads(raw) if is_json else raw


async def test_json_out_is_snake_case_with_every_field(api: EgressApi, http: aiohttp.ClientSession) -> None:
    status, info = await post(http, api, "StartWebEgress", WEB | {"unknownField": 1})
    assert status == 200
    assert info["egress_id"].startswith("EG_") and len(info["egress_id"]) == 15
    assert info["status"] == "EGRESS_STARTING"
    assert info["source_type"] == "EGRESS_SOURCE_TYPE_WEB"
    assert abs(int(info["started_at"]) - time.time_ns()) < 10e9
    assert isinstance(info["started_at"], str)
    assert info["ended_at"] == "0"
    assert (info["error"], info["error_code"], info["stream_results"]) == ("", 0, [])
    assert info["file_results"][0]["size"] == "0"
    assert info["file"]["filename"] == "x.mp4"
    assert "room_composite" not in info and "stream" not in info
    assert info["web"]["file_outputs"][0] == {
        "file_type": "DEFAULT_FILETYPE",
        "filepath": "x",
        "disable_manifest": False,
    }
    assert "preset" not in info["web"]
    status, listed = await post(http, api, "ListEgress", {})
    assert listed["next_page_token"] is None
    assert [item["egress_id"] for item in listed["items"]] == [info["egress_id"]]


async def test_camel_case_numbers_and_names_are_taken(api: EgressApi, http: aiohttp.ClientSession) -> None:
    for body in (
        {"url": "http://e.com", "fileOutputs": [{"fileType": "MP4"}], "audioOnly": True},
        {"url": "http://e.com", "file_outputs": [{"file_type": 1}], "audio_only": True},
    ):
        status, info = await post(http, api, "StartWebEgress", body)
        assert status == 200
        assert info["file"]["filename"].endswith(".mp4")


async def test_protobuf(api: EgressApi, http: aiohttp.ClientSession) -> None:
    request = wire.WebEgressRequest(url="http://e.com", file_outputs=[wire.EncodedFileOutput()])
    headers = api.headers("Application/Protobuf; v=1")
    status, raw = await post(http, api, "StartWebEgress", request.SerializeToString(), headers)
    assert status == 200
    info = wire.EgressInfo.FromString(raw)
    assert info.web == request
    status, raw = await post(
        http, api, "ListEgress", wire.ListEgressRequest(active=True).SerializeToString(), headers
    )
    assert list(wire.ListEgressResponse.FromString(raw).items) == [info]


async def test_options_come_by_header_and_body(api: EgressApi, http: aiohttp.ClientSession) -> None:
    """The body counts, where both say something; binary requests have the header."""
    headers = api.headers() | {options.HEADER: "max_duration=5s&start_timeout=7s"}
    body = WEB | {"openegress": {"max_duration": "3s"}}
    status, info = await post(http, api, "StartWebEgress", body, headers)
    assert status == 200 and info["details"] == ""
    end_rules = api.worker.plans[info["egress_id"]].end_rules
    assert (end_rules.max_duration_s, end_rules.start_timeout_s) == (3, 7)
    request = wire.WebEgressRequest(url="http://e.com", file_outputs=[wire.EncodedFileOutput()])
    headers = api.headers(PROTOBUF) | {options.HEADER: "max_duration=5s"}
    status, raw = await post(http, api, "StartWebEgress", request.SerializeToString(), headers)
    found = wire.EgressInfo.FromString(raw)
    assert (status, found.web) == (200, request)
    assert api.worker.plans[found.egress_id].end_rules.max_duration_s == 5


async def test_other_options_are_another_call(api: EgressApi, http: aiohttp.ClientSession) -> None:
    """Under one request id the first answer comes again, but not for what was asked otherwise."""
    ids = []
    for text in ("max_duration=5s", "max_duration=5s", "max_duration=6s"):
        headers = api.headers() | {options.HEADER: text, REQUEST_ID_HEADER: "the-same"}
        status, info = await post(http, api, "StartWebEgress", WEB, headers)
        assert status == 200
        ids.append(info["egress_id"])
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("text", [b"max_duration=5\xff", b"data_topics=\xff", b"record_only=\xed\xa0\x80"])
async def test_a_header_of_any_bytes_is_refused_as_one(api: EgressApi, text: bytes) -> None:
    """Raw, because clients leave out what is no text."""
    body = json.dumps(WEB).encode()
    head = [b"POST /twirp/livekit.Egress/StartWebEgress HTTP/1.1", b"Host: x", b"Connection: close"]
    head += [f"{name}: {value}".encode() for name, value in api.headers().items()]
    head += [options.HEADER.encode() + b": " + text, f"{REQUEST_ID_HEADER}: bytes".encode()]
    head += [f"Content-Length: {len(body)}".encode(), b"", body]
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(b"\r\n".join(head))
    answer, _, raw = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 "), raw
    error = json.loads(raw)
    assert error["code"] == "invalid_argument" and "is not UTF-8" in error["msg"]
    assert error["msg"].isascii()


@pytest.mark.parametrize("prefix", ["//twirp/livekit.Egress/", "///twirp/livekit.Egress/"])
async def test_leading_slashes_collapse(api: EgressApi, http: aiohttp.ClientSession, prefix: str) -> None:
    status, _ = await post(http, api, "ListEgress", {}, prefix=prefix)
    assert status == 200


@pytest.mark.parametrize(
    ("verb", "path", "content_type", "message"),
    [
        ("GET", "ListEgress", JSON, 'unsupported method "GET" (only POST is allowed)'),
        ("PUT", "ListEgress", JSON, 'unsupported method "PUT" (only POST is allowed)'),
        ("POST", "Nothing", JSON, 'no handler for path "/twirp/livekit.Egress/Nothing"'),
        ("POST", "ListEgress/", JSON, 'no handler for path "/twirp/livekit.Egress/ListEgress/"'),
        ("POST", "ListEgress", "text/plain", 'unexpected Content-Type: "text/plain"'),
    ],
)
async def test_bad_routes(
    api: EgressApi, http: aiohttp.ClientSession, verb: str, path: str, content_type: str, message: str
) -> None:
    url = f"{api.url}/twirp/livekit.Egress/{path}"
    async with http.request(verb, url, data=b"{}", headers=api.headers(content_type)) as answer:
        assert answer.status == 404
        assert answer.content_type == JSON
        assert await answer.json() == {"code": "bad_route", "msg": message}


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        (JSON, b"", "the json request could not be decoded"),
        (JSON, b"{", "the json request could not be decoded"),
        (JSON, b"[]", "the json request could not be decoded"),
        (JSON, b"null", "the json request could not be decoded"),
        (JSON, b'{"egress_id": {}}', "the json request could not be decoded"),
        (JSON, b'{"active": "maybe"}', "the json request could not be decoded"),
        (JSON, b"\xff\xfe", "the json request could not be decoded"),
        (JSON, b"[" * 100_000, "the json request could not be decoded"),
        (PROTOBUF, b"\x0a\xff", "the protobuf request could not be decoded"),
    ],
)
async def test_malformed(
    api: EgressApi, http: aiohttp.ClientSession, content_type: str, body: bytes, message: str
) -> None:
    status, error = await post(http, api, "ListEgress", body, api.headers(content_type))
    assert (status, error) == (400, {"code": "malformed", "msg": message})


async def test_oversized_body(api: EgressApi, http: aiohttp.ClientSession) -> None:
    status, text = await post(http, api, "ListEgress", b" " * (1024 * 1024 + 1))
    assert (status, text) == (413, b"request body is larger than 262144 bytes")
    status, _ = await post(http, api, "ListEgress", {})
    assert status == 200


# --- tokens

NOT_BEARER = "invalid authorization header. Must start with Bearer "


@pytest.mark.parametrize(
    ("authorization", "text"),
    [
        ("Basic abc", NOT_BEARER),
        ("bearer abc", NOT_BEARER),
        ("Bearer abc", "invalid authorization token"),
        ("Bearer a.b.c", "invalid authorization token"),
        ("Bearer " + "é" * 5, "invalid authorization token"),
    ],
)
async def test_headers_that_are_no_token(
    api: EgressApi, http: aiohttp.ClientSession, authorization: str, text: str
) -> None:
    headers = api.headers() | {"Authorization": authorization}
    status, body = await post(http, api, "ListEgress", {}, headers)
    assert (status, body.decode()) == (401, text)


TOKENS: list[tuple[str, dict[str, Any], str]] = [
    ("expired", {"exp": 1_000_000_000}, "invalid authorization token: Signature has expired"),
    ("without exp", {"exp": None}, 'invalid authorization token: Token is missing the "exp" claim'),
    ("not yet", {"nbf": 4_000_000_000}, "invalid authorization token: The token is not yet valid (nbf)"),
    ("wrong secret", {"secret": "0" * 64}, "invalid authorization token: Signature verification failed"),
    ("other algorithm", {"algorithm": "HS512"}, "invalid authorization token: "),
    ("unknown key", {"iss": "APIother"}, "invalid API key"),
    ("no key", {"iss": None}, "invalid API key"),
]


@pytest.mark.parametrize(("claims", "text"), [t[1:] for t in TOKENS], ids=[t[0] for t in TOKENS])
async def test_tokens_refused(
    api: EgressApi, http: aiohttp.ClientSession, claims: dict[str, Any], text: str
) -> None:
    headers = api.headers() | {"Authorization": f"Bearer {api.token(**claims)}"}
    status, body = await post(http, api, "ListEgress", {}, headers)
    assert status == 401
    assert body.decode().startswith(text)


async def test_unsigned_tokens_are_refused(api: EgressApi, http: aiohttp.ClientSession) -> None:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"iss": api.api_key, "exp": int(time.time()) + 60, "video": {"roomRecord": True}}
    for algorithm in ("none", "None", "RS256"):
        token = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}."
        headers = api.headers() | {"Authorization": f"Bearer {token}"}
        status, body = await post(http, api, "ListEgress", {}, headers)
        assert status == 401
        assert body.startswith(b"invalid authorization token")


@pytest.mark.parametrize(
    "video", [None, {}, {"roomRecord": False}, {"roomRecord": "true"}, {"roomAdmin": True}, "roomRecord"]
)
async def test_without_the_grant(api: EgressApi, http: aiohttp.ClientSession, video: Any) -> None:
    headers = api.headers() | {"Authorization": f"Bearer {api.token(video=video)}"}
    denied = (401, {"code": "unauthenticated", "msg": "permissions denied"})
    for method in ("ListEgress", "StartWebEgress", "StopEgress", "UpdateLayout", "UpdateStream"):
        assert await post(http, api, method, {}, headers) == denied
    assert await post(http, api, "ListEgress", {}, {"Content-Type": JSON}) == denied


async def test_tokens_taken(api: EgressApi, http: aiohttp.ClientSession) -> None:
    late = api.token(exp=int(time.time()) - 30, nbf=int(time.time()) + 30, aud="x", sub="me", iat=2**40)
    status, _ = await post(http, api, "ListEgress", {}, api.headers() | {"Authorization": f"Bearer {late}"})
    assert status == 200
    url = f"ListEgress?access_token={api.token()}"
    status, _ = await post(http, api, url, {}, {"Content-Type": JSON})
    assert status == 200


async def test_the_room_of_a_token_is_not_looked_at(api: EgressApi, http: aiohttp.ClientSession) -> None:
    """As in LiveKit's own service: roomRecord is a grant for all rooms, and without it no room is."""
    for grant, expected in (({"roomRecord": True}, 200), ({"roomAdmin": True, "roomJoin": True}, 401)):
        headers = api.headers() | {"Authorization": f"Bearer {api.token(video={**grant, 'room': 'other'})}"}
        assert (await post(http, api, "ListEgress", {"room_name": "r"}, headers))[0] == expected


# --- time and trouble


async def test_the_callers_timeout_holds(api: EgressApi, http: aiohttp.ClientSession) -> None:
    api.worker.pause_s = 5.0
    started = time.monotonic()
    headers = api.headers() | {"X-Twirp-Timeout-Ms": "100"}
    status, error = await post(http, api, "StartWebEgress", WEB, headers)
    assert (status, error["code"]) == (408, "deadline_exceeded")
    assert time.monotonic() - started < 4.5
    api.worker.pause_s = 0.0
    for odd in ("abc", "-1", "0", "9999999999"):
        status, _ = await post(http, api, "ListEgress", {}, api.headers() | {"X-Twirp-Timeout-Ms": odd})
        assert status == 200


async def test_a_workers_refusal_arrives_at_once(api: EgressApi, http: aiohttp.ClientSession) -> None:
    api.worker.refusal = EgressError(Code.RESOURCE_EXHAUSTED, "not enough CPU: web needs 0.5 cores, 0.1 free")
    started = time.monotonic()
    status, error = await post(http, api, "StartWebEgress", WEB)
    assert (status, error["code"]) == (429, "resource_exhausted")
    assert error["msg"].startswith("not enough CPU: web needs 0.5 cores, 0.1 free")
    assert time.monotonic() - started < 5


async def test_without_workers_it_says_so(api: EgressApi, http: aiohttp.ClientSession) -> None:
    await api.worker.leave()
    status, error = await post(http, api, "StartWebEgress", WEB)
    assert (status, error["code"]) == (503, "unavailable")
    assert error["msg"].startswith("no response from servers: no egress worker is connected")


async def test_many_at_once(api: EgressApi, http: aiohttp.ClientSession) -> None:
    answers = await asyncio.gather(*(post(http, api, "StartWebEgress", WEB) for _ in range(50)))
    assert {status for status, _ in answers} == {200}
    assert len({info["egress_id"] for _, info in answers}) == 50


async def test_a_replay_starts_nothing_twice(api: EgressApi, http: aiohttp.ClientSession) -> None:
    """What LiveKit's SDKs do when an answer is lost: the same call with the same id."""
    headers = api.headers() | {"X-Livekit-Request-Id": "3f2c"}
    first = await post(http, api, "StartWebEgress", WEB, headers)
    assert await post(http, api, "StartWebEgress", WEB, headers) == first
    other = await post(http, api, "StartWebEgress", WEB | {"audio_only": True}, headers)
    assert other[1]["egress_id"] != first[1]["egress_id"]
    without = await post(http, api, "StartWebEgress", WEB)
    assert without[1]["egress_id"] != first[1]["egress_id"]
    assert len(api.worker.infos) == 3


async def test_a_replay_joins_the_start_that_is_under_way(
    api: EgressApi, http: aiohttp.ClientSession
) -> None:
    api.worker.pause_s = 0.3
    headers = api.headers() | {"X-Livekit-Request-Id": "3f2d"}
    impatient = headers | {"X-Twirp-Timeout-Ms": "50"}
    assert (await post(http, api, "StartWebEgress", WEB, impatient))[0] == 408
    status, info = await post(http, api, "StartWebEgress", WEB, headers)
    assert status == 200
    assert list(api.worker.infos) == [info["egress_id"]]


async def test_a_replay_of_a_failure_tries_anew(api: EgressApi, http: aiohttp.ClientSession) -> None:
    headers = api.headers() | {"X-Livekit-Request-Id": "3f2e"}
    api.worker.refusal = EgressError(Code.RESOURCE_EXHAUSTED, "not enough CPU")
    assert (await post(http, api, "StartWebEgress", WEB, headers))[0] == 429
    api.worker.refusal = None
    assert (await post(http, api, "StartWebEgress", WEB, headers))[0] == 200


METHODS = {
    "StartEgress": wire.StartEgressRequest,
    "StartRoomCompositeEgress": wire.RoomCompositeEgressRequest,
    "StartWebEgress": wire.WebEgressRequest,
    "StartParticipantEgress": wire.ParticipantEgressRequest,
    "StartTrackCompositeEgress": wire.TrackCompositeEgressRequest,
    "StartTrackEgress": wire.TrackEgressRequest,
    "UpdateLayout": wire.UpdateLayoutRequest,
    "UpdateStream": wire.UpdateStreamRequest,
    "ListEgress": wire.ListEgressRequest,
    "StopEgress": wire.StopEgressRequest,
}
garbage = st.binary(max_size=300) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["url", "room_name", "file_outputs", "advanced", "outputs", "web", "storage", "s3"]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())


async def test_garbage_is_answered_and_hurts_nobody(api: EgressApi, http: aiohttp.ClientSession) -> None:
    bodies: list[tuple[str, str, bytes]] = []

    @settings(max_examples=150, database=None)
    @given(st.sampled_from(sorted(METHODS)), st.sampled_from([JSON, PROTOBUF]), garbage)
    def collect(method: str, content_type: str, body: bytes) -> None:
        bodies.append((method, content_type, body))

    collect()
    for method, content_type, body in bodies:
        status, answer = await post(http, api, method, body, api.headers(content_type))
        assert status in (200, 400, 404, 412, 501), (method, body, answer)
        if status != 200:
            assert set(answer) == {"code", "msg"}
    status, _ = await post(http, api, "StartWebEgress", WEB)
    assert status == 200


@settings(max_examples=200)
@given(garbage)
def test_json_is_a_message_or_a_value_error(body: bytes) -> None:
    for kind in METHODS.values():
        try:
            message: Message = wire_json.parse(body, kind)
        except (ValueError, EgressError):
            continue
        assert wire_json.parse(wire_json.dump(message), kind) == known(message)
