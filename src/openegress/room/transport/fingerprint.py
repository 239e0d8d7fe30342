"""Fingerprints of DTLS certificates, as SDP carries them. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The fingerprint of a certificate, as in `a=fingerprint` (RFC 8122)."""

    algorithm: str
    value: str
