"""Secrets at the edge over HTTP/1.1: who gets them, who does not, and what comes back."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path

import pytest
from edge_world import PLACEHOLDER, VALUE, keeps, secret, world

from hostler.sandbox.contract import Network
from hostler.sandbox.edge import guard
from hostler.sandbox.edge.egress import EgressLimits

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
P, V = PLACEHOLDER.encode(), VALUE.encode()


def get(host: str, *fields: bytes, path: bytes = b"/") -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: " + host.encode(), *fields, b"", b""])


def test_a_header_gets_the_secret_and_the_next_request_too(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with world(tmp_path, [secret()]) as w, w.serve(keeps(OK, seen)) as port:
            client = await w.tls("api.test", port)
            assert "Hostler sandboxes" in client.issuer()
            for _ in range(2):
                answer = await client.ask(get("api.test", b"X-Key: a " + P + b" b", path=b"/x?k=" + P))
                assert answer == OK
        assert len(seen) == 2
        for request in seen:
            assert b"X-Key: a " + V + b" b\r\n" in request
            assert request.startswith(b"GET /x?k=" + P + b" HTTP/1.1\r\n")

    asyncio.run(main())


def test_basic_authorization_gets_it_too_and_an_echo_of_it_is_scrubbed(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []

        def echo(request: bytes) -> bytes:
            return b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n%s" % (V, len(request), request)

        sent = base64.b64encode(b"user:" + P)
        async with world(tmp_path, [secret()]) as w, w.serve(keeps(echo, seen)) as port:
            client = await w.tls("api.test", port)
            answer = await client.ask(get("api.test", b"Authorization: Basic " + sent, b"X-Key: " + P))
        assert b"Authorization: Basic " + base64.b64encode(b"user:" + V) in seen[0]
        assert V not in answer
        assert base64.b64encode(b"user:" + V) not in answer
        assert b"Basic " + sent in answer
        assert b"X-Echo: " + P in answer

    asyncio.run(main())


def test_other_hosts_keep_their_own_certificate_and_the_placeholder(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with world(tmp_path, [secret()]) as w, w.serve(keeps(OK, seen)) as port:
            client = await w.tls("other.test", port)
            assert "tests" in client.issuer()
            await client.ask(get("other.test", b"X-Key: " + P))
        assert P in seen[0]
        assert V not in seen[0]

    asyncio.run(main())


def test_another_host_behind_the_same_connection_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with world(tmp_path, [secret()]) as w, w.serve(keeps(OK, seen)) as port:
            for host in ("other.test", "api.test.other.test", "api.test@other.test", "other.test:api.test", ""):
                client = await w.tls("api.test", port)
                answer = await client.ask(get(host, b"X-Key: " + P))
                assert answer.startswith(b"HTTP/1.1 421"), (host, answer)
            assert seen == []
        assert {(entry.verdict, entry.reason[:22]) for entry in w.log()} == {("refused", "this connection is for")}

    asyncio.run(main())


def test_an_untrusted_server_gets_nothing_and_the_agent_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        named = secret(hosts=("stranger.test",))
        async with world(tmp_path, [named]) as w, w.serve(keeps(OK, seen)) as port:
            client = await w.tls("stranger.test", port)
            answer = await client.ask(get("stranger.test", b"X-Key: " + P))
        assert answer.startswith(b"HTTP/1.1 502")
        assert b"certificate of stranger.test cannot be trusted" in answer
        assert seen == []

    asyncio.run(main())


def test_a_limited_network_needs_the_name_of_the_host(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        limited = Network(hosts=("api.test",))
        async with world(tmp_path, [], limited) as w, w.serve(keeps(OK, seen)) as port:
            client = await w.tls("api.test", port)
            assert (await client.ask(get("api.test"))).endswith(b"ok")
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
                await w.tls("api.test", port, name="other.test")
        assert len(seen) == 1
        ours = sorted((entry.kind, entry.verdict, entry.name) for entry in w.log())
        assert ours == [("tls", "allowed", ""), ("tls", "refused", "other.test")]

    asyncio.run(main())


def test_a_changed_secret_holds_within_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FRESH_SECONDS", 0.0)

    async def main() -> None:
        seen: list[bytes] = []
        async with world(tmp_path, [secret()]) as w, w.serve(keeps(OK, seen)) as port:
            client = await w.tls("api.test", port)
            for value in ("second-value", None):
                await client.ask(get("api.test", b"X-Key: " + P))
                w.secrets = [secret(value=value)] if value else []
            await client.ask(get("api.test", b"X-Key: " + P))
        assert [V in seen[0], b"second-value" in seen[1], P in seen[2]] == [True, True, True]

    asyncio.run(main())


def test_a_client_that_has_said_all_still_gets_its_answer(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with world(tmp_path, [secret()]) as w, w.serve(keeps(OK, seen)) as port:
            client = await w.tls("api.test", port)
            await client.stream.write(get("api.test", b"X-Key: " + P))
            await client.stream.end()
            assert await client.answer() == OK
        assert V in seen[0]

    asyncio.run(main())


def test_a_greeting_that_never_ends_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        limits = EgressLimits(header_seconds=0.2)
        async with world(tmp_path, [secret()], limits=limits) as w, w.serve(keeps(OK, seen)) as port:
            for begin in (b"\x16\x03\x01", b"GET / HT"):
                reader, writer = await w.tunnel(f"api.test:{port}")
                writer.write(begin)
                async with asyncio.timeout(10):
                    assert await reader.read() == b""
        assert [entry.verdict for entry in w.log()] == ["refused", "refused"]

    asyncio.run(main())


def test_a_session_that_has_moved_all_it_may(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        limits = EgressLimits(bytes=100_000)
        big = b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + bytes(500_000)
        async with world(tmp_path, limits=limits) as w, w.serve(keeps(big, seen)) as port:
            for _ in range(2):
                client = await w.tls("api.test", port) if not seen else None
                if client is None:
                    with pytest.raises(OSError):  # noqa: PT011
                        await w.tls("api.test", port)
                else:
                    assert len(await client.ask(get("api.test"))) < 250_000
        first, second = w.log()
        assert first.verdict == second.verdict == "refused"
        assert "has moved all" in second.reason

    asyncio.run(main())
