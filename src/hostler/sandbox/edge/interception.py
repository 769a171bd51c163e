"""A TLS connection to a host that gets secrets: it ends here, is looked into, and goes on to the verified server.

It must not be used for any other connection: everything else stays between the sandbox and its server.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from hostler.sandbox.contract import Secret, Secrets
from hostler.sandbox.edge.authority import Authority
from hostler.sandbox.edge.guard import Guard
from hostler.sandbox.edge.http1 import Http1, refuse
from hostler.sandbox.edge.http2 import Http2
from hostler.sandbox.edge.opening import Hello, Opening, read_opening
from hostler.sandbox.edge.route import Refusal
from hostler.sandbox.edge.streams import Plain, Tls, join
from hostler.sandbox.edge.substitution import is_for

SPOKEN = ("h2", "http/1.1")


class Edge:
    """What interception needs: the secrets, the authority that sandboxes trust, and what this server trusts itself:
    the machine's certificates and those of `trust`."""

    def __init__(self, secrets: Secrets, authority: Authority, trust: Path | None = None) -> None:
        self._secrets = secrets
        self.authority = authority
        self._trust = trust
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}

    async def secrets(self, key: str, host: str) -> Sequence[Secret]:
        """The secrets of that sandbox which may go to that host, as they are now."""
        return [secret for secret in await self._secrets(key) if is_for(secret, host)]

    async def outward(self, protocols: tuple[str, ...]) -> ssl.SSLContext:
        """For TLS to a server, of which these protocols are asked."""
        if protocols not in self._contexts:
            self._contexts[protocols] = await asyncio.to_thread(self._make_context, protocols)
        return self._contexts[protocols]

    def _make_context(self, protocols: tuple[str, ...]) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._trust is not None:
            context.load_verify_locations(self._trust)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


class Interception(Struct):
    """One connection: `client` and `server` carry TLS, of which the client's greeting is known and not yet taken."""

    edge: Edge
    guard: Guard
    host: str
    seconds: float
    client: Plain
    server: Plain

    @staticmethod
    def spoken(hello: Hello) -> bool:
        """Whether the client may speak what we can look into."""
        return not hello.protocols or any(protocol in SPOKEN for protocol in hello.protocols)

    async def run(self, hello: Hello) -> None:
        """Raises OSError (also of TLS) or `BadMessage`. The client is told of a server that can't be trusted."""
        asked = tuple(protocol for protocol in hello.protocols if protocol in SPOKEN)
        try:
            server = Tls(self.server, await self.edge.outward(asked), self.host.strip("[]"))
            protocol = await server.handshake(self.seconds)
        except (OSError, TimeoutError) as e:
            await self._tell(asked, _why(self.host, e))
            raise
        client = Tls(self.client, self.edge.authority.context(self.host, protocol))
        await client.handshake(self.seconds)
        if protocol == "h2":
            await Http2(client, server, self.guard).run()
        else:
            await self._relay(client, server)

    async def _relay(self, client: Tls, server: Tls) -> None:
        opening = await first_words(client, server, self.seconds)
        if opening is not None and opening.http:
            await Http1(client, server, self.guard).run()
        else:
            await join(client, server)

    async def _tell(self, asked: tuple[str, ...], refusal: Refusal) -> None:
        protocol = "http/1.1" if "http/1.1" in asked else None
        with suppress(OSError):
            client = Tls(self.client, self.edge.authority.context(self.host, protocol))
            await client.handshake(self.seconds)
            await refuse(client, refusal)


def _why(host: str, error: OSError | TimeoutError) -> Refusal:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refusal(502, f"the certificate of {host} cannot be trusted: {error.verify_message}")
    return Refusal(502, f"no TLS connection to {host} could be made: {getattr(error, 'reason', None) or 'it failed'}")


async def first_words(client: Plain | Tls, server: Plain | Tls, seconds: float) -> Opening | None:
    """Wait for whichever side speaks first; what was read stays in the streams. None when it is the server, or it ends.
    Raises `BadHello` or TimeoutError for a client that breaks off in the middle."""
    opening = Opening(bytearray())
    asking = asyncio.ensure_future(read_opening(client, opening, seconds))
    greeting = asyncio.ensure_future(server.read())
    try:
        await asyncio.wait({asking, greeting}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done() and not opening.data:
            greeting.result()
            return None
        await asking
        return opening
    finally:
        for task in (asking, greeting):
            task.cancel()
        await asyncio.gather(asking, greeting, return_exceptions=True)
        client.put_back(bytes(opening.data))
        if not greeting.cancelled() and greeting.exception() is None:
            server.put_back(greeting.result())
