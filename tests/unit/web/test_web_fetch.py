"""Fetching: what is refused before a connection, what a redirect may lead to, and what a hostile server can cost."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import tempfile
import time
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_servers import Seen, Server, answering, serving

from hostler.web import client
from hostler.web.config import WebConfig
from hostler.web.domains import Rules
from hostler.web.fetch import Fetched, Fetcher
from hostler.web.inflate import Inflater
from hostler.web.problem import WebProblem
from hostler.web.urls import parse

OPEN = Rules()


def page(body: bytes | str, kind: str = "text/html", status: int = 200, **headers: str) -> Any:
    raw = body.encode() if isinstance(body, str) else body

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{extra}connection: close\r\n\r\n".encode() + raw)
        await writer.drain()

    return handler


def redirect(location: str, status: int = 302) -> Any:
    return page("", status=status, location=location)


def local(server: Server, **config: Any) -> WebConfig:
    return WebConfig(allow_private_hosts=(server.url.removeprefix("http://"),), **config)


def resolving(*answers: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """A resolver that gives these answers one after the other, and the last for ever."""
    left = list(answers)

    async def resolve(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def get(config: WebConfig, url: str, rules: Rules = OPEN, resolve: Any = None) -> Fetched:
    fetcher = Fetcher(config, resolve)
    try:
        return await fetcher.fetch(parse(url), rules)
    finally:
        fetcher.close()


def problem(config: WebConfig, url: str, rules: Rules = OPEN, resolve: Any = None) -> WebProblem:
    with pytest.raises(WebProblem) as raised:
        asyncio.run(get(config, url, rules, resolve))
    return raised.value


def test_a_page() -> None:
    async def main() -> None:
        async with serving(page("<p>Hello", "text/html; charset=utf-8")) as server:
            fetched = await get(local(server), f"{server.url}/a?b=c")
            assert fetched.body == b"<p>Hello"
            assert fetched.content_type == "text/html; charset=utf-8"
            assert not fetched.redirected
            assert not fetched.cut
            (seen,) = server.seen
            assert seen.path == "/a?b=c"
            assert seen.headers["host"] == server.url.removeprefix("http://")
            assert "cookie" not in seen.headers
            assert "Hostler" in seen.headers["user-agent"]

    asyncio.run(main())


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1",
        "192.168.1.1", "100.64.0.1", "169.254.169.254", "168.63.129.16", "224.0.0.1", "255.255.255.255", "198.18.0.1",
        "[::1]", "[::]", "[fe80::1]", "[fd00::1]", "[ff02::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fd00:ec2::254]", "localhost",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(host: str) -> None:
    assert problem(WebConfig(), f"http://{host}/").code == "url_not_allowed"


def test_a_name_with_one_private_address_is_refused() -> None:
    found = problem(WebConfig(), "http://mixed.example/", resolve=resolving(["93.184.216.34", "10.0.0.1"]))
    assert found.code == "url_not_allowed"
    assert "10.0.0.1" not in str(found)


def test_a_name_that_changes_its_mind_gains_nothing() -> None:
    """The address that was checked is connected to: a second lookup, which would give this host, never happens."""

    async def main() -> None:
        async with serving(page("secret")) as server:
            port = server.url.rpartition(":")[2]
            asked: list[str] = []

            async def resolve(host: str, port: int) -> list[str]:
                asked.append(host)
                return ["192.0.2.1"] if len(asked) > 1 else ["2606:4700::1111"]

            with pytest.raises(WebProblem) as raised:
                await get(WebConfig(connect_seconds=0.3), f"http://rebind.example:{port}/", resolve=resolve)
            assert raised.value.code == "url_not_accessible"
            assert asked == ["rebind.example"]
            assert not server.seen

    asyncio.run(main())


def test_the_address_is_connected_to_and_the_name_is_sent() -> None:
    async def main() -> None:
        async with serving(page("hello")) as server:
            port = server.url.rpartition(":")[2]
            config = WebConfig(allow_private_hosts=(f"wiki.test:{port}",))
            fetched = await get(config, f"http://wiki.test:{port}/x", resolve=resolving(["127.0.0.1"]))
            assert fetched.body == b"hello"
            assert server.seen[0].headers["host"] == f"wiki.test:{port}"
            with pytest.raises(WebProblem):
                await get(config, f"http://other.test:{port}/x", resolve=resolving(["127.0.0.1"]))

    asyncio.run(main())


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]/", "http://127.1/"],
)
def test_redirects_to_private_addresses(location: str) -> None:
    async def main() -> None:
        async with serving(redirect(location)) as server:
            with pytest.raises(WebProblem, match="url_not_allowed"):
                await get(local(server), server.url)

    asyncio.run(main())


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://x/", "data:text/html,x", "http://a b/"])
def test_redirects_to_what_is_no_page(location: str) -> None:
    async def main() -> None:
        async with serving(redirect(location)) as server:
            with pytest.raises(WebProblem):
                await get(local(server), server.url)

    asyncio.run(main())


def test_redirects_are_checked_against_the_domain_rules() -> None:
    async def main() -> None:
        async with (
            serving(page("x")) as target,
            serving(redirect(f"{target.url}/".replace("127.0.0.1", "b.test"))) as server,
        ):
            allowed = tuple(
                one.url.removeprefix("http://").replace("127.0.0.1", name)
                for one, name in ((server, "a.test"), (target, "b.test"))
            )
            config = WebConfig(allow_private_hosts=allowed)
            start = server.url.replace("127.0.0.1", "a.test")
            resolve = resolving(["127.0.0.1"])
            fetched = await get(config, start, Rules(allowed=("a.test", "b.test")), resolve)
            assert fetched.redirected
            assert fetched.url.startswith("http://b.test:")
            for rules in (Rules(allowed=("a.test",)), Rules(blocked=("b.test",)), Rules(hosts=("a.test",))):
                with pytest.raises(WebProblem, match=r"url_not_allowed.*redirects"):
                    await get(config, start, rules, resolve)
            assert len(target.seen) == 1

    asyncio.run(main())


def test_a_loop_of_redirects_ends() -> None:
    async def main() -> None:
        async with serving(redirect("/again")) as server:
            with pytest.raises(WebProblem, match="more than 8 times"):
                await get(local(server), server.url)
            assert len(server.seen) == 9

    asyncio.run(main())


def test_ports_and_statuses() -> None:
    assert problem(WebConfig(), "http://93.184.216.34:22/").code == "url_not_allowed"

    async def main() -> None:
        for status, code in ((404, "url_not_accessible"), (503, "url_not_accessible"), (429, "too_many_requests")):
            async with serving(page("x", status=status)) as server:
                with pytest.raises(WebProblem, match=f"{code}.*{status}"):
                    await get(local(server), server.url)

    asyncio.run(main())


def test_a_host_that_is_not_there() -> None:
    async def nothing(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    assert "can't be resolved" in str(problem(WebConfig(), "http://nowhere.example/", resolve=nothing))
    closed = WebConfig(allow_private_hosts=("127.0.0.1:9",))
    assert "No connection" in str(problem(closed, "http://127.0.0.1:9/"))

    async def slow(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    assert "in time" in str(problem(WebConfig(connect_seconds=0.05), "http://slow.example/", resolve=slow))


def test_a_slow_body_ends_in_time() -> None:
    async def trickle(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\ncontent-type: text/html\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with serving(trickle) as server:
            began = time.monotonic()
            with pytest.raises(WebProblem, match=r"within 0.3 seconds"):
                await get(local(server, fetch_seconds=0.3), server.url)
            assert time.monotonic() - began < 5
            await asyncio.wait_for(server.hung_up.wait(), 5)

    asyncio.run(main())


def test_cancelling_hangs_up() -> None:
    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(silent) as server:
            task = asyncio.create_task(get(local(server), server.url))
            await asyncio.wait_for(server.asked.wait(), 5)
            task.cancel()
            await asyncio.wait({task})
            await asyncio.wait_for(server.hung_up.wait(), 5)

    asyncio.run(main())


def test_a_huge_body_is_cut() -> None:
    async def endless(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\ncontent-type: text/plain\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async def main() -> None:
        async with serving(endless) as server:
            fetched = await get(local(server, fetch_mb=1), server.url)
            assert fetched.cut
            assert len(fetched.body) == 1024 * 1024

    asyncio.run(main())


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw"])
def test_compression(encoding: str) -> None:
    packer = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": lambda data: zlib.compress(data)[2:-4]}[encoding]
    name = "deflate" if encoding == "raw" else encoding

    async def main() -> None:
        async with serving(page(packer(b"words " * 1000), content_encoding=name)) as server:
            assert (await get(local(server), server.url)).body == b"words " * 1000
        bomb = packer(b"\0" * 60_000_000)
        async with serving(page(bomb, content_encoding=name)) as server:
            fetched = await get(local(server, fetch_mb=1), server.url)
            assert fetched.cut
            assert len(fetched.body) == 1024 * 1024

    asyncio.run(main())


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_what_follows_compressed_data_is_not_kept(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    tracemalloc.start()
    inflater = Inflater(encoding, 1024)
    inflater.feed(pack(b"words"))
    for _ in range(200):
        inflater.feed(bytes(64 * 1024))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert inflater.body == b"words"
    assert most < 1024 * 1024


@pytest.mark.parametrize("encoding", ["br", "gzip"])
def test_compression_that_was_not_asked_for_or_is_damaged(encoding: str) -> None:
    async def main() -> None:
        async with serving(page("no such bytes", content_encoding=encoding)) as server:
            with pytest.raises(WebProblem, match="url_not_accessible"):
                await get(local(server), server.url)

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 X\r\ncontent-length: 99\r\n\r\nshort",
        b"HTTP/1.1 200 X\r\nA: " + b"a" * 300_000,
    ],
)
def test_answers_that_are_no_http(answer: bytes) -> None:
    async def lie(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async def main() -> None:
        async with serving(lie) as server:
            with pytest.raises(WebProblem, match="url_not_accessible"):
                await get(local(server), server.url)

    asyncio.run(main())


def certified(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server of this name, and for a client that trusts its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem + secret)
        file.flush()
        server.load_cert_chain(file.name)
    return server, ssl.create_default_context(cadata=pem.decode())


def test_tls_is_verified_against_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    server_side, client_side = certified("good.test")
    names: list[str | None] = []
    server_side.sni_callback = lambda _, name, __: names.append(name)

    async def main() -> None:
        async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 5\r\n\r\nhello")
            await writer.drain()
            writer.close()

        listener = await asyncio.start_server(hello, "127.0.0.1", 0, ssl=server_side)
        port = listener.sockets[0].getsockname()[1]
        config = WebConfig(allow_private_hosts=("good.test", "bad.test"))
        resolve = resolving(["127.0.0.1"])
        async with listener:
            with pytest.raises(WebProblem, match="TLS"):  # by an authority that nobody knows
                await get(config, f"https://good.test:{port}/", resolve=resolve)
            monkeypatch.setattr(client, "_load", lambda: client_side)
            assert (await get(config, f"https://good.test:{port}/", resolve=resolve)).body == b"hello"
            with pytest.raises(WebProblem, match="TLS"):
                await get(config, f"https://bad.test:{port}/", resolve=resolve)
        assert names == ["good.test", "good.test", "bad.test"]

    asyncio.run(main())


def test_through_a_proxy() -> None:
    """Names go to the proxy, also those that this host can't resolve; but nothing that is known to be private."""

    async def main() -> None:
        async with serving(answering(200, "from far away", kind="text/plain")) as proxy:
            config = WebConfig(proxy=proxy.url)

            async def unknown(host: str, port: int) -> list[str]:
                raise OSError("no such name")

            fetched = await get(config, "http://far.example/page?x", resolve=unknown)
            assert fetched.body == b"from far away"
            assert proxy.seen[0].path == "http://far.example/page?x"
            assert proxy.seen[0].headers["host"] == "far.example"
            for url in ("http://localhost/", "http://10.0.0.1/", "http://wiki.internal/", "http://intranet/"):
                with pytest.raises(WebProblem, match="url_not_allowed"):
                    await get(config, url, resolve=resolving(["10.0.0.1"]))
            with pytest.raises(WebProblem, match="url_not_allowed"):
                await get(config, "http://private.example/", resolve=resolving(["10.0.0.1"]))
            assert len(proxy.seen) == 1

    asyncio.run(main())


def test_fetches_at_once_are_bounded() -> None:
    at_once = most = 0

    async def counting(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        await page("x")(seen, writer)

    async def main() -> None:
        async with serving(counting) as server:
            fetcher = Fetcher(local(server, fetches_at_once=3))
            await asyncio.gather(*(fetcher.fetch(parse(f"{server.url}/{n}"), OPEN) for n in range(12)))
            fetcher.close()
            assert most <= 3

    asyncio.run(main())
