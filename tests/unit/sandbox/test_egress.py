"""The egress proxy over real sockets: what it carries, what it refuses, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hostler.addresses import is_own, is_public
from hostler.sandbox.contract import NO_NETWORK, Network
from hostler.sandbox.edge import egress as egress_module
from hostler.sandbox.edge import exchange, streams
from hostler.sandbox.edge.egress import EgressLimits, EgressPolicy, EgressProxy
from hostler.sandbox.edge.gateway import GatewayRequest, GatewayResponse
from hostler.sandbox.edge.streams import CHUNK

Handler = Callable[[StreamReader, StreamWriter], Awaitable[None]]
OPEN = EgressPolicy(allow_private=True)


@asynccontextmanager
async def proxy(policy: EgressPolicy = OPEN, *, network: Network | None = None, **options: Any) -> AsyncIterator[int]:
    """Serve a sandbox whose socket is on the port that this gives."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        async with serving(listener, EgressProxy(policy, **options), network or Network()):
            yield listener.getsockname()[1]


@asynccontextmanager
async def serving(listener: socket.socket, egress: EgressProxy, network: Network) -> AsyncIterator[None]:
    task = asyncio.create_task(egress.serve(listener, "sesn_1", network))
    try:
        yield
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        egress.close()
        assert isinstance(ended, asyncio.CancelledError), f"the proxy ended by itself: {ended!r}"


@asynccontextmanager
async def server(handler: Handler, **options: Any) -> AsyncIterator[int]:
    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()


async def ask(port: int, request: bytes) -> bytes:
    """Send a request, and give all that comes until the proxy closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


async def tunnel(port: int, target: str) -> tuple[StreamReader, StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
    return reader, writer


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    """Give everything back once the other side has ended its half."""
    writer.write(b"<" + await reader.read() + b">")
    await writer.drain()


def replies(answer: bytes, seen: list[bytes] | None = None, *, body: int = 0, hang: bool = False) -> Handler:
    async def reply(reader: StreamReader, writer: StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        request += await reader.readexactly(body)
        if seen is not None:
            seen.append(request)
        writer.write(answer)
        await writer.drain()
        if hang:
            await reader.read()

    return reply


# -- tunnels


def test_tunnel_carries_both_ways_and_half_closes() -> None:
    async def main() -> None:
        async with server(echo) as far, proxy() as port:
            reader, writer = await tunnel(port, f"127.0.0.1:{far}")
            payload = bytes(range(256)) * 8192
            writer.write(payload)
            writer.write_eof()
            assert await reader.read() == b"<" + payload + b">"
            writer.close()

    asyncio.run(main())


class _Ended:
    """Stands in the egress log's place to be told of each connection's end."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def moved(self, key: str) -> int:
        return 0

    def append(self, key: str, entry: object) -> None:
        self.event.set()


@pytest.mark.parametrize("tunnels", [True, False])
@pytest.mark.parametrize("seconds", [0.0, 0.3], ids=["at once", "slowly"])
def test_a_reader_gets_what_is_left_when_the_server_has_closed(
    tunnels: bool, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (egress_module, exchange):
        monkeypatch.setattr(module, "LINGER_SECONDS", 0.1)
    payload = bytes(_room() + 32_000)
    ended = _Ended()

    async def fetch(path: str, far: int) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path, limit=1)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        if tunnels:
            writer.write(f"CONNECT 127.0.0.1:{far} HTTP/1.1\r\n\r\n".encode())
        writer.write(f"GET http://127.0.0.1:{far}/ HTTP/1.1\r\nHost: 127.0.0.1:{far}\r\n\r\n".encode())
        writer.write_eof()
        await ended.event.wait()
        ended.event.clear()
        await asyncio.sleep(seconds)  # the proxy is left alone with the last of it
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        got = await reader.read()
        writer.close()
        return got

    async def main(path: str) -> None:
        listener.bind(path)
        listener.listen()
        egress = EgressProxy(OPEN, journal=ended)  # type: ignore[arg-type]
        async with server(replies(head(len(payload)) + payload)) as far, serving(listener, egress, Network()):
            for _ in range(2):  # what one has left behind must not end the others
                assert (await fetch(path, far)).endswith(b"\r\n\r\n" + payload)

    with socket.socket(socket.AF_UNIX) as listener:
        asyncio.run(asyncio.wait_for(main(f"{tmp_path}/socket"), 20))


