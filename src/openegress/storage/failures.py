"""From what an object store answered to an EgressError: the storage's own words, whose fault, no secret.

obstore raises text only: "... status code: 404 Not Found: <body>\\n\\nDebug source: ..."; the body is the
XML error document that S3, GCS' XML API, Azure Blob and OSS have in common (Code, Message).
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from html import unescape

from openegress.core.errors import Code, EgressError, Fault, Phase


class Kind(StrEnum):
    """As upstream names storages in its error texts."""

    S3 = "S3"
    GCP = "GCP"
    AZURE = "Azure"
    ALIOSS = "AliOSS"


PASSING_STATUS = frozenset({408, 409, 425, 429})
"""4xx that are no verdict on the request. Every 5xx passes too."""

PASSING_CODES = frozenset(
    {
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "SlowDown",
        "Throttling",
        "IncompleteBody",
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "OperationAborted",
        "NoSuchUpload",
        "InvalidPart",
        "InvalidBlockList",
        "Md5Mismatch",
    }
)
"""Error codes that repeating the upload may cure, whatever HTTP status they come with."""

ADVICE: dict[int, str] = {
    301: "the bucket is in another region or behind another endpoint",
    401: "check the credentials",
    403: "check the credentials, and that they may write here",
    404: "create it or correct its name",
    407: "check the proxy's username and password",
}

STATUS = re.compile(r"status code: (\d{3})[^:\n]*:? ?(.*?)(?:\n\nDebug source:|\Z)", re.DOTALL)
CODE = re.compile(r"<Code>([^<]*)</Code>")
MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
REGION = re.compile(r"expecting '([a-z0-9-]+)'|<Region>([a-z0-9-]+)</Region>")
PROVIDER = re.compile(r"credential provider: (\w+): ([^\n]*)")
DEBUG_MESSAGE = re.compile(r'message: "([^"\n]*)"')
GENERIC = re.compile(r"^Generic \w+ error: ")
WORDS_OF_KINDS = (
    ("dns error", "the host name is not known"),
    ("kind: Timeout", "timed out"),
    ("TimedOut", "timed out"),
    ("IncompleteMessage", "the connection was closed before the answer"),
    ("BodyWrite", "the connection was lost while sending"),
)


class CredentialsRefused(Exception):
    """A credential provider was told no. The text is the issuer's."""


class CredentialsUnavailable(Exception):
    """A credential provider got no answer."""


class StorageError(EgressError):
    """Of a cloud. `status`: what HTTP answered, 0 when nothing did."""

    status: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What can be read from an error's text. Status 0: none came."""

    status: int
    code: str
    words: str


def read(text: str) -> Answer:
    if "roxy authentication required" in text or "roxyAuthRequired" in text:
        return Answer(407, "", "proxy authentication required")
    provider = PROVIDER.search(text)
    if provider is not None:
        return Answer(403 if provider[1] == CredentialsRefused.__name__ else 0, "", provider[2].strip())
    found = STATUS.search(text)
    if found is None:
        return Answer(0, "", connection_words(text))
    status, body = int(found[1]), found[2]
    code, message = CODE.search(body), MESSAGE.search(body)
    # Azure's message goes on with request id and time, on lines of their own.
    lines = unescape(message[1]).strip().splitlines() if message else []
    words = ": ".join(part for part in (code[1] if code else "", lines[0] if lines else "") if part)
    return Answer(status, code[1] if code else "", words or f"HTTP status {status}")


def connection_words(text: str) -> str:
    """Why no answer came, out of the dump that follows the message."""
    messages = DEBUG_MESSAGE.findall(text)
    if messages:
        return str(messages[-1])
    for mark, words in WORDS_OF_KINDS:
        if mark in text:
            return words
    return GENERIC.sub("", text.split("\n\nDebug source:")[0].strip())


def region_named(text: str) -> str:
    """The region S3 says the bucket is in, when it refuses ours; else ""."""
    if read(text).status not in (301, 307, 400):
        return ""
    found = REGION.search(text)
    return (found[1] or found[2]) if found else ""


def is_passing(answer: Answer) -> bool:
    if answer.code in PASSING_CODES or answer.status in PASSING_STATUS:
        return True
    return answer.status == 0 or answer.status >= 500


def explain(
    text: str, *, kind: Kind, where: str, phase: Phase, secrets: tuple[str, ...] = (), task: str = "upload"
) -> EgressError:
    """`where` names the bucket and its endpoint. The text begins as upstream's: "S3 upload failed: "."""
    answer = read(text)
    advice = ADVICE.get(answer.status, "")
    message = f"{kind} {task} failed: {answer.words} ({where})" + (f"; {advice}" if advice else "")
    message = scrub(message, secrets)
    passing = is_passing(answer)
    error = StorageError(
        Code.UNAVAILABLE if passing else Code.INVALID_ARGUMENT,
        message,
        fault=Fault.DESTINATION if passing else Fault.CALLER,
        phase=phase,
    )
    error.status = answer.status
    return error


def scrub(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text
