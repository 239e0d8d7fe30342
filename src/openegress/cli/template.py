"""`openegress test-template`: opens a template in the user's browser as a recording would."""

import argparse
import asyncio
import contextlib
import signal
import time
import webbrowser

from openegress.cli.flags import require_livekit, settings_of
from openegress.config.settings import Settings
from openegress.core.errors import invalid
from openegress.core.plan import TemplateSource
from openegress.core.tokens import participant_token, recorder_token
from openegress.source.web.url import template_url

RECORDER = "template_test"


def run(arguments: argparse.Namespace) -> int:
    settings, _ = settings_of(arguments)
    require_livekit(settings)
    if arguments.publishers < 0:
        raise invalid(f"--publishers {arguments.publishers} is less than none")
    room = arguments.room or f"layout-demo-{int(time.time())}"
    url = url_of(settings, room, arguments.base_url, arguments.layout)
    asyncio.run(_show(settings, room, url, arguments.publishers, opens=not arguments.no_open))
    return 0


def url_of(settings: Settings, room: str, base_url: str, layout: str) -> str:
    """Raises EgressError for an invalid URL of a page."""
    token = recorder_token(settings.api_key, settings.api_secret.reveal(), room, RECORDER)
    return template_url(
        TemplateSource(room_name=room, base_url=base_url, layout=layout, ws_url=settings.ws_url, token=token)
    )


async def _show(settings: Settings, room: str, url: str, publishers: int, *, opens: bool) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        loop.add_signal_handler(number, told.set)
    async with _publishers(settings, room, publishers):
        print(url, flush=True)
        if opens and not await asyncio.to_thread(webbrowser.open, url):
            print("no browser could be opened here: open this URL in one", flush=True)
        await told.wait()


def _publishers(settings: Settings, room: str, count: int) -> contextlib.AbstractAsyncContextManager[None]:
    if not count:
        return contextlib.nullcontext()
    try:
        from openegress.cli.demo_publishers import publishing
    except ImportError:
        raise invalid(
            "--publishers needs LiveKit's SDK: install openegress[test-template], or give --publishers 0"
        ) from None
    secret = settings.api_secret.reveal()
    return publishing(
        settings.ws_url,
        lambda identity: participant_token(settings.api_key, secret, room, identity),
        count,
    )
