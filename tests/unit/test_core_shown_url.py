"""Nothing of a URL that lets others in is in anything the service says, whatever the URL is of."""

import json
import string
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.protocol.egress import EgressInfo, ListEgressResponse, UpdateStreamRequest
from livekit.protocol.models import WebhookConfig

from openegress.api.dashboard_state import DashboardState
from openegress.api.health import upstream_status
from openegress.core import ipc
from openegress.core.errors import EgressError
from openegress.core.events import Ending, EndReason
from openegress.core.info import apply
from openegress.core.plan import Plan, StreamOutput, StreamTarget
from openegress.core.public import described, public_text, secrets_of
from openegress.core.shown_url import is_token, redact_endpoint, redact_page
from openegress.core.storages import LocalStorage, Proxy, StoragePlan
from openegress.output.live.connection import explain
from openegress.output.manifest import build
from openegress.output.manifest_store import header_of
from openegress.proto.egress_rpc_pb2 import StartEgressRequest
from openegress.request import redact, stream_urls
from openegress.request.context import Context
from openegress.request.initial_info import initial
from openegress.request.validate import plan_of
from openegress.room.signalling.websocket import signal_url
from openegress.source.web.url import Redactor
from openegress.storage.s3_address import endpoint_url
from openegress.storage.traits import proxy_url
from openegress.store import Change
from openegress.store.webhooks import body_of, check_webhooks, events_of
from openegress.worker.fault_reports import report
from openegress.worker.job import Job
from openegress.worker.traces import Trace

SECRET = "qZ9yY8Xx7Ww6Vv5Uu4Tt3"
"""As a machine makes them."""
SHOWN_CHARS = 3
"""Of each end of a path, as of a stream key."""


def leaks(text: str) -> bool:
    """Whether more of the secret is in a text than its ends."""
    length = SHOWN_CHARS + 1
    return any(SECRET[at : at + length] in text for at in range(len(SECRET) - length + 1))


NAMES = st.sampled_from(["token", "access_token", "api_key", "password", "X-Amz-Signature", "key", "sig"])
WORDS = st.text(string.ascii_lowercase, min_size=1, max_size=5)


@st.composite
def tails(draw: st.DrawFn) -> str:
    """The secret somewhere behind the host."""
    before, after, name = draw(WORDS), draw(WORDS), draw(NAMES)
    return draw(
        st.sampled_from(
            [
                f"/{SECRET}",
                f"/{before}/{SECRET}",
                f"/{SECRET}/{after}",
                f"/{before}/T000/{SECRET}/{after}/",
                f"/{before}?{name}={SECRET}",
                f"/{before}?{SECRET}",
                f"/{before}?a=b&{name}={SECRET}&c={after}",
                f"/{before}?{after}={SECRET}&{before}",
            ]
        )
    )


USERS = st.sampled_from(["", f"{SECRET}@", f"ann:{SECRET}@", f"{SECRET}:x@"])
FRAGMENTS = st.sampled_from(["", f"#{SECRET}", f"#/room/{SECRET}", f"#token={SECRET}"])


@st.composite
def urls(draw: st.DrawFn, schemes: tuple[str, ...], *, fragment: bool = True) -> str:
    port = draw(st.sampled_from(["", ":8443"]))
    end = draw(FRAGMENTS) if fragment else ""
    return f"{draw(st.sampled_from(schemes))}://{draw(USERS)}host.example{port}{draw(tails())}{end}"


HTTP = urls(("http", "https"))
WEBSOCKETS = urls(("ws", "wss"), fragment=False)


