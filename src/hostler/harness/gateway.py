"""Answers the git of sandboxes: reads from the cached copies, pushes to the host, both with the session's own token.

A session is known by its socket, and gets its own repositories only. What it must not do: pass a credential on into
the sandbox, follow a redirect, or serve anything but git's three endpoints.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from hostler.errors import HostlerError
from hostler.git.failures import RepositoryFailure
from hostler.git.mirrors import MIB, View
from hostler.git.pktline import FLUSH, frame
from hostler.harness.repositories import Access, Repositories
from hostler.sandbox.edge.gateway import GatewayRequest, GatewayResponse
from hostler.sandbox.edge.httpframing import BadMessage

log = logging.getLogger(__name__)

_TARGET = re.compile(r"/([^?]+?)/(?:info/refs\?service=(git-(?:upload|receive)-pack)|(git-(?:upload|receive)-pack))")
_NAME_GOES_ON = re.compile(r"[A-Za-z0-9._~-]+")
_MAX_REQUEST = 32 * 1024 * 1024
_AT_ONCE = 4  # requests of one sandbox
_VIEW_SECONDS = 600.0
_KEPT_VIEWS = 1024
_STATUS = {"authentication": 403, "forbidden": 403, "not_found": 404, "checkout": 404, "clone": 502}
_PASSED_ON = ("content-type", "content-encoding", "accept", "git-protocol")


class Refused(Exception):
    """What is asked for can't be had; the message is shown by git, as from the remote."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Seen(msgspec.Struct):
    """What a session was shown, so that the request that follows is answered from the same."""

    view: View
    digest: str | None
    at: float


class GitGateway:
    """The sandbox's `Gateway`."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._git = repositories.git
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._seats: dict[str, int] = {}

    @asynccontextmanager
    async def __call__(self, key: str, request: GatewayRequest) -> AsyncGenerator[GatewayResponse]:
        """Answer one request of the sandbox of session `key`."""
        answered = False
        if self._seats.get(key, 0) >= _AT_ONCE:
            yield _text(429, "too many requests to git at once")
            return
        self._seats[key] = self._seats.get(key, 0) + 1
        try:
            async with asyncio.timeout(self._git.config.seconds), self._answer(key, request) as response:
                answered = True
                yield response
        except (Refused, RepositoryFailure, HostlerError, TimeoutError) as problem:
            if answered:
                raise ConnectionAbortedError(str(problem)) from None  # too late for words: the transfer breaks off
            yield _text(*_refusal(problem))
        finally:
            self._seats[key] -= 1
            if not self._seats[key]:
                del self._seats[key]

    @asynccontextmanager
    async def _answer(self, key: str, request: GatewayRequest) -> AsyncGenerator[GatewayResponse]:
        found = _TARGET.fullmatch(request.target)
        if found is None or request.method != ("GET" if found[2] else "POST"):
            raise Refused(404, "only git's own requests are answered here")
        place, service = found[1], found[2] or found[3]
        access = await self._access(key, place)
        if access is None:
            yield await self._elsewhere(key, place, request.target)
            return
        how = self._push if service == "git-receive-pack" else self._read
        async with how(key, access, request, asked=bool(found[2])) as response:
            yield response

    async def _access(self, key: str, place: str) -> Access | None:
        """The session's repository at this place; one that it has twice goes with the newest token."""
        place = place.removesuffix(".git")
        found = [known for known in await self._repositories.of(key) if known.remote.place == place]
        if not found:
            return None
        commits = [known.repository.commit for known in found if known.repository.commit]
        return msgspec.structs.replace(found[0], commits=commits)

    async def _elsewhere(self, key: str, place: str, target: str) -> GatewayResponse:
        """Git rewrites by prefix, so a URL that only begins like a session's comes here too: it goes where it meant."""
        for known in await self._repositories.of(key):
            if place.startswith(known.remote.place) and _NAME_GOES_ON.fullmatch(place[len(known.remote.place) :]):
                scheme = known.remote.url.partition("://")[0]
                return GatewayResponse(302, [("Location", f"{scheme}:/{target}")], _once(b""))
        raise Refused(404, "this session has no such repository")

    @asynccontextmanager
    async def _read(
        self, key: str, access: Access, request: GatewayRequest, *, asked: bool
    ) -> AsyncGenerator[GatewayResponse]:
        mirrors = self._git.mirrors
        if asked:
            view = await self._look(key, access)
            async with mirrors.upload_pack(view, None) as refs:
                head = frame(b"# service=git-upload-pack\n") + FLUSH
                yield _git("upload-pack-advertisement", _after(head, refs))
            return
        body = await _whole(request)
        seen = self._seen.get((key, access.remote.url))
        fresh = seen is not None and seen.digest == _digest(access) and time.monotonic() - seen.at < _VIEW_SECONDS
        view = seen.view if seen is not None and fresh else await self._look(key, access)
        async with mirrors.upload_pack(view, body) as parts:
            yield _git("upload-pack-result", parts)

    async def _look(self, key: str, access: Access) -> View:
        """Ask the host again what this session may read."""
        mirrors = self._git.mirrors
        view = await mirrors.view(access.remote, access.credential, access.commits, strict=False)
        self._seen.pop((key, access.remote.url), None)
        while len(self._seen) >= _KEPT_VIEWS:
            del self._seen[next(iter(self._seen))]
        self._seen[key, access.remote.url] = _Seen(view, _digest(access), time.monotonic())
        return view

    @asynccontextmanager
    async def _push(
        self, key: str, access: Access, request: GatewayRequest, *, asked: bool
    ) -> AsyncGenerator[GatewayResponse]:
        """Hand a push on as it is, with the token added."""
        if access.credential is None:
            raise Refused(403, "this repository was given without an authorization_token, so nothing can be pushed")
        path = "/info/refs?service=git-receive-pack" if asked else "/git-receive-pack"
        fields = {name: value for name in _PASSED_ON if (value := request.field(name)) and value.isascii()}
        body = None if asked else _bounded(request.body, self._git.config.repository_mb * MIB)
        client = self._git.client
        async with client.request(request.method, access.remote, path, access.credential, fields, body) as answer:
            if answer.status in (401, 403):
                raise Refused(403, "the repository's host does not let this session's token push")
            if answer.status != 200:
                raise Refused(502, f"the repository's host answered with status {answer.status}")
            yield _git("receive-pack-advertisement" if asked else "receive-pack-result", answer.body)


