"""The way out of a sandbox: an HTTP proxy on the host that serves the sockets handed out of the sandboxes.

It must not be reachable but through such a socket, which is also the session's identity, and must not let an agent
reach this host or its networks.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from asyncio import StreamReader, StreamWriter
from concurrent.futures import ThreadPoolExecutor

from hostler.sandbox.contract import Network
from hostler.sandbox.edge.egresslog import EgressLog
from hostler.sandbox.edge.exchange import LINGER_SECONDS, EgressLimits, Exchange, Way, close
from hostler.sandbox.edge.gateway import Gateway
from hostler.sandbox.edge.httpframing import HEADER_BYTES
from hostler.sandbox.edge.interception import Edge
from hostler.sandbox.edge.ledger import Account, Record
from hostler.sandbox.edge.route import (
    Connect,
    EgressPolicy,
    Resolve,
    Route,
    Upstream,
    connect_to_address,
    system_resolver,
)

__all__ = ["EgressLimits", "EgressPolicy", "EgressProxy", "EgressSession"]

log = logging.getLogger(__name__)

_RESOLVER_THREADS = 32
_BUSY = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class EgressProxy:
    """One instance serves all sandboxes that share a policy. `resolve` and `connect` are replaced in tests only.
    Without an `edge` no connection is looked into; without a `journal` nothing is written down."""

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        limits: EgressLimits | None = None,
        resolve: Resolve | None = None,
        connect: Connect = connect_to_address,
        gateway: Gateway | None = None,
        edge: Edge | None = None,
        journal: EgressLog | None = None,
    ) -> None:
        if policy.upstream:
            Upstream.of(policy.upstream)  # refuse a wrong one at the start of the server
        self._policy = policy
        self._limits = limits or EgressLimits()
        # Each takes three descriptors, of which agents shall never have more than half.
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._seats = asyncio.Semaphore(max(1, min(self._limits.in_all, descriptors // 6)))
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, "egress-resolver")
        self._resolve = resolve or system_resolver(self._threads)
        self._connect = connect
        self._gateway = gateway
        self._edge = edge
        self._journal = journal

    def close(self) -> None:
        """Let go of the threads. Every `serve` must have ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def session(self, key: str, network: Network) -> EgressSession:
        """The way out of one sandbox. `network` confines it further than the policy of all; the gateway is in reach
        of each."""
        route = Route(
            self._policy.confined(network),
            resolve=self._resolve,
            connect=self._connect,
            connect_seconds=self._limits.connect_seconds,
        )
        way = Way(key, route, self._limits, self._gateway, self._edge)
        moved = self._journal.moved(key) if self._journal is not None else 0
        return EgressSession(way, Account(self._limits.bytes, moved), self._seats, self._journal)

    async def serve(self, listener: socket.socket, key: str, network: Network) -> None:
        """Serve one sandbox until cancelled, which also ends its connections; the listener stays the caller's."""
        listener.setblocking(False)
        session = await asyncio.to_thread(self.session, key, network)
        async with asyncio.TaskGroup() as connections:
            while True:
                await session.seats.acquire()
                client = await _accept(listener)
                if client is None:
                    return
                task = connections.create_task(session.accept(client))
                task.add_done_callback(lambda _: session.seats.release())


class EgressSession:
    """Serves the connections of one sandbox, each to its end. `seats` are those it may have at once."""

    def __init__(self, way: Way, account: Account, all_seats: asyncio.Semaphore, journal: EgressLog | None) -> None:
        self.seats = asyncio.Semaphore(way.limits.connections)
        self._way = way
        self._account = account
        self._all_seats = all_seats
        self._journal = journal

    async def accept(self, client: socket.socket) -> None:
        """Serve a connection that was accepted, for which the caller has a seat."""
        try:
            await self._all_seats.acquire()
        except asyncio.CancelledError:
            client.close()
            raise
        try:
            try:
                reader, writer = await asyncio.open_connection(sock=client, limit=HEADER_BYTES)
            except OSError:
                client.close()
                return
            await self._exchange(reader, writer)
        finally:
            self._all_seats.release()

    async def handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve a connection that comes from elsewhere (a relay), when there is a seat for it."""
        async with self.seats, self._all_seats:
            await self._exchange(reader, writer)

    async def _exchange(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, whose every failure is its own."""
        record = Record(self._account)
        linger = LINGER_SECONDS
        try:
            await Exchange(reader, writer, self._way, record).run()
            if record.verdict == "allowed":
                linger = self._way.limits.idle_seconds  # what the server has sent is the client's, however slow it is
        except Exception:
            record.fail("failed", "an error of this server")
            log.exception("egress of %s: a connection failed", self._way.key)
        finally:
            if self._journal is not None:
                self._journal.append(self._way.key, record.entry())
            try:
                await close(writer, linger)
            except Exception:  # those of others, and those to come, must not end with it
                log.exception("egress of %s: a connection was not ended in order", self._way.key)


async def _accept(listener: socket.socket) -> socket.socket | None:
    """The next connection, or None when the listener is no longer one."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return (await loop.sock_accept(listener))[0]
        except OSError as e:
            if e.errno in (errno.EBADF, errno.EINVAL, errno.ENOTSOCK):
                return None
            if e.errno in _BUSY:
                await asyncio.sleep(0.1)
