"""Turns the answer of an object store into an EgressError: its code and fault, without secrets.

The rest of the answer is not passed on: callers choose the endpoint, and error texts must not let them read
what only this server can reach.

The body is the XML error document that S3, GCS' XML API, Azure Blob and OSS have in common (Code, Message).
obstore, the client of Google Cloud and Azure, raises only text: "... status code: 404 Not Found: <body>" and
"Debug source: ..." two lines below.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.public import HIDDEN, MIN_SECRET_CHARS
from openegress.core.text import shown


class FailureKind(StrEnum):
    """The kind of a storage, by upstream's name in its error texts."""

    S3 = "S3"
    GCP = "GCP"
    AZURE = "Azure"
    ALIOSS = "AliOSS"


TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
"""Status codes 4xx that say nothing about the request itself, and may pass. Every 5xx may pass too."""

TRANSIENT_CODES = frozenset(
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
"""Error codes after which the upload is worth repeating, with any HTTP status."""

ADVICE: dict[int, str] = {
    301: "the bucket is in another region or behind another endpoint",
    401: "check the credentials",
    403: "check the credentials, and that they may write here",
    404: "create it or correct its name",
    407: "check the proxy's username and password",
}

ADVICE_BY_CODE: dict[str, str] = {
    "AuthorizationHeaderMalformed": "the bucket is in another region than `region` says",
    "XAdminUserNotFound": "check access_key: the store does not know it",
}

STATUS = re.compile(r"status code: (\d{3})[^:\n]*:? ?(.*?)(?:\n\nDebug source:|\Z)", re.DOTALL)
CODE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,63}")
CODE = re.compile(rf"<Code>({CODE_NAME.pattern})</Code>")
REGION = re.compile(r"expecting '([a-z0-9-]+)'|<Region>([a-z0-9-]+)</Region>")
PROVIDER = re.compile(r"credential provider: (\w+): ([^\n]*)")
DEBUG_MESSAGE = re.compile(r'message: "([^"\n]*)"')
QUOTED = re.compile('[`"<]')
"""Characters that may begin a quotation of the other side in an error's text."""
READ_CHARS = 64 * 1024
"""Limit for the characters of an error's text that are parsed. An error document has less than 2 KB."""
GENERIC = re.compile(r"^Generic \w+ error: ")
KNOWN_CAUSES = (
    ("dns error", "the host name is not known"),
    ("kind: Timeout", "timed out"),
    ("TimedOut", "timed out"),
    ("IncompleteMessage", "the connection was closed before the answer"),
    ("BodyWrite", "the connection was lost while sending"),
)


class CredentialsRefused(Exception):
    """Raised if the issuer refused to give a credential provider credentials. The text is the issuer's."""


class CredentialsUnavailable(Exception):
    """Raised if a credential provider got no answer."""


class StorageError(EgressError):
    """An error of a cloud storage. `status` is the HTTP status, 0 without an answer."""

    status: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What could be read from an error's text. Status 0: there was no answer."""

    status: int
    code: str
    words: str


def lacks(name: str) -> Answer:
    """The answer of a store that says of something that it is done, and leaves out `name`, a name of ours."""
    return Answer(0, "", f"its answer has no {name}")


def read(text: str) -> Answer:
    text = text[:READ_CHARS]
    if "roxy authentication required" in text or "roxyAuthRequired" in text:
        return Answer(407, "", "proxy authentication required")
    provider = PROVIDER.search(text)
    if provider is not None:
        words = shown(provider[2].strip())
        return Answer(403 if provider[1] == CredentialsRefused.__name__ else 0, "", words)
    found = STATUS.search(text)
    if found is None:
        return Answer(0, "", connection_words(text))
    return answer_of(int(found[1]), found[2])


def answer_of(status: int, body: str) -> Answer:
    found = CODE.search(body[:READ_CHARS])
    code = found[1] if found else ""
    return Answer(status, code, code or f"HTTP status {status}")


def connection_words(text: str) -> str:
    """The reason why there was no answer, from obstore's debug output after its message."""
    messages = DEBUG_MESSAGE.findall(text)
    if messages:
        return shown(messages[-1])
    for mark, words in KNOWN_CAUSES:
        if mark in text:
            return words
    words = GENERIC.sub("", text.split("\n\nDebug source:")[0].strip())
    return shown(QUOTED.split(words)[0].strip())


def region_named(answer: Answer, body: str) -> str:
    """The region that S3 names for the bucket when it refuses ours; "" if it names none."""
    if answer.status not in (301, 307, 400):
        return ""
    found = REGION.search(body)
    return (found[1] or found[2]) if found else ""


def refuses_checksums(answer: Answer, body: str) -> bool:
    """Whether the store says that it does not support checksum headers."""
    if answer.code == "NotImplemented" or answer.status == 501:
        return True
    return answer.status in (400, 403, 405) and "x-amz-" in body and "checksum" in body.lower()


def asks_for_md5(answer: Answer, body: str) -> bool:
    """Whether the store wants Content-MD5 and does not mention the newer headers."""
    return answer.status == 400 and "content-md5" in body.lower() and "x-amz-checksum" not in body.lower()


def is_transient(answer: Answer) -> bool:
    if answer.code in TRANSIENT_CODES or answer.status in TRANSIENT_STATUS:
        return True
    return answer.status == 0 or answer.status >= 500


def explain(
    answer: Answer,
    *,
    kind: FailureKind,
    where: str,
    phase: Phase,
    secrets: tuple[str, ...] = (),
    task: str = "upload",
) -> EgressError:
    """The error for an answer. `where` names the bucket and its endpoint; `secrets` are replaced by ***. The
    text begins like upstream's: "S3 upload failed: "."""
    advice = ADVICE_BY_CODE.get(answer.code, "") or ADVICE.get(answer.status, "")
    message = f"{kind} {task} failed: {answer.words} ({where})" + (f"; {advice}" if advice else "")
    message = scrub(message, secrets)
    passing = is_transient(answer)
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
        if len(secret) >= MIN_SECRET_CHARS:
            text = text.replace(secret, HIDDEN)
    return text
