"""How signalling fails, against servers on real sockets that are no LiveKit server, or refuse."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from livekit.protocol.models import DisconnectReason
from livekit.protocol.rtc import JoinResponse, LeaveRequest, SignalResponse
from websockets.asyncio.server import ServerConnection, serve

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.room.signalling import websocket
from openegress.room.signalling.websocket import Signalling
from testkit.certificates import make_certificate

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def plain_server(answer: bytes) -> AsyncIterator[str]:
    """Says `answer` to whoever asks, and hangs up; asks for nothing when it is empty."""
    done = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        else:
            await done.wait()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        done.set()


@asynccontextmanager
async def livekit_double(talk: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with serve(talk, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@pytest.mark.parametrize("insecure", [False, True])
async def test_a_certificate_of_nobody_is_taken_where_the_configuration_says_so(
    tmp_path: Path, insecure: bool
) -> None:
    async def greet(connection: ServerConnection) -> None:
        await connection.send(SignalResponse(join=JoinResponse(server_version="x")).SerializeToString())
        await connection.wait_closed()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path))
    async with serve(greet, "127.0.0.1", 0, ssl=context) as server:
        url = f"wss://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        async with Signalling(url, insecure=insecure) as connection:
            if insecure:
                assert (await connection.open("token")).server_version == "x"
            else:
                with pytest.raises(EgressError, match="certificate"):
                    await connection.open("token")


async def refused(url: str) -> EgressError:
    async with Signalling(url) as connection:
        with pytest.raises(EgressError) as caught:
            await connection.open("a.private.token")
    error = caught.value
    assert error.phase is Phase.SIGNALLING
    assert url in error.message
    assert "private" not in error.message
    return error


def response(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("answer", "code", "fault", "words"),
    [
        (
            response("401 Unauthorized", "invalid token: a.private.token, error: expired"),
            Code.UNAUTHENTICATED,
            Fault.CALLER,
            "(invalid token: {...}, error: expired)",
        ),
        (response("403 Forbidden", ""), Code.UNAUTHENTICATED, Fault.CALLER, "api_key"),
        (
            response("404 Not Found", "requested room does not exist"),
            Code.NOT_FOUND,
            Fault.CALLER,
            "no such room",
        ),
        (response("503 Unavailable", "busy"), Code.UNAVAILABLE, Fault.SERVICE, "status 503 (busy)"),
        (response("200 OK", "hello"), Code.UNAVAILABLE, Fault.SERVICE, "status 200"),
        (b"SSH-2.0-OpenSSH\r\n", Code.UNAVAILABLE, Fault.SERVICE, "cannot reach"),
    ],
    ids=["401", "403", "404", "503", "200", "ssh"],
)
async def test_refusals_say_what_to_do(answer: bytes, code: Code, fault: Fault, words: str) -> None:
    async with plain_server(answer) as url:
        error = await refused(url)
    assert (error.code, error.fault) == (code, fault)
    assert words in error.message


async def test_a_host_without_an_address() -> None:
    error = await refused("ws://no-such-host.invalid:7880")
    assert error.code is Code.UNAVAILABLE


async def test_errors_do_not_show_what_lets_others_in() -> None:
    async with plain_server(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n") as url:
        _, _, host = url.partition("//")
        connection = Signalling(f"ws://ann:hunter2@{host}/{'x1' * 20}?key=hunter2")
        with pytest.raises(EgressError) as refused:
            await connection.open("token")
        assert refused.value.message.startswith(
            f"ws://{{...}}@{host}/{{x1x...1x1}}?key={{...}} refused the token"
        )


async def test_a_server_that_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "OPEN_TIMEOUT_S", 0.2)
    async with plain_server(b"") as url:
        error = await refused(url)
    assert "0.2 s" in error.message


async def test_a_join_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "JOIN_TIMEOUT_S", 0.2)

    async def silent(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with livekit_double(silent) as url:
        assert "no join response" in (await refused(url)).message


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff"], ids=["closed", "noise"])
async def test_a_connection_that_ends_before_the_join(data: bytes) -> None:
    async def talk(socket: ServerConnection) -> None:
        if data:
            await socket.send(data)
            await socket.wait_closed()

    async with livekit_double(talk) as url:
        assert "before the join response" in (await refused(url)).message


@pytest.mark.parametrize(
    ("reason", "said"), [(int(DisconnectReason.JOIN_FAILURE), "join failure"), (4711, "reason 4711")]
)
async def test_a_server_that_sends_the_recorder_away(reason: int, said: str) -> None:
    """Also a server that has more reasons than there were."""

    async def talk(socket: ServerConnection) -> None:
        leave = LeaveRequest(reason=reason)  # type: ignore[arg-type]
        await socket.send(SignalResponse(leave=leave).SerializeToString())
        await socket.wait_closed()

    async with livekit_double(talk) as url:
        assert (await refused(url)).message.endswith(said)


async def test_the_join_and_what_is_sent() -> None:
    seen: list[str] = []

    async def talk(socket: ServerConnection) -> None:
        assert socket.request is not None
        seen.append(socket.request.path)
        seen.append(socket.request.headers["Authorization"])
        await socket.send(SignalResponse(join=JoinResponse(ping_interval=3)).SerializeToString())
        await socket.recv()
        await socket.close()

    async with livekit_double(talk) as url, Signalling(url) as connection:
        join = await connection.open("token")
        assert join.ping_interval == 3
        assert connection.loopback
        await connection.ping()
        assert [each async for each in connection.messages()] == []
        assert connection.ended
        await connection.ping()
    assert seen[0].startswith("/rtc?")
    assert seen[1] == "Bearer token"
