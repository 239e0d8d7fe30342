"""`openegress token`: a token for curl and the dashboard. The other commands make their own."""

import argparse
from datetime import timedelta

from openegress.cli.durations import parse_duration
from openegress.cli.flags import key_of
from openegress.core.tokens import egress_token


def run(arguments: argparse.Namespace) -> int:
    key, secret = key_of(arguments)
    print(egress_token(key, secret, timedelta(seconds=parse_duration(arguments.valid_for))))
    return 0
