"""What is said of an HTTP server that cannot be reached."""

import errno
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from openegress.core.http_failure import why_unreachable

KEY = ConnectionKey("host", 443, True, True, None, None, None)


def certificate_error() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


def tls_error() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


REFUSED = OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 7980)")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (aiohttp.ClientConnectorError(KEY, REFUSED), "Connection refused"),
        (aiohttp.ClientConnectorDNSError(KEY, UNKNOWN), "Name or service not known"),
        (
            aiohttp.ClientConnectorCertificateError(KEY, certificate_error()),
            "its certificate is not valid: self-signed certificate",
        ),
        (aiohttp.ClientConnectorSSLError(KEY, tls_error()), "TLS failed: WRONG_VERSION_NUMBER"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer"),
        (OSError("Multiple exceptions: one, two"), "Multiple exceptions: one, two"),
        (ValueError(), "ValueError"),
        (TimeoutError(), "TimeoutError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_cause_is_named_without_the_address(error: Exception, said: str) -> None:
    assert why_unreachable(error) == said