def _digest(access: Access) -> str | None:
    return access.credential.digest if access.credential else None


def _refusal(problem: Exception) -> tuple[int, str]:
    if isinstance(problem, RepositoryFailure):
        return _STATUS[problem.kind], problem.message
    if isinstance(problem, Refused):
        return problem.status, str(problem)
    if isinstance(problem, HostlerError):
        log.warning("the git gateway could not answer: %s", problem.message)
        return 503, "the server can't reach its own data now"
    return 504, "it took too long"


def _text(status: int, message: str) -> GatewayResponse:
    fields = [("Content-Type", "text/plain; charset=utf-8")]
    return GatewayResponse(status, fields, _once(f"{message}\n".encode()))


def _git(kind: str, body: AsyncIterator[bytes]) -> GatewayResponse:
    fields = [("Content-Type", f"application/x-git-{kind}"), ("Cache-Control", "no-cache")]
    return GatewayResponse(200, fields, body)


async def _once(data: bytes) -> AsyncGenerator[bytes]:
    yield data


async def _after(head: bytes, parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield head
    async for part in parts:
        yield part


async def _bounded(body: AsyncIterator[bytes], most: int) -> AsyncGenerator[bytes]:
    async for part in body:
        most -= len(part)
        if most < 0:
            raise Refused(413, "the push is too large")
        yield part


async def _whole(request: GatewayRequest) -> bytes:
    """A request's body, unpacked: git packs longer ones. Raises Refused."""
    coding = request.field("content-encoding") or "identity"
    if coding not in ("identity", "gzip", "x-gzip"):
        raise Refused(415, "this encoding of a request is not known here")
    unpacker = zlib.decompressobj(31) if coding != "identity" else None
    unpack: Callable[[bytes], bytes] = (lambda part: unpacker.decompress(part, _MAX_REQUEST)) if unpacker else bytes
    whole = bytearray()
    try:
        async for part in request.body:
            if unpacker is not None and unpacker.eof:
                raise zlib.error("something follows")  # which zlib would keep
            whole += unpack(part)
            if len(whole) >= _MAX_REQUEST:
                raise Refused(413, "the request is too large")
        if unpacker is not None and not unpacker.eof:
            raise zlib.error("cut off")
    except zlib.error:
        raise Refused(400, "the request is not what its encoding says") from None
    except (EOFError, BadMessage):
        raise ConnectionAbortedError("the request broke off") from None
    return bytes(whole)
