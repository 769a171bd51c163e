"""Speaks git's HTTP protocol with the hosts of repositories: what they have, and what is pushed to them.

A credential goes into one request to one host: redirects are not followed. It must not keep or show a credential.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import msgspec

from hostler.git.failures import RepositoryFailure, of_status
from hostler.git.hosts import Remote
from hostler.git.pktline import DELIMITER, FLUSH, BadFrame, frame, frames
from hostler.git.refs import Refs, read_advertisement, read_listing

if TYPE_CHECKING:
    import httpx2

AGENT = "git/2.40 (hostler)"  # GitHub and others answer 401 instead of 404 to a git client only
MAX_LISTING = 64 * 1024 * 1024
CONNECT_SECONDS = 15.0
LISTING_SECONDS = 60.0
_ASK_REFS = b"".join(
    [
        frame(b"command=ls-refs\n"),
        frame(b"agent=" + AGENT.replace(" ", "-").encode()),
        DELIMITER,
        *(frame(line) for line in (b"symrefs\n", b"unborn\n", b"ref-prefix HEAD\n")),
        *(frame(line) for line in (b"ref-prefix refs/heads/\n", b"ref-prefix refs/tags/\n")),
        FLUSH,
    ]
)


class Credential:
    """What opens a repository. It shows itself only as a header, and as a digest that tells one from another."""

    __slots__ = ("_header", "digest")

    def __init__(self, token: str) -> None:
        """A token with a colon is `user:password`; else it goes with the user name that GitHub, GitLab and Gitea take
        for any token."""
        pair = token if ":" in token else f"x-access-token:{token}"
        self._header = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
        self.digest = hashlib.sha256(self._header.encode()).hexdigest()

    def header(self) -> str:
        return self._header

    def __repr__(self) -> str:
        return "Credential(...)"


class Answer(msgspec.Struct, frozen=True):
    """An answer of the host that is passed on."""

    status: int
    fields: Mapping[str, str]
    body: AsyncIterator[bytes]


class RemoteClient:
    """One for all hosts. `seconds` bounds a transfer."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._clients: dict[bool, httpx2.AsyncClient] = {}
        self._lock = asyncio.Lock()

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def refs(self, remote: Remote, credential: Credential | None) -> Refs:
        """The branches and tags that this credential may see. Raises RepositoryFailure."""
        try:
            async with asyncio.timeout(LISTING_SECONDS):
                return await self._refs(remote, credential)
        except BadFrame as error:
            raise RepositoryFailure("clone", f"{_host(remote)} gave no usable list: {error}.") from None
        except TimeoutError:
            raise RepositoryFailure("clone", f"{_host(remote)} did not answer in time.") from None

    async def _refs(self, remote: Remote, credential: Credential | None) -> Refs:
        more = {"Git-Protocol": "version=2"}
        async with self.request("GET", remote, "/info/refs?service=git-upload-pack", credential, more) as answer:
            self._check(answer, remote, credential, "application/x-git-upload-pack-advertisement")
            lines = list(frames(await _whole(answer.body)))
        if b"version 2" not in lines[:3]:
            return read_advertisement(lines)
        more |= {"Content-Type": "application/x-git-upload-pack-request"}
        async with self.request("POST", remote, "/git-upload-pack", credential, more, _ASK_REFS) as answer:
            self._check(answer, remote, credential, "application/x-git-upload-pack-result")
            return read_listing(await _whole(answer.body))

    def _check(self, answer: Answer, remote: Remote, credential: Credential | None, kind: str) -> None:
        if answer.status != 200:
            raise of_status(answer.status, _host(remote), credential=credential is not None)
        if answer.fields.get("content-type", "").partition(";")[0].strip() != kind:
            raise RepositoryFailure("clone", f"{_host(remote)} has no git repository at this URL.")

    @asynccontextmanager
    async def request(
        self,
        method: str,
        remote: Remote,
        path: str,
        credential: Credential | None,
        fields: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> AsyncGenerator[Answer]:
        """One request below the repository's URL. Raises RepositoryFailure when there is no answer."""
        client = await self._client(remote)
        headers = {"User-Agent": AGENT, "Accept": "*/*", "Accept-Encoding": "identity", **fields}
        if credential is not None:
            headers["Authorization"] = credential.header()
        import httpx2

        try:
            request = client.build_request(method, remote.url + path, headers=headers, content=body)
            response = await client.send(request, stream=True, follow_redirects=False)
        except (httpx2.TransportError, httpx2.InvalidURL, OSError) as error:
            self._unreachable(remote, error)
        try:
            yield Answer(response.status_code, response.headers, _parts(response, remote))
        finally:
            await response.aclose()

    def _unreachable(self, remote: Remote, error: Exception) -> NoReturn:
        raise RepositoryFailure("clone", f"{_host(remote)} could not be reached ({type(error).__name__}).") from None

    async def _client(self, remote: Remote) -> httpx2.AsyncClient:
        """A host on this machine is not asked through a proxy."""
        local = is_local(remote)
        async with self._lock:
            if local not in self._clients:
                self._clients[local] = await asyncio.to_thread(self._make, local)
            return self._clients[local]

    def _make(self, local: bool) -> httpx2.AsyncClient:
        import httpx2

        return httpx2.AsyncClient(
            timeout=httpx2.Timeout(self._seconds, connect=CONNECT_SECONDS), trust_env=not local, follow_redirects=False
        )


def is_local(remote: Remote) -> bool:
    """Whether the host is this machine by its very name."""
    host = urlsplit(remote.url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _host(remote: Remote) -> str:
    return remote.place.partition("/")[0]


async def _parts(response: httpx2.Response, remote: Remote) -> AsyncGenerator[bytes]:
    import httpx2

    try:
        async for part in response.aiter_raw():
            yield part
    except httpx2.TransportError as error:
        raise RepositoryFailure("clone", f"{_host(remote)} broke off ({type(error).__name__}).") from None


async def _whole(body: AsyncIterator[bytes]) -> bytes:
    whole = bytearray()
    async for part in body:
        whole += part
        if len(whole) > MAX_LISTING:
            raise BadFrame("it is too long")
    return bytes(whole)
