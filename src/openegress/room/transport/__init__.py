"""The media path of one join: UDP, ICE, DTLS and SRTP."""
