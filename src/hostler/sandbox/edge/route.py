"""Ways out of a sandbox: which hosts a policy permits, which addresses they may have, and the connection to one.

It must not connect to a name: what was checked is an address, and that same address is connected to.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from hostler.addresses import bare_host, covers, is_metadata, is_numeric, is_own, is_public
from hostler.sandbox.contract import Network
from hostler.sandbox.edge.httpframing import HEADER_BYTES, BadMessage, encode, read_head
from hostler.sandbox.edge.registries import METADATA_HOSTS, REGISTRY_HOSTS
from hostler.sandbox.edge.streams import connect

Streams = tuple[StreamReader, StreamWriter]
Resolve = Callable[[str, int], Awaitable[list[str]]]
Connect = Callable[[str, int], Awaitable[Streams]]

_HOST = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\]")
_LOCAL_NAME = re.compile(r"[^.]*|(?:.*\.)(?:localhost|local|localdomain|internal|intranet|lan|home\.arpa)")
_LOOKUPS = 4  # at once, of one sandbox


class Refusal(Exception):
    """A request that is not carried out; `text` is for the agent, and names no address of our networks."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class EgressPolicy(Struct, frozen=True, kw_only=True):
    """What a sandbox may reach.

    `allowed_hosts`: None permits every public host; else exact names, and `*.example.com` for the names below it (not
    itself). Every port is permitted. `allow_private` is for tests: it lets through addresses that are not public.
    `trusted` hosts, in lower case and with a port or for all ports, are the operator's own choice: these may have such
    addresses. `blocked` hosts, as in `allowed_hosts`, are never reached. `registries` are the hosts of this machine's
    own package indexes: they belong to `package_managers`.
    `upstream` is the `http://` or `https://` URL of a proxy that everything must go through, with `user:password@`
    where it wants that; it then resolves the names that this host cannot.
    """

    allowed_hosts: tuple[str, ...] | None = None
    allow_private: bool = False
    trusted: frozenset[tuple[str, int | None]] = frozenset()
    blocked: tuple[str, ...] = METADATA_HOSTS
    registries: tuple[str, ...] = ()
    upstream: str | None = None

    def confined(self, network: Network) -> EgressPolicy:
        """This policy for a sandbox that may reach only what `network` says."""
        if network.hosts is None:
            return self
        registries = (*REGISTRY_HOSTS, *self.registries) if network.package_managers else ()
        return msgspec.structs.replace(self, allowed_hosts=(*network.hosts, *registries))

    @property
    def limited(self) -> bool:
        return self.allowed_hosts is not None

    def is_trusted(self, host: str, port: int) -> bool:
        """Whether the operator has named it as one of his own."""
        return not self.trusted.isdisjoint({(bare_host(host), port), (bare_host(host), None)})

    def may_be_private(self, host: str, port: int) -> bool:
        return self.allow_private or self.is_trusted(host, port)

    def blocks(self, host: str) -> bool:
        return any(covers(pattern, host) for pattern in self.blocked)

    def permits(self, host: str) -> bool:
        if self.allowed_hosts is None:
            return True
        return any(covers(pattern, host) for pattern in self.allowed_hosts)


class Upstream(Struct, frozen=True, kw_only=True):
    """The proxy that stands between this host and the internet."""

    host: str
    port: int
    tls: bool = False
    fields: list[tuple[str, str]] = []

    @classmethod
    def of(cls, url: str) -> Upstream:
        """Raises ValueError, without the address, which may hold a password."""
        wrong = ValueError("the upstream proxy must be given as http://host:port or https://host:port")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise wrong from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise wrong
        tls = parts.scheme == "https"
        fields = []
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            fields = [("Proxy-Authorization", "Basic " + base64.b64encode(pair.encode()).decode("ascii"))]
        return cls(host=parts.hostname, port=port or (443 if tls else 80), tls=tls, fields=fields)


def system_resolver(executor: Executor) -> Resolve:
    """The resolver of this host, on threads of its own: a slow name server must hold up nothing else."""

    def look_up(host: str, port: int) -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def resolve(host: str, port: int) -> list[str]:
        return await asyncio.get_running_loop().run_in_executor(executor, look_up, host, port)

    return resolve


async def connect_to_address(address: str, port: int) -> Streams:
    """`address` is numeric: no name is resolved here."""
    return await connect(address, port, HEADER_BYTES)


