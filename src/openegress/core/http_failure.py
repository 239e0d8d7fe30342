"""Why an HTTP server could not be reached, in words for the person who has to correct it. Pure."""

import os


def why_unreachable(error: Exception) -> str:
    """aiohttp wraps the cause in text that repeats the address: only the cause is given."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if problem := getattr(cause, "verify_message", ""):
        return f"its certificate is not valid: {problem}"
    if problem := getattr(cause, "reason", ""):  # of an SSLError, whose numbers are not the system's
        return f"TLS failed: {problem}"
    number = cause.errno or 0 if isinstance(cause, OSError) else 0
    text = os.strerror(number) if number > 0 else getattr(cause, "strerror", None) or str(cause)
    return text or type(cause).__name__