def everything_said(request: StartEgressRequest) -> dict[str, str]:
    """Of an egress, by the place it is said in. A record that its own keeper reads is none of them."""
    plan = plan_of(request, Context(1, StoragePlan(LocalStorage("/out"))))
    info = initial(request, plan, 1)
    answer = redact.shown(info)
    board = DashboardState()
    board.update(info)
    ended = apply(info, Ending(EndReason.API), 2)
    log = Trace()
    log.log(ipc.Log("error", f"no way to {_raw(plan)}", {"where": repr(plan)}), 1)
    record: Any = SimpleNamespace(info=ended)
    job = SimpleNamespace(
        plan=plan,
        record=record,
        kind="web",
        progress=None,
        handlers=SimpleNamespace(deaths=[], last_words=[f"no way to {_raw(plan)}"]),
    )
    header = header_of(plan, {}, 1, 2)
    return {
        "answer": str(answer),
        "list": str(redact.shown(ListEgressResponse(items=[ended]))),
        "webhook": "".join(
            body_of(event, ended, "EV_1", 1).decode() for event in events_of(Change.UPDATED, ended) or ("x",)
        ),
        "dashboard": json.dumps(board.snapshot()["egresses"]),
        "health": json.dumps(upstream_status(0.5, [info])),
        "report": json.dumps(report(cast("Job", job), log, {})),
        "manifest": str(header) + build(header, []),
    }


def _raw(plan: Plan) -> str:
    return str(getattr(plan.source, "url", "")) + str(plan.outputs)


def nothing_leaks(request: StartEgressRequest) -> None:
    said = everything_said(request)
    assert [place for place, text in said.items() if leaks(text)] == [], said


def started(body: dict[str, Any]) -> StartEgressRequest:
    whole = {"egress_id": "EG_1", "token": "t", "ws_url": "ws://h", **body}
    return json_format.ParseDict(whole, StartEgressRequest())


@settings(max_examples=40)
@given(HTTP, HTTP)
def test_of_webhooks_and_pages(hook: str, url: str) -> None:
    web = {"url": url, "file_outputs": [{"filepath": "x"}], "webhooks": [{"url": hook, "signing_key": "k"}]}
    nothing_leaks(started({"web": web}))
    composite = {"room_name": "r", "custom_base_url": url, "file_outputs": [{"filepath": "x"}]}
    nothing_leaks(started({"room_composite": composite}))


@settings(max_examples=40)
@given(WEBSOCKETS)
def test_of_websockets(url: str) -> None:
    nothing_leaks(started({"track": {"room_name": "r", "track_id": "TR_1", "websocket_url": url}}))
    outputs = [{"stream": {"urls": [url]}}]
    nothing_leaks(started({"egress": {"web": {"url": "http://e"}, "outputs": outputs}}))
    update = UpdateStreamRequest(add_output_urls=[url], remove_output_urls=[url])
    assert not leaks(str(redact.redacted(update)))


@settings(max_examples=40)
@given(HTTP)
def test_of_proxies(url: str) -> None:
    upload = {"bucket": "b", "access_key": "a", "secret": "s", "region": "eu-west-1", "proxy": {"url": url}}
    nothing_leaks(started({"web": {"url": "http://e", "file_outputs": [{"filepath": "x", "s3": upload}]}}))


BROKEN = st.one_of(
    st.just(f"http://ann:{SECRET}?word@host/p"),
    st.just(f"http://ann:{SECRET}/word@host/p"),
    st.just(f"http://[{SECRET}/"),
    st.just(f"ann:{SECRET}@host:3128"),
    urls(("ftp", "file", "x")),
)


def refusal_of(kind: str, url: str) -> str:
    """The error of a URL that is not what it should be; "" where it is taken."""
    try:
        match kind:
            case "webhook":
                check_webhooks([WebhookConfig(url=url, signing_key="k")], {"k"})
            case "stream":
                stream_urls.target(url, stream_urls.StreamKind.WEBSOCKET)
            case "page":
                denied = {"url": url.replace("host", "169.254.169.254"), "file_outputs": [{"filepath": "x"}]}
                plan_of(
                    started({"web": denied}),
                    Context(1, StoragePlan(LocalStorage("/out")), deny_networks=("169.254.0.0/16",)),
                )
            case "server":
                signal_url(url)
            case "proxy":
                proxy_url(Proxy(url=url))
            case "endpoint":
                endpoint_url(url)
            case "storage":
                upload = {"bucket": "b", "access_key": "a", "secret": "s", "endpoint": url}
                plan_of(
                    started({"web": {"url": "http://e", "file_outputs": [{"filepath": "x", "s3": upload}]}}),
                    Context(1, StoragePlan(LocalStorage("/out"))),
                )
    except (EgressError, ValueError) as error:
        return str(error)
    return ""


