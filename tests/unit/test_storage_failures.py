"""What storages answer, as obstore passes it on, and what becomes of it."""

import pytest

from openegress.core.errors import Code, Fault, Phase
from openegress.storage.failures import STATUS, Answer, FailureKind, explain, read, region_named


def answered(status: str, body: str) -> str:
    return (
        f"Generic S3 error: Error performing PUT http://h/b/k in 5ms - Server returned non-2xx status code: "
        f"{status}: {body}\n\nDebug source:\nGeneric {{\n    body: Some(<Code>Other</Code>) }}"
    )


def document(code: str, message: str, more: str = "") -> str:
    return f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"


def unanswered(debug: str) -> str:
    return (
        "Generic S3 error: Error performing PUT http://h/b/k in 1ms - HTTP error: error sending request\n\n"
        f"Debug source:\n{debug}"
    )


WHERE = "(bucket 'b' at https://h)"

ANSWERS = [
    (
        answered("404 Not Found", document("NoSuchBucket", "The specified bucket does not exist")),
        Fault.CALLER,
        f"S3 upload failed: NoSuchBucket {WHERE}; create it or correct its name",
    ),
    (
        answered("403 Forbidden", document("AccessDenied", "Access &quot;denied&quot;.")),
        Fault.CALLER,
        f"S3 upload failed: AccessDenied {WHERE}; check the credentials, and that they may write here",
    ),
    (
        answered("403 Forbidden", document("AuthorizationFailure", "Refused.\nRequestId:1\nTime:2")),
        Fault.CALLER,
        f"S3 upload failed: AuthorizationFailure {WHERE}; "
        "check the credentials, and that they may write here",
    ),
    (
        answered("403 Forbidden", document("RequestTimeTooSkewed", "The difference is too large.")),
        Fault.DESTINATION,
        f"S3 upload failed: RequestTimeTooSkewed {WHERE}; "
        "check the credentials, and that they may write here",
    ),
    (
        answered("400 Bad Request", document("RequestTimeout", "Your socket was idle.")),
        Fault.DESTINATION,
        f"S3 upload failed: RequestTimeout {WHERE}",
    ),
    (
        answered("400 Bad Request", document("InvalidTag", "The tag is invalid.")),
        Fault.CALLER,
        f"S3 upload failed: InvalidTag {WHERE}",
    ),
    (
        answered("503 Service Unavailable", document("SlowDown", "Reduce your request rate.")),
        Fault.DESTINATION,
        f"S3 upload failed: SlowDown {WHERE}",
    ),
    (
        answered("502 Bad Gateway", "<html><h1>Bad Gateway</h1></html>"),
        Fault.DESTINATION,
        f"S3 upload failed: HTTP status 502 {WHERE}",
    ),
    (answered("429 Too Many Requests", ""), Fault.DESTINATION, f"S3 upload failed: HTTP status 429 {WHERE}"),
    (
        answered("407 Proxy Authentication Required", "Proxy"),
        Fault.CALLER,
        f"S3 upload failed: HTTP status 407 {WHERE}; check the proxy's username and password",
    ),
    (
        unanswered('ConnectError("tcp connect error", Os { code: 111, message: "Connection refused" })'),
        Fault.DESTINATION,
        f"S3 upload failed: Connection refused {WHERE}",
    ),
    (
        unanswered('ConnectError("dns error", Custom { error: "failed to lookup" })'),
        Fault.DESTINATION,
        f"S3 upload failed: the host name is not known {WHERE}",
    ),
    (
        unanswered("HttpError { kind: Timeout, source: reqwest::Error }"),
        Fault.DESTINATION,
        f"S3 upload failed: timed out {WHERE}",
    ),
    (
        unanswered("reqwest::Error { source: Proxy authentication required }"),
        Fault.CALLER,
        f"S3 upload failed: proxy authentication required {WHERE}; check the proxy's username and password",
    ),
    (
        "The operation lacked valid authentication credentials for path External AWS credential provider: "
        "CredentialsRefused: AssumeRole: AccessDenied\n\nDebug source:\n",
        Fault.CALLER,
        f"S3 upload failed: AssumeRole: AccessDenied {WHERE}; "
        "check the credentials, and that they may write here",
    ),
    (
        "External AWS credential provider: CredentialsUnavailable: AssumeRole: ReadTimeout\n\n",
        Fault.DESTINATION,
        f"S3 upload failed: AssumeRole: ReadTimeout {WHERE}",
    ),
    ("Generic S3 error: of a new sort", Fault.DESTINATION, f"S3 upload failed: of a new sort {WHERE}"),
]


@pytest.mark.parametrize(("text", "fault", "message"), ANSWERS)
def test_explained(text: str, fault: Fault, message: str) -> None:
    error = explain(read(text), kind=FailureKind.S3, where=WHERE.strip("()"), phase=Phase.STORAGE_WRITE)
    assert error.message == message
    assert error.fault is fault
    assert error.code is (Code.INVALID_ARGUMENT if fault is Fault.CALLER else Code.UNAVAILABLE)
    assert error.phase is Phase.STORAGE_WRITE


def test_secrets_are_struck_out() -> None:
    error = explain(
        Answer(0, "", "no way to s3cret"),
        kind=FailureKind.AZURE,
        where="w of t0ken",
        phase=Phase.STORAGE_CHECK,
        secrets=("s3cret", "", "t0ken", "w"),  # one of a letter is in every other word
    )
    assert error.message == "Azure upload failed: no way to *** (w of ***)"


SECRET = "AKIAINNER the words of a server that only we reach"


@pytest.mark.parametrize(
    "text",
    [
        answered("403 Forbidden", SECRET),
        answered("403 Forbidden", document("AccessDenied", SECRET)),
        answered("403 Forbidden", document(SECRET, "x")),
        answered("403 Forbidden", document(f"No\n2026-01-01 [error    ] {SECRET}", "x")),
        answered("200 OK", f"<html>{SECRET}</html>"),
        answered("500 Internal Server Error", SECRET * 1_000_000),
        f"Generic S3 error: Got invalid multipart response: unknown variant `{SECRET}`",
        f'Generic S3 error: invalid XML: expected "{SECRET}"',
        f"Generic S3 error: <html>{SECRET}",
    ],
    ids=["body", "message", "code", "line", "success", "length", "variant", "quoted", "html"],
)
def test_nothing_of_an_answer_but_its_code_is_told(text: str) -> None:
    error = explain(read(text), kind=FailureKind.S3, where="w", phase=Phase.STORAGE_WRITE)
    assert "AKIAINNER" not in error.text and "only we" not in error.text
    assert len(error.text) < 400 and len(error.text.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "region"),
    [
        (
            answered(
                "400 Bad Request",
                document(
                    "AuthorizationHeaderMalformed",
                    "the region 'us-east-1' is wrong; expecting 'eu-west-1'",
                ),
            ),
            "eu-west-1",
        ),
        (
            answered(
                "400 Bad Request",
                document("AuthorizationHeaderMalformed", "malformed", "<Region>ap-south-1</Region>"),
            ),
            "ap-south-1",
        ),
        (answered("403 Forbidden", document("AccessDenied", "expecting 'eu-west-1'")), ""),
        (answered("400 Bad Request", document("InvalidTag", "The tag is invalid.")), ""),
        (unanswered("expecting 'eu-west-1'"), ""),
    ],
)
def test_region_that_s3_names(text: str, region: str) -> None:
    found = STATUS.search(text)
    assert region_named(read(text), found[2] if found else text) == region
