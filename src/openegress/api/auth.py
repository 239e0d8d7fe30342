"""Checks the Bearer token of a request against the server's API keys.

Tokens are JWTs as LiveKit's SDKs make them: HS256, `iss` the API key, `exp` required, grants under `video`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from openegress.core.errors import Code, EgressError

BEARER = "Bearer "
LEEWAY_S = 60
"""Limit for how far the caller's clock may be off."""


class Unauthorized(Exception):
    """Raised if the token is invalid. It is answered as plain text with HTTP 401, as LiveKit's middleware
    does."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What a verified token says about its holder; empty without a token."""

    api_key: str = ""
    identity: str = ""
    room_record: bool = False

    def require_record(self) -> None:
        """Raises EgressError with code UNAUTHENTICATED, as upstream does (not PERMISSION_DENIED)."""
        if not self.room_record:
            raise EgressError(Code.UNAUTHENTICATED, "permissions denied")


ANONYMOUS = Caller()


def verify(authorization: str | None, access_token: str | None, keys: Mapping[str, str]) -> Caller:
    """The caller of a request with this Authorization header or ?access_token; ANONYMOUS without either.

    `keys` maps API keys to secrets. Raises Unauthorized.
    """
    if authorization:
        if not authorization.startswith(BEARER):
            raise Unauthorized("invalid authorization header. Must start with Bearer ")
        token = authorization[len(BEARER) :]
    else:
        token = access_token or ""
    return _verified(token, keys) if token else ANONYMOUS


def signer(token: str, keys: Mapping[str, str]) -> tuple[str, str] | None:
    """The API key and the secret of the issuer that a token names; None if the key is unknown. The signature
    is not verified. Raises jwt.PyJWTError or ValueError for what is not a token."""
    issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    secret = keys.get(issuer) if isinstance(issuer, str) else None
    return (str(issuer), secret) if secret else None


def _verified(token: str, keys: Mapping[str, str]) -> Caller:
    issuer, claims = verified_claims(token, keys)
    video = claims.get("video")
    grants = video if isinstance(video, dict) else {}
    identity = claims.get("sub")
    return Caller(
        api_key=issuer,
        identity=identity if isinstance(identity, str) else "",
        room_record=grants.get("roomRecord") is True,
    )


def verified_claims(token: str, keys: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The API key that signed a token, and the token's claims. Raises Unauthorized."""
    try:
        found = signer(token, keys)
    except (jwt.PyJWTError, ValueError):
        raise Unauthorized("invalid authorization token") from None
    if found is None:
        raise Unauthorized("invalid API key")
    issuer, secret = found
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            leeway=LEEWAY_S,
            options={"require": ["exp"], "verify_aud": False, "verify_iat": False, "verify_sub": False},
        )
    except (jwt.PyJWTError, ValueError) as error:
        raise Unauthorized(f"invalid authorization token: {error}") from None
    return issuer, claims
