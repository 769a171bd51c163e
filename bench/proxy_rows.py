"""What the way out of a sandbox costs: requests and downloads over 200 connections at once, through a plain tunnel and
intercepted, beside the same over direct connections in the same run.

The site, the proxy and the clients are a process each, on the loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(1, str(Path(__file__).parent.parent / "src"))

from hostler.sandbox.contract import Network, Secret
from hostler.sandbox.edge.authority import Authority
from hostler.sandbox.edge.egress import EgressLimits, EgressPolicy, EgressProxy
from hostler.sandbox.edge.interception import Edge
from hostler.sandbox.edge.streams import Plain, Tls
from rows import MS, Bench, Row, now, p

SECRETS = [
    Secret(placeholder="placeholder_of_a_secret", value="s3cret-value", hosts=("in.test",), header=True, body=False)
]
WAYS = {"direct": "in.test", "tunnel": "out.test", "intercepted": "in.test"}
AT_ONCE = 200
RATE = 400  # requests in a second, of all connections
CHUNK = bytes(64 * 1024)


class Way:
    """One way to the site."""

    def __init__(self, name: str, folder: Path, site: int, proxy: int) -> None:
        self.host = WAYS[name]
        self.site = site
        self.proxy = proxy if name != "direct" else 0
        self.context = ssl.create_default_context(cafile=str(Authority(folder).bundle(folder / "site.pem")))

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Tls]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy or self.site)
        try:
            if self.proxy:
                writer.write(f"CONNECT {self.host}:{self.site} HTTP/1.1\r\n\r\n".encode())
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            stream = Tls(Plain(reader, writer), self.context, self.host)
            await stream.handshake(60)
            yield stream
        finally:
            writer.transport.abort()

    async def fetch(self, stream: Tls, path: str) -> int:
        head = f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nX-Key: {SECRETS[0].placeholder}\r\n\r\n"
        await stream.write(head.encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.read()
        fields, _, body = data.partition(b"\r\n\r\n")
        got, length = len(body), fields.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not length:  # a big body that was looked into comes in chunks
            last = body[-5:]
            while not last.endswith(b"0\r\n\r\n"):
                data = await stream.read()
                got, last = got + len(data), (last + data)[-5:]
            return got
        while got < int(length):
            got += len(await stream.read())
        return got


async def proxied(bench: Bench) -> list[Row]:
    """Latency at a steady rate, and throughput, each over 200 connections at once."""
    folder = bench.folder / "proxied"
    folder.mkdir()
    _certificate(folder)
    with contextlib.ExitStack() as stack:
        site, proxy = (_start(stack, part, folder) for part in ("site", "proxy"))
        ways = {name: Way(name, folder, site, proxy) for name in WAYS}
        spent = {name: await _steady(way, bench.scale) for name, way in ways.items()}
        speed = {name: await _flood(way, bench.scale) for name, way in ways.items()}
    rows = [
        Row(name=f"{name}: a request, {AT_ONCE} connections, {RATE} in a second", unit="ms", value=p(spent[name], 0.5),
            p99=p(spent[name], 0.99), raw=p(spent["direct"], 0.5), note="raw: direct TLS")
        for name in ("tunnel", "intercepted")
    ]  # fmt: skip
    return rows + [
        Row(name=f"{name}: {AT_ONCE} downloads at once", unit="MiB/s", value=round(speed[name], 1),
            raw=round(speed["direct"], 1), note="raw: direct TLS")
        for name in ("tunnel", "intercepted")
    ]  # fmt: skip


async def _steady(way: Way, scale: float) -> list[float]:
    rounds = max(2, int(10 * scale))
    spent: list[float] = []
    gate = asyncio.Semaphore(20)

    async def client(number: int, begin: asyncio.Event, ready: asyncio.Semaphore) -> None:
        async with contextlib.AsyncExitStack() as stack:
            async with gate:
                stream = await stack.enter_async_context(way.open())
                await way.fetch(stream, "/small")
            ready.release()
            await begin.wait()
            await asyncio.sleep(number / RATE)
            for _ in range(rounds):
                start = now()
                await way.fetch(stream, "/small")
                spent.append((now() - start) / MS)
                await asyncio.sleep(AT_ONCE / RATE)

    begin, ready = asyncio.Event(), asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(client(number, begin, ready))
        for _ in range(AT_ONCE):
            await ready.acquire()
        begin.set()
    return spent


async def _flood(way: Way, scale: float) -> float:
    size = max(1, int(4 * scale)) * 1024 * 1024
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(way.open()) for _ in range(AT_ONCE)]
        start = time.monotonic()
        got = await asyncio.gather(*(way.fetch(stream, f"/{size}") for stream in streams))
        return sum(got) / (time.monotonic() - start) / 2**20


# -- the other processes --


def _start(stack: contextlib.ExitStack, part: str, folder: Path) -> int:
    """Start one, and give its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        command = [sys.executable, __file__, part, str(folder), str(listener.fileno())]
        child = subprocess.Popen(command, pass_fds=[listener.fileno()])
        stack.callback(child.wait)
        stack.callback(child.kill)
        return int(listener.getsockname()[1])


async def _site(folder: Path, listener: socket.socket) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "site.pem", folder / "site.key")

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
                left = int(path[1:]) if path != b"/small" else 1000
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
                while left:
                    writer.write(CHUNK[: min(left, len(CHUNK))])
                    left -= min(left, len(CHUNK))
                    await writer.drain()

    async with await asyncio.start_server(serve, sock=listener, ssl=context) as server:
        await server.serve_forever()


async def _proxy(folder: Path, listener: socket.socket) -> None:
    async def secrets(key: str) -> Sequence[Secret]:
        return SECRETS

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    edge = Edge(secrets, Authority(folder), folder / "site.pem")
    limits = EgressLimits(connections=AT_ONCE + 10)
    await EgressProxy(EgressPolicy(allow_private=True), limits=limits, resolve=resolve, edge=edge).serve(
        listener, "box", Network()
    )


def _certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    today = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(today - datetime.timedelta(1)).not_valid_after(today + datetime.timedelta(1))
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in sorted(set(WAYS.values()))])
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "site.key").write_bytes(private)
    (folder / "site.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    Authority(folder).bundle(folder / "site.pem")  # before two processes would each make one


ROWS = [proxied]

if __name__ == "__main__":
    work = {"site": _site, "proxy": _proxy}[sys.argv[1]]
    uvloop.run(work(Path(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))))
