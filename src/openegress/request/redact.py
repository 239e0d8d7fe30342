"""Makes a copy of a request without secrets, for EgressInfo, logs and the dashboard."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from livekit.protocol.egress import (
    AliOSSUpload,
    AzureBlobUpload,
    GCPUpload,
    ProxyConfig,
    RoomCompositeEgressRequest,
    S3Upload,
    StreamOutput,
    TemplateSource,
    TrackEgressRequest,
    UpdateStreamRequest,
    WebEgressRequest,
    WebSource,
)
from livekit.protocol.models import WebhookConfig

from openegress.core.shown_url import redact_endpoint, redact_page
from openegress.request import stream_urls

M = TypeVar("M", bound=Message)

PLACEHOLDERS: dict[type[Message], dict[str, str]] = {
    S3Upload: {
        "access_key": "{access_key}",
        "secret": "{secret}",
        "session_token": "{session_token}",
        "assume_role_external_id": "{external_id}",
    },
    GCPUpload: {"credentials": "{credentials}"},
    AzureBlobUpload: {"account_name": "{account_name}", "account_key": "{account_key}"},
    AliOSSUpload: {"access_key": "{access_key}", "secret": "{secret}"},
    ProxyConfig: {"username": "{username}", "password": "{password}"},
}
"""Secret fields by message, wherever that message occurs in a request, and what replaces them. An empty one
stays empty."""


def redacted(message: M) -> M:
    """A copy of any message of the Egress API without its secrets. Idempotent."""
    copy = type(message)()
    copy.CopyFrom(message)
    for part in _parts(copy):
        _redact(part)
    return copy


def shown(message: M) -> M:
    """A record, or several, without secrets. Only the sender of webhooks needs their whole URLs. Returns the
    message itself if there is nothing to hide."""
    if not any(_hides(webhook) for webhook in _webhooks(message)):
        return message
    copy = type(message)()
    copy.CopyFrom(message)
    for webhook in _webhooks(copy):
        webhook.url = redact_endpoint(webhook.url)
    return copy


def _hides(webhook: WebhookConfig) -> bool:
    return redact_endpoint(webhook.url) != webhook.url


def _webhooks(message: Message) -> Iterator[WebhookConfig]:
    """Yields all webhooks in a message. A list may be long, so this reads only fields that may contain
    one."""
    if isinstance(message, WebhookConfig):
        yield message
        return
    for name in _leading(message.DESCRIPTOR):
        value = getattr(message, name)
        if not isinstance(value, Message):
            for child in value:
                yield from _webhooks(child)
        elif message.HasField(name):
            yield from _webhooks(value)


@cache
def _leading(descriptor: Descriptor) -> tuple[str, ...]:
    """The names of fields of a message that may contain a webhook."""
    return tuple(field.name for field in descriptor.fields if _may_hold(field.message_type, frozenset()))


def _may_hold(descriptor: Descriptor | None, above: frozenset[str]) -> bool:
    if descriptor is None or descriptor.full_name in above or descriptor.GetOptions().map_entry:
        return False
    if descriptor.full_name == WebhookConfig.DESCRIPTOR.full_name:
        return True
    return any(_may_hold(field.message_type, above | {descriptor.full_name}) for field in descriptor.fields)


def _parts(message: Message) -> Iterable[Message]:
    """Yields the message and all messages in it."""
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
            continue
        children = (value,) if isinstance(value, Message) else value
        for child in children:
            yield from _parts(child)


def _redact(part: Message) -> None:
    for name, placeholder in PLACEHOLDERS.get(type(part), {}).items():
        if getattr(part, name):
            setattr(part, name, placeholder)
    match part:
        case ProxyConfig():
            part.url = redact_endpoint(part.url)
        case WebEgressRequest() | WebSource():
            part.url = redact_page(part.url)
        case RoomCompositeEgressRequest() | TemplateSource():
            part.custom_base_url = redact_page(part.custom_base_url)
        case StreamOutput():
            part.urls[:] = [stream_urls.redact(url) for url in part.urls]
            for destination in part.destinations:
                destination.url = stream_urls.redact(destination.url)
        case TrackEgressRequest() if part.websocket_url:
            part.websocket_url = stream_urls.redact(part.websocket_url)
        case UpdateStreamRequest():
            part.add_output_urls[:] = [stream_urls.redact(url) for url in part.add_output_urls]
            part.remove_output_urls[:] = [stream_urls.redact(url) for url in part.remove_output_urls]
            for destination in part.add_destinations:
                destination.url = stream_urls.redact(destination.url)
        case _:
            pass