class Route:
    """The way out of one sandbox."""

    def __init__(self, policy: EgressPolicy, *, resolve: Resolve, connect: Connect, connect_seconds: float) -> None:
        self.upstream = Upstream.of(policy.upstream) if policy.upstream else None
        self.policy = policy
        self._resolve = resolve
        self._connect = connect
        self._seconds = connect_seconds
        self._lookups = asyncio.Semaphore(_LOOKUPS)

    async def open_tunnel(self, host: str, port: int) -> Streams:
        """A connection that carries bytes to the host and back. Raises `Refusal`."""
        addresses = await self._check(host, port)
        if self.upstream is None:
            return await self._dial(host, addresses, port)
        return await self._tunnel_through(self.upstream, host, port)

    async def open_request(self, host: str, port: int) -> Streams:
        """A connection that takes a plain HTTP request: to the host, or to the upstream proxy. Raises `Refusal`."""
        addresses = await self._check(host, port)
        if self.upstream is None:
            return await self._dial(host, addresses, port)
        return await self._open_upstream(self.upstream)

    async def _check(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be reached. Refused when even one of them is not public."""
        if len(host) > 255 or not _HOST.fullmatch(host) or not 0 < port < 65536:
            raise Refusal(400, "the request names no valid host and port")
        if self.policy.blocks(host):
            raise Refusal(403, f"{host} is a host that this server does not let sandboxes reach")
        if not self.policy.permits(host):
            raise Refusal(403, f"{host} is not among the hosts that this environment allows")
        name = host.strip("[]")
        public_only = not self.policy.may_be_private(name, port)
        if self.upstream and public_only and _is_local_name(name):
            raise Refusal(403, f"{host} is not a public host")
        try:
            addresses = await self._look_up(name, port)
        except Refusal:
            if self.upstream and not is_numeric(name):
                return []
            raise
        if any(is_metadata(a) and not is_numeric(name) for a in addresses) and not self.policy.allow_private:
            raise Refusal(403, f"{host} has an address that no name may have")
        if public_only and not all(is_public(a) and not is_own(a) for a in addresses):
            raise Refusal(403, f"{host} has an address that is not public")
        return addresses

    async def _look_up(self, name: str, port: int) -> list[str]:
        try:
            async with asyncio.timeout(self._seconds):
                await self._lookups.acquire()
                lookup = asyncio.ensure_future(self._resolve(name, port))
                lookup.add_done_callback(self._looked_up)
                addresses = await asyncio.shield(lookup)
        except TimeoutError:
            raise Refusal(504, f"the name {name} was not resolved in time") from None
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise Refusal(502, f"the name {name} cannot be resolved")
        return addresses

    def _looked_up(self, lookup: asyncio.Future[list[str]]) -> None:
        """Only now: a lookup that nobody waits for any more still has its thread."""
        self._lookups.release()
        if not lookup.cancelled():
            lookup.exception()

    async def _dial(self, host: str, addresses: list[str], port: int) -> Streams:
        refusal = Refusal(502, f"cannot connect to {host}:{port}")
        for address in addresses[:8]:
            try:
                async with asyncio.timeout(self._seconds / min(len(addresses), 3)):
                    return await self._connect(address, port)
            except TimeoutError:
                refusal = Refusal(504, f"{host}:{port} did not answer in time")
            except OSError as e:
                refusal = Refusal(502, f"cannot connect to {host}:{port}: {(e.strerror or 'failed').lower()}")
        raise refusal

    async def _open_upstream(self, proxy: Upstream) -> Streams:
        context = ssl.create_default_context() if proxy.tls else None
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.open_connection(proxy.host, proxy.port, ssl=context, limit=HEADER_BYTES)
        except (OSError, TimeoutError):
            raise Refusal(502, "cannot connect to the upstream proxy of this server") from None

    async def _tunnel_through(self, proxy: Upstream, host: str, port: int) -> Streams:
        reader, writer = await self._open_upstream(proxy)
        target = f"{host}:{port}"
        try:
            async with asyncio.timeout(self._seconds):
                writer.write(encode(f"CONNECT {target} HTTP/1.1", [("Host", target), *proxy.fields]))
                await writer.drain()
                status = (await read_head(reader)).start[1]
        except (OSError, EOFError, BadMessage):
            writer.transport.abort()
            raise Refusal(502, "the upstream proxy of this server did not answer properly") from None
        except BaseException:
            writer.transport.abort()
            raise
        if not status.startswith("2"):
            writer.transport.abort()
            raise Refusal(502, f"the upstream proxy of this server refused {target} with {status[:3]}")
        return reader, writer


def _is_local_name(name: str) -> bool:
    return not is_numeric(name) and _LOCAL_NAME.fullmatch(name.lower().rstrip(".")) is not None