@pytest.mark.parametrize("looked_into", [False, True])
@pytest.mark.parametrize("tunnels", [True, False])
def test_an_answer_before_the_end_of_an_upload_comes_though_the_server_hangs_up(
    tunnels: bool, looked_into: bool
) -> None:
    async def refuse(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig!")

    async def upload(port: int, far: int) -> bytes:
        reader, writer = await streams.connect("127.0.0.1", port, CHUNK)
        target = f"127.0.0.1:{far}"
        if tunnels:
            writer.write(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
        path = "/" if tunnels else f"http://{target}/"
        writer.write(f"POST {path} HTTP/1.1\r\nHost: {target}\r\nContent-Length: 8000000\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            for _ in range(100):
                writer.write(bytes(80_000))
                await writer.drain()
        got = await reader.readuntil(b"big!")
        writer.close()
        return got

    async def main() -> None:
        network = Network(hosts=("127.0.0.1",)) if looked_into else None
        async with server(refuse) as far, proxy(network=network) as port:
            for _ in range(5):
                assert (await upload(port, far)).startswith(b"HTTP/1.1 413 ")

    asyncio.run(asyncio.wait_for(main(), 30))


def _room() -> int:
    """Roughly how many bytes a local connection takes that nobody reads."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                taken += one.send(bytes(CHUNK))
        return taken


def head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


def test_bytes_sent_right_behind_the_request_are_not_lost() -> None:
    async def main() -> None:
        async with server(echo) as far, proxy() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"CONNECT 127.0.0.1:{far} HTTP/1.1\r\n\r\nearly".encode())
            writer.write_eof()
            assert (await reader.read()).endswith(b"\r\n\r\n<early>")
            writer.close()

    asyncio.run(main())


def test_tls_through_a_tunnel_is_end_to_end(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site.test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("site.test")]), critical=False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "pem").write_bytes(secret + certificate)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(tmp_path / "pem")
    theirs = ssl.create_default_context(cadata=certificate.decode())

    async def resolve(host: str, port: int) -> list[str]:
        assert host == "site.test"
        return ["127.0.0.1"]

    async def main() -> None:
        answer = replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        async with server(answer, ssl=ours) as far, proxy(resolve=resolve) as port:
            reader, writer = await tunnel(port, f"site.test:{far}")
            await writer.start_tls(theirs, server_hostname="site.test")
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await reader.readuntil(b"hi")).endswith(b"hi")
            writer.close()

    asyncio.run(main())


def test_many_tunnels_at_once_wait_for_a_seat() -> None:
    async def one(port: int, far: int, number: int) -> None:
        reader, writer = await tunnel(port, f"127.0.0.1:{far}")
        writer.write(b"%d" % number)
        writer.write_eof()
        assert await reader.read() == b"<%d>" % number
        writer.close()

    async def main() -> None:
        async with server(echo) as far, proxy(limits=EgressLimits(connections=8)) as port:
            await asyncio.gather(*(one(port, far, n) for n in range(100)))

    asyncio.run(main())


def test_a_silent_tunnel_is_closed() -> None:
    async def main() -> None:
        async with server(echo) as far, proxy(limits=EgressLimits(idle_seconds=0.2)) as port:
            reader, writer = await tunnel(port, f"127.0.0.1:{far}")
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    asyncio.run(main())


def test_a_reader_that_never_reads_holds_up_only_itself() -> None:
    async def flood(reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async def main() -> None:
        async with server(flood) as loud, server(echo) as far, proxy() as port:
            _, stuck = await tunnel(port, f"127.0.0.1:{loud}")
            reader, writer = await tunnel(port, f"127.0.0.1:{far}")
            writer.write_eof()
            assert await reader.read() == b"<>"
            writer.close()
            stuck.transport.abort()

    asyncio.run(main())


def test_the_end_of_serving_ends_its_tunnels() -> None:
    async def main() -> None:
        async with server(echo) as far:
            async with proxy() as port:
                reader, writer = await tunnel(port, f"127.0.0.1:{far}")
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    asyncio.run(main())


# -- plain HTTP


@pytest.mark.parametrize(
    ("answer", "head", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: 5\r\n\r\nhi", b"200 OK", b"hi"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nT: 1\r\n\r\n", b"200 OK", b"hi"),
        (b"HTTP/1.1 204 \r\n\r\n", b"204 ", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", b"404 No", b""),
    ],
)
def test_plain_http_ends_with_the_message_though_the_server_stays(answer: bytes, head: bytes, body: bytes) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with server(replies(answer, seen, hang=True)) as far, proxy() as port:
            request = (
                f"GET http://127.0.0.1:{far}/a?b=c#d HTTP/1.1\r\nHost: liar.test\r\nProxy-Connection: keep-alive\r\n"
                "Proxy-Authorization: secret\r\nConnection: X-Drop\r\nX-Drop: 1\r\nX-Keep: 2\r\n\r\n"
            )
            got = await ask(port, request.encode())
            assert b"HTTP/1.1 " + head in got
            assert b"Connection: close\r\n" in got
            assert b"Keep-Alive" not in got
            assert body in got.rpartition(b"\r\n\r\n")[2] or body + b"\r\n0" in got
            wanted = f"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{far}\r\nX-Keep: 2\r\nConnection: close\r\n\r\n"
            assert seen == [wanted.encode()]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("field", "sent", "received"),
    [
        ("Content-Length: 5", b"helloEXTRA", b"hello"),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\nEXTRA", b"5\r\nhello\r\n0\r\n\r\n"),
    ],
)
def test_exactly_one_request_body_is_passed_on(field: str, sent: bytes, received: bytes) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        answer = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
        async with server(replies(answer, seen, body=len(received))) as far, proxy() as port:
            request = f"POST http://127.0.0.1:{far} HTTP/1.1\r\n{field}\r\n\r\n".encode() + sent
            assert (await ask(port, request)).endswith(b"\r\n\r\nuntil the end")
            assert seen[0].startswith(b"POST / HTTP/1.1\r\n")
            assert seen[0].endswith(b"\r\n\r\n" + received)

    asyncio.run(main())


def test_head_has_no_body() -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        async with server(replies(answer, hang=True)) as far, proxy() as port:
            assert b"1000" in await ask(port, f"HEAD http://127.0.0.1:{far}/ HTTP/1.1\r\n\r\n".encode())

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    ],
)
def test_an_unusable_answer_is_a_502(answer: bytes) -> None:
    async def main() -> None:
        async with server(replies(answer)) as far, proxy() as port:
            got = await ask(port, f"GET http://127.0.0.1:{far}/ HTTP/1.1\r\n\r\n".encode())
            assert got.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
            assert b"hostler egress: the server gave no usable answer" in got

    asyncio.run(main())


# -- requests that are no good


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET https://example.com/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://user@example.com/ HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT example.com HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT example.com:0 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT exa mple.com:1 HTTP/1.1\r\n\r\n", 505),
        (b"CONNECT ex\xe4mple.com:1 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT example.com:443 HTTP/2\r\n\r\n", 505),
        (b"nonsense\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\nA: b\nc: d\r\n\r\n", 400),
        (b"POST http://x/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST http://x/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (b"POST http://x/ HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", 400),
    ],
)
def test_malformed_requests(request_bytes: bytes, status: int) -> None:
    async def main() -> None:
        async with proxy() as port:
            got = await ask(port, request_bytes)
            assert got.startswith(b"HTTP/1.1 %d " % status)
            assert b"\r\n\r\nhostler egress: " in got

    asyncio.run(main())


def test_a_slow_request_is_ended() -> None:
    async def main() -> None:
        async with proxy(limits=EgressLimits(header_seconds=0.2)) as port:
            assert (await ask(port, b"CONNECT exam")).startswith(b"HTTP/1.1 408 ")

    asyncio.run(main())


# -- where nobody may go


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0",
        "localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_private_hosts_are_refused(host: str) -> None:
    async def connect(address: str, port: int) -> Any:
        raise AssertionError(f"connected to {address}")

    async def main() -> None:
        async with proxy(EgressPolicy(), connect=connect) as port:
            for request in (f"CONNECT {host}:443 HTTP/1.1\r\n\r\n", f"GET http://{host}/ HTTP/1.1\r\n\r\n"):
                got = await ask(port, request.encode())
                assert got.startswith((b"HTTP/1.1 403 Forbidden", b"HTTP/1.1 502 "))
                if got.startswith(b"HTTP/1.1 403"):
                    assert got.endswith(f"hostler egress: {host} has an address that is not public\n".encode())
                else:  # a host without IPv6 may not even resolve its forms
                    assert host.startswith("[")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::5db8:d70e", True),
        ("64:ff9b:1::1", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("::7f00:1", False),
        ("fec0::1", False),
        ("fe80::1%lo", False),
        ("ff02::1", False),
        ("198.18.0.1", False),
        ("240.0.0.1", False),
        ("no address", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_own_addresses() -> None:
    assert is_own("127.0.0.1")
    assert not is_own("192.0.2.1")


def test_a_public_name_with_one_private_address_is_refused() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "10.0.0.1"]

    async def main() -> None:
        async with proxy(EgressPolicy(), resolve=resolve) as port:
            assert (await ask(port, b"CONNECT two.test:443 HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 403 ")

    asyncio.run(main())


def test_what_was_checked_is_what_is_connected_to() -> None:
    answers = [["93.184.215.14"], ["127.0.0.1"]]
    dialled: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        return answers.pop(0)

    async def main() -> None:
        async with server(echo) as far:

            async def connect(address: str, port: int) -> tuple[StreamReader, StreamWriter]:
                dialled.append(address)
                return await asyncio.open_connection("127.0.0.1", far)

            async with proxy(EgressPolicy(), resolve=resolve, connect=connect) as port:
                _, writer = await tunnel(port, "rebinding.test:443")
                writer.close()
                again = await ask(port, b"CONNECT rebinding.test:443 HTTP/1.1\r\n\r\n")
                assert again.startswith(b"HTTP/1.1 403 ")

    asyncio.run(main())
    assert dialled == ["93.184.215.14"]


def test_the_allowlist() -> None:
    policy = EgressPolicy(allowed_hosts=("Example.com", "*.wild.test"))
    permitted = ["example.com", "EXAMPLE.com.", "a.wild.test", "a.b.wild.test"]
    refused = ["wild.test", "notwild.test", "example.com.evil.test", "sub.example.com", ".wild.test", ""]
    assert [host for host in permitted + refused if policy.permits(host)] == permitted
    assert not EgressPolicy(allowed_hosts=()).permits("example.com")

    async def main() -> None:
        async with proxy(policy) as port:
            got = await ask(port, b"CONNECT other.test:443 HTTP/1.1\r\n\r\n")
            assert got.endswith(b"other.test is not among the hosts that this environment allows\n")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("entry", "host", "meant"),
    [
        ("*.Example.com.", "a.EXAMPLE.com", True),
        ("*.example.com", "a.b.example.com.", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "anexample.com", False),
        ("https://Example.com/", "example.com.", True),
        ("::1", "[::1]", True),
        ("[2001:db8:0:0::1]", "[2001:DB8::1]", True),
        ("2001:db8::1", "[2001:db8::2]", False),
        ("1.2.3.4", "[::ffff:1.2.3.4]", True),
        ("1.2.3.4", "0x1020304", True),
        ("1.2.3.4", "1.2.772", True),
        ("1.2.3.4", "1.2.3.5", False),
        ("face.cafe", "face.cafe", True),
        ("face.cafe", "1.2.3.4", False),
    ],
)
def test_what_an_entry_of_a_list_of_hosts_means(entry: str, host: str, meant: bool) -> None:
    assert EgressPolicy(allowed_hosts=(entry,)).permits(host) is meant
    assert EgressPolicy(blocked=(entry,)).blocks(host) is meant


def test_slow_lookups_keep_their_place_and_stop_no_other_sandbox() -> None:
    under_way: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        under_way.append(host)
        await asyncio.Event().wait()
        return []

    async def main() -> None:
        async with proxy(limits=EgressLimits(connect_seconds=0.2), resolve=resolve) as port:
            asks = [ask(port, f"CONNECT slow{n}.test:1 HTTP/1.1\r\n\r\n".encode()) for n in range(10)]
            assert all(got.startswith(b"HTTP/1.1 504 ") for got in await asyncio.gather(*asks))

    asyncio.run(main())
    assert len(under_way) == 4


# -- servers that are not there


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        far = unused.getsockname()[1]

        async def main() -> None:
            async with proxy() as port:
                got = await ask(port, f"CONNECT 127.0.0.1:{far} HTTP/1.1\r\n\r\n".encode())
                assert got.startswith(b"HTTP/1.1 502 ")
                assert b"cannot connect to 127.0.0.1" in got

        asyncio.run(main())


def test_no_such_name_and_names_and_servers_that_do_not_answer() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        if host == "nowhere.test":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        if host == "slow.test":
            await asyncio.Event().wait()
        return ["127.0.0.1"]

    async def connect(address: str, port: int) -> tuple[StreamReader, StreamWriter]:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        limits = EgressLimits(connect_seconds=0.2)
        async with proxy(limits=limits, resolve=resolve, connect=connect) as port:
            for host, status in (("nowhere.test", 502), ("slow.test", 504), ("silent.test", 504)):
                got = await ask(port, f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
                assert got.startswith(b"HTTP/1.1 %d " % status), got

    asyncio.run(main())


def test_a_failure_of_ours_ends_one_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        if host == "bug.test":
            raise RuntimeError("a bug")
        return ["127.0.0.1"]

    async def main() -> None:
        async with server(echo) as far, proxy(resolve=resolve) as port:
            assert await ask(port, b"CONNECT bug.test:443 HTTP/1.1\r\n\r\n") == b""
            reader, writer = await tunnel(port, f"fine.test:{far}")
            writer.write_eof()
            assert await reader.read() == b"<>"
            writer.close()

    asyncio.run(main())
    assert "egress of sesn_1: a connection failed" in caplog.text


def test_a_connection_that_can_not_be_closed_ends_no_other(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(writer: StreamWriter, seconds: float) -> None:
        await exchange.close(writer, seconds)
        raise AttributeError("a fault of a library")

    async def main() -> None:
        async with server(echo) as far, proxy() as port:
            for _ in range(2):
                reader, writer = await tunnel(port, f"127.0.0.1:{far}")
                writer.write_eof()
                assert await reader.read() == b"<>"
                writer.close()

    monkeypatch.setattr(egress_module, "close", broken)
    asyncio.run(main())
    assert "egress of sesn_1: a connection was not ended in order" in caplog.text


# -- behind another proxy


def test_an_upstream_proxy_is_used_for_everything() -> None:
    async def main() -> None:
        seen: list[bytes] = []
        answer = replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", seen)
        async with server(answer) as far, proxy() as company:
            policy = EgressPolicy(allow_private=True, upstream=f"http://me:pw%40@127.0.0.1:{company}")
            async with proxy(policy) as port:
                got = await ask(port, f"GET http://127.0.0.1:{far}/x HTTP/1.1\r\n\r\n".encode())
                assert got.endswith(b"\r\n\r\nhi")
                reader, writer = await tunnel(port, f"127.0.0.1:{far}")
                writer.write(b"GET /y HTTP/1.1\r\n\r\n")
                assert (await reader.read()).endswith(b"hi")
                writer.close()
        assert [line.split()[1] for line in seen] == [b"/x", b"/y"]
        assert all(b"Proxy-Authorization" not in line for line in seen)

    asyncio.run(main())


def test_the_upstream_proxy_gets_our_credentials_and_its_refusal_is_told() -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with server(replies(b"HTTP/1.1 407 No\r\n\r\n", seen)) as company:
            policy = EgressPolicy(allow_private=True, upstream=f"http://me:pw@127.0.0.1:{company}")
            async with proxy(policy) as port:
                got = await ask(port, b"CONNECT 93.184.215.14:443 HTTP/1.1\r\n\r\n")
        assert got.endswith(b"the upstream proxy of this server refused 93.184.215.14:443 with 407\n")
        assert b"Proxy-Authorization: Basic bWU6cHc=\r\n" in seen[0]

    asyncio.run(main())


def test_behind_an_upstream_proxy_names_need_not_resolve_but_must_not_be_local() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    async def main() -> None:
        seen: list[bytes] = []
        async with server(replies(b"HTTP/1.1 200 OK\r\n\r\n", seen)) as company:
            policy = EgressPolicy(upstream=f"http://127.0.0.1:{company}")
            async with proxy(policy, resolve=resolve) as port:
                await ask(port, b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")
                for host in ("intranet", "db.internal", "printer.local", "x.localhost", "0x7f.1"):
                    got = await ask(port, f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
                    assert got.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 502 ")), host
        assert [line.split()[1] for line in seen] == [b"example.com:443"]

    asyncio.run(main())


def test_a_wrong_upstream_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="upstream proxy"):
        EgressProxy(EgressPolicy(upstream="socks5://127.0.0.1:1"))


@asynccontextmanager
async def told(key: str, request: GatewayRequest) -> AsyncIterator[GatewayResponse]:
    """A gateway that says what it was asked."""
    body = b"".join([part async for part in request.body]) if request.method == "POST" else b""

    async def parts() -> AsyncIterator[bytes]:
        yield f"{key} {request.method} {request.target} {request.field('x-a')} ".encode()
        yield b""
        yield body

    yield GatewayResponse(200, [("Content-Type", "text/plain")], parts())


def _unchunked(answer: bytes) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    whole = b""
    while (size := int(body.split(b"\r\n", 1)[0], 16)) > 0:
        body = body.split(b"\r\n", 1)[1]
        whole, body = whole + body[:size], body[size + 2 :]
    return whole


@pytest.mark.parametrize("network", [Network(), NO_NETWORK])
def test_the_gateway_is_asked_by_its_name_and_knows_whose_request_it_is(network: Network) -> None:
    async def main() -> None:
        async with proxy(network=network, gateway=told) as port:
            get = b"GET http://git.hostler.internal/a/b?c=d HTTP/1.1\r\nX-A: 1\r\nConnection: close\r\n\r\n"
            assert _unchunked(await ask(port, get)) == b"sesn_1 GET /a/b?c=d 1 "
            head = b"POST http://GIT.hostler.internal/p HTTP/1.1\r\n"
            sized = head + b"Content-Length: 5\r\n\r\nhello"
            assert _unchunked(await ask(port, sized)) == b"sesn_1 POST /p None hello"
            chunked = head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: 1\r\n\r\n"
            assert _unchunked(await ask(port, chunked)) == b"sesn_1 POST /p None hello"
            both = head + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello"
            assert b" 400 " in (await ask(port, both)).split(b"\r\n")[0]
            broken = head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
            assert b"hello" not in await ask(port, broken)

    asyncio.run(main())


def test_a_closed_sandbox_reaches_the_gateway_only() -> None:
    async def main() -> None:
        async with server(echo) as there, proxy(network=NO_NETWORK, gateway=told) as port:
            for request in (
                f"CONNECT 127.0.0.1:{there} HTTP/1.1\r\n\r\n",
                f"GET http://127.0.0.1:{there}/ HTTP/1.1\r\n\r\n",
                "CONNECT git.hostler.internal:80 HTTP/1.1\r\n\r\n",
                "GET http://git.hostler.internal:81/ HTTP/1.1\r\n\r\n",
                "GET http://x.git.hostler.internal/ HTTP/1.1\r\n\r\n",
            ):
                assert b" 403 " in (await ask(port, request.encode())).split(b"\r\n")[0], request

    asyncio.run(main())


def test_without_a_gateway_its_name_is_one_like_others() -> None:
    async def main() -> None:
        async with proxy(EgressPolicy()) as port:
            answer = await ask(port, b"GET http://git.hostler.internal/ HTTP/1.1\r\n\r\n")
            assert answer.split(b"\r\n")[0].split()[1] in (b"502", b"403", b"504")

    asyncio.run(main())
