"""A sandbox's connection on one side and real TLS servers on the other, with the proxy between them."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
from asyncio import StreamReader, StreamWriter
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hostler.sandbox.contract import Network, Secret
from hostler.sandbox.edge.authority import Authority
from hostler.sandbox.edge.egress import EgressLimits, EgressPolicy, EgressProxy
from hostler.sandbox.edge.egresslog import EgressLog
from hostler.sandbox.edge.interception import Edge
from hostler.sandbox.edge.streams import Plain, Tls

NAMES = ["api.test", "other.test", "*.wild.test"]
PLACEHOLDER = "secret_placeholder_0123456789abcdef"
VALUE = "sk-the-real-value"
Handler = Callable[[StreamReader, StreamWriter], Awaitable[None]]


def secret(**more: Any) -> Secret:
    given = {"placeholder": PLACEHOLDER, "value": VALUE, "hosts": ("api.test",), "header": True, "body": False}
    return Secret(**{**given, "credential_id": "vcrd_1", **more})


def make_certificate(folder: Path, names: Sequence[str] = NAMES, addresses: Sequence[str] = ()) -> Path:
    """A certificate that vouches for itself; its key stands in the same file's neighbour `key.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    others = [x509.IPAddress(ip_address(address)) for address in addresses]
    alternatives = x509.SubjectAlternativeName([*(x509.DNSName(n) for n in names), *others])
    builder = builder.add_extension(alternatives, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return folder / "cert.pem"


class World:
    """The proxy of one sandbox, and what its connections meet. Names all resolve to this host."""

    def __init__(self, folder: Path, secrets: Sequence[Secret]) -> None:
        self.folder = folder
        self.secrets = list(secrets)
        self.trust = make_certificate(folder)
        self.authority = Authority(folder / "egress")
        self.journal = EgressLog(folder / "log")
        self.port = 0
        self.writers: list[StreamWriter] = []

    async def ask(self, key: str) -> Sequence[Secret]:
        assert key == "sesn_1"
        return self.secrets

    def server_context(self, protocols: Sequence[str] = ()) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.trust, self.folder / "key.pem")
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def client_context(self, protocols: Sequence[str] = ()) -> ssl.SSLContext:
        """Of a program inside: it trusts the servers of this world and the authority."""
        context = ssl.create_default_context(cafile=str(self.authority.bundle(self.trust)))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    @asynccontextmanager
    async def serve(self, handler: Handler, protocols: Sequence[str] = (), *, tls: bool = True) -> AsyncIterator[int]:
        async def handle(reader: StreamReader, writer: StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        context = self.server_context(protocols) if tls else None
        running = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
        try:
            yield running.sockets[0].getsockname()[1]
        finally:
            running.close()

    async def tunnel(self, target: str) -> tuple[StreamReader, StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n", answer
        return reader, writer

    async def tls(self, host: str, port: int, protocols: Sequence[str] = (), name: str | None = None) -> Client:
        reader, writer = await self.tunnel(f"{host}:{port}")
        stream = Tls(Plain(reader, writer), self.client_context(protocols), name or host)
        client = Client(stream, writer)
        client.protocol = await stream.handshake(10)
        return client

    def log(self) -> list[Any]:
        self.journal.close()
        return list(self.journal.read("sesn_1"))


class Client:
    """A TLS connection of a program inside."""

    def __init__(self, stream: Tls, writer: StreamWriter) -> None:
        self.stream = stream
        self.writer = writer
        self.protocol: str | None = None

    async def ask(self, request: bytes) -> bytes:
        await self.stream.write(request)
        return await self.answer()

    async def answer(self) -> bytes:
        """One answer with a length or in chunks; else all that comes."""
        data = b""
        async with asyncio.timeout(10):
            while not _whole(data) and (more := await self.stream.read()):
                data += more
        return data

    async def answer_end(self) -> bytes:
        """The rest of an answer in chunks."""
        data = b""
        async with asyncio.timeout(10):
            while not data.endswith(b"0\r\n\r\n") and (more := await self.stream.read()):
                data += more
        return data

    def issuer(self) -> str:
        return str(self.stream._tls.getpeercert()["issuer"])  # type: ignore[index]


def _whole(data: bytes) -> bool:
    head, gap, body = data.partition(b"\r\n\r\n")
    if not gap:
        return False
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if fields.get(b"transfer-encoding") == b"chunked":
        return body.endswith(b"0\r\n\r\n")
    return b"content-length" in fields and len(body) >= int(fields[b"content-length"])


@asynccontextmanager
async def world(
    folder: Path,
    secrets: Sequence[Secret] = (),
    network: Network | None = None,
    limits: EgressLimits | None = None,
    **policy: Any,
) -> AsyncIterator[World]:
    made = World(folder, secrets)

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    edge = Edge(made.ask, made.authority, made.trust)
    rules = EgressPolicy(**{"allow_private": True, **policy})
    proxy = EgressProxy(rules, limits=limits, resolve=resolve, edge=edge, journal=made.journal)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        made.port = listener.getsockname()[1]
        serving = asyncio.create_task(proxy.serve(listener, "sesn_1", network or Network()))
        try:
            yield made
        finally:
            for writer in made.writers:
                writer.close()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            proxy.close()


def keeps(answer: bytes | Callable[[bytes], bytes], seen: list[bytes], *, body: int = 0) -> Handler:
    """A server that answers each request of a connection and keeps what it got."""

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            request += await reader.readexactly(body)
            seen.append(request)
            writer.write(answer(request) if callable(answer) else answer)
            await writer.drain()

    return handle


class _Site(BaseHTTPRequestHandler):
    """Keeps what each request shows as a key, and gives it back."""

    seen: list[str]

    def do_GET(self) -> None:
        key = self.headers.get("X-Key") or _key(self.headers.get("Authorization", ""))
        self.seen.append(key)
        body = b"" if "git-upload-pack" in self.path else f"you sent {key}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _key(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return b64decode(token).decode().partition(":")[2] if scheme == "Basic" else token


@contextmanager
def serve_site(folder: Path, address: str = "127.0.0.1") -> Iterator[tuple[int, list[str]]]:
    """An https site with the certificate of `folder`: its port, and what it is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    handler = type("Handler", (_Site,), {"seen": []})
    with ThreadingHTTPServer((address, 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], handler.seen  # type: ignore[attr-defined]
        server.shutdown()
