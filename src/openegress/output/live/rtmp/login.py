"""Logs in with the name and password of a URL, by the methods of Adobe and Limelight as FFmpeg and librtmp
implement them. Pure."""

import base64
import hashlib
import re
from secrets import token_hex
from urllib.parse import unquote

_MODES = ("adobe", "llnw")


def answer(description: str, credentials: str, app: str) -> str | None:
    """Returns the query after application and tcUrl for the next attempt, in answer to what the server said
    about the last one; None: it asks for nothing that can be answered.

    `credentials`: user:password, as in a URL: percent-encoded where they have a character that URLs reserve.
    """
    user, _, password = map(unquote, credentials.partition(":"))
    found = re.search(r"authmod=(\w+)", description)
    if found is None or found[1] not in _MODES or not user:
        return None
    mode = found[1]
    if "code=403 need auth" in description:
        return f"?authmod={mode}&user={user}"
    _, asked, query = description.partition("?reason=needauth")
    if not asked:
        return None
    fields = dict(each.partition("=")[::2] for each in query.strip(" ]").split("&"))
    return _adobe(user, password, fields) if mode == "adobe" else _limelight(user, password, app, fields)


def _adobe(user: str, password: str, asked: dict[str, str]) -> str:
    ours, opaque = token_hex(4), asked.get("opaque", "")
    theirs = opaque or asked.get("challenge", "")
    secret = _base64_md5(user + asked.get("salt", "") + password)
    response = _base64_md5(secret + theirs + ours)
    query = f"?authmod=adobe&user={user}&challenge={ours}&response={response}"
    return f"{query}&opaque={opaque}" if opaque else query


def _limelight(user: str, password: str, app: str, asked: dict[str, str]) -> str:
    nonce, ours, count = asked.get("nonce", ""), token_hex(4), "00000001"
    place = f"/{app}" if "/" in app else f"/{app}/_definst_"
    who, what = _hex_md5(f"{user}:live:{password}"), _hex_md5(f"publish:{place}")
    response = _hex_md5(f"{who}:{nonce}:{count}:{ours}:auth:{what}")
    return f"?authmod=llnw&user={user}&nonce={nonce}&cnonce={ours}&nc={count}&response={response}"


def _md5(text: str) -> "hashlib._Hash":
    return hashlib.md5(text.encode(), usedforsecurity=False)


def _base64_md5(text: str) -> str:
    return base64.b64encode(_md5(text).digest()).decode()


def _hex_md5(text: str) -> str:
    return _md5(text).hexdigest()