KINDS = ["webhook", "stream", "page", "server", "proxy", "endpoint", "storage"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(url=st.one_of(HTTP, BROKEN))
def test_of_errors(kind: str, url: str) -> None:
    assert not leaks(refusal_of(kind, url)), refusal_of(kind, url)


@given(HTTP)
def test_of_what_a_page_says_of_itself(url: str) -> None:
    hide = Redactor(url)
    assert not leaks(hide(f"{url} answered HTTP 404; GET {url}.js: {SECRET}"))


@given(WEBSOCKETS)
def test_of_errors_of_a_connection(url: str) -> None:
    target = stream_urls.target(url, stream_urls.StreamKind.WEBSOCKET)
    assert not leaks(explain(OSError(111, url), target, was_connected=False))
    plan = Plan("EG_1", cast("Any", None), (StreamOutput("rtmp", (target,)),), video=None, audio=None)
    assert isinstance(target, StreamTarget)
    assert not leaks(json.dumps(described(plan)))
    assert not leaks(public_text(f"said {url} and {SECRET}", secrets_of(plan)))


@given(st.text(max_size=60))
def test_any_text_is_shown_the_same_when_shown_again(text: str) -> None:
    for shown in (redact_endpoint, redact_page):
        assert shown(shown(text)) == shown(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example/room/quarterly-meeting-2024?layout=speaker-light",
        "http://127.0.0.1:8080/index-v2.html?x=1280x720",
        "http://[::1]:80/#/r/1",
        "https://medium.example/@ann/a-post",
    ],
)
def test_a_page_without_secrets_is_shown_as_it_was_named(url: str) -> None:
    assert redact_page(url) == url
    info = EgressInfo()
    info.web.url = url
    assert redact.redacted(info) == info


@pytest.mark.parametrize(
    ("url", "of_receiver", "of_page"),
    [
        ("https://h", "https://h", "https://h"),
        ("https://h/?a", "https://h/?{...}", "https://h/?a"),
        ("https://hooks.example/T000/B000/XXXX", "https://hooks.example/{...}", None),
        ("https://hooks.example/T000/B000/XXXXXX", "https://hooks.example/{T00...XXX}", None),
        ("wss://h/ingest/a-key-of-many?channels=1", "wss://h/{ing...any}?channels={...}", None),
        ("https://ann:pw@h/p?jwt=x#token=y", "https://{...}@h/{...}?jwt={...}", None),
        (f"https://h/rooms/{SECRET}/1", "https://h/{...}", "https://h/rooms/{...}/1"),
        ("https://h/550e8400-e29b-41d4-a716-446655440000", None, "https://h/{...}"),
        ("https://h/?jwt=a.b&layout=grid#key=c", None, "https://h/?jwt={...}&layout=grid#key={...}"),
    ],
)
def test_what_is_shown(url: str, of_receiver: str | None, of_page: str | None) -> None:
    assert redact_endpoint(url) == of_receiver or of_receiver is None
    assert redact_page(url) == of_page or of_page is None


@pytest.mark.parametrize("word", [SECRET, "550e8400e29b41d4a716446655440000", "a" * 40, "x-a1b2c3d4e5f6g7"])
def test_what_looks_like_a_token(word: str) -> None:
    assert is_token(word)


@pytest.mark.parametrize("word", ["room", "quarterly-meeting-2024", "2024-11-29T150405", "20241129150405"])
def test_what_looks_like_a_name(word: str) -> None:
    assert not is_token(word)
