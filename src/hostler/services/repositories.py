"""Repository resources of a session: what may be asked for, and the row that each becomes.

Tokens are sealed before they are written. It must not open one, or run git.
"""

from __future__ import annotations

import posixpath
from typing import Any, Protocol

import msgspec

from hostler.errors import InvalidRequest
from hostler.git.hosts import BadUrl, Hosts, Remote
from hostler.git.refs import good_branch
from hostler.sandbox.contract import UPLOADS, WORKSPACE
from hostler.sandbox.files import check_target
from hostler.sandbox.rootfs import WRITABLE
from hostler.store.sql import Row
from hostler.wire.base import timestamp
from hostler.wire.resources import (
    BranchCheckout,
    Checkout,
    CommitCheckout,
    RepositoryResource,
    RepositoryResourceParams,
)

MAX_REPOSITORIES = 20
TYPE = "github_repository"
_SYSTEM = ("boot", "lib32", "libx32", "proc", "root", "run", "sbin", "srv", "uploads", "var")
_OURS = ("/mnt/session", "/mnt/memory", "/mnt/skills")
_MAX_SEGMENT = 255


class Sealer(Protocol):
    """Seals a secret for the row that will hold it."""

    def seal(self, owner_id: str, secret: bytes) -> bytes: ...


class _Body(msgspec.Struct, frozen=True):
    """What the row keeps of the request."""

    url: str
    checkout: Checkout | None = None


_read = msgspec.json.Decoder(_Body).decode


class Repositories:
    """The rules of this server: its allowed hosts, and its key."""

    def __init__(self, hosts: Hosts, sealer: Sealer) -> None:
        self._hosts = hosts
        self._sealer = sealer

    def row(
        self, resource_id: str, session_id: str, params: RepositoryResourceParams, now: int, at: str
    ) -> dict[str, Any]:
        """Check a request and return the row that it becomes. Raises InvalidRequest."""
        remote = self._remote(params.url, f"{at}url")
        body = _Body(remote.url, _checkout(params.checkout, f"{at}checkout."))
        return {
            "id": resource_id,
            "session_id": session_id,
            "type": TYPE,
            "file_id": None,
            "mount_path": place(params.mount_path, remote.name, f"{at}mount_path"),
            "created_at": now,
            "updated_at": now,
            "body": msgspec.json.encode(body),
            "secret": self.sealed(resource_id, params.authorization_token, f"{at}authorization_token"),
        }

    def sealed(self, resource_id: str, token: str | None, at: str = "authorization_token") -> bytes | None:
        """A token as it is stored. Raises InvalidRequest for one that no header can hold."""
        if token is None:
            return None
        if not token.isascii() or not token.isprintable() or " " in token:
            raise InvalidRequest(f"{at}: must be plain characters without spaces")
        return self._sealer.seal(resource_id, token.encode())

    def _remote(self, url: str, at: str) -> Remote:
        try:
            return self._hosts.remote(url)
        except BadUrl as error:
            raise InvalidRequest(f"{at}: {error}") from None


def resource(row: Row) -> RepositoryResource:
    """A resource from its id, created_at, mount_path, updated_at and body."""
    body = _read(row[4])
    return RepositoryResource(
        id=row[0],
        url=body.url,
        mount_path=row[2],
        checkout=body.checkout,
        created_at=timestamp(row[1]),
        updated_at=timestamp(row[3]),
    )


def read_body(body: bytes, at: str) -> None:
    """Check what a row keeps of a request. Raises InvalidRequest."""
    try:
        _read(body)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"{at}.body: {error}") from error


def place(mount_path: str | None, name: str, at: str) -> str:
    """Return the absolute folder of a repository. A relative one lies below the working directory."""
    target = posixpath.normpath(posixpath.join(WORKSPACE, name if mount_path is None else mount_path))
    if mount_path is not None and any(part == ".." for part in mount_path.split("/")):
        raise InvalidRequest(f"{at}: must not hold '..'")
    if any(ord(c) < 32 or ord(c) == 127 for c in target) or any(
        len(p.encode()) > _MAX_SEGMENT for p in target.split("/")
    ):
        raise InvalidRequest(f"{at}: control characters, and names longer than {_MAX_SEGMENT} bytes, are not allowed")
    target = "/" + target.lstrip("/")
    try:
        check_target(target)
    except ValueError as error:
        raise InvalidRequest(f"{at}: {error}") from None
    if target.split("/")[1] in _SYSTEM and not target.startswith("/var/tmp/"):
        raise InvalidRequest(f"{at}: {target} belongs to the system; use one like {WORKSPACE}/{name} or /{name}")
    taken = [root for root in (*WRITABLE.values(), UPLOADS, *_OURS) if root != WORKSPACE]
    if any(f"{root}/".startswith(f"{target}/") for root in taken) or any(
        f"{target}/".startswith(f"{root}/") for root in _OURS
    ):
        raise InvalidRequest(f"{at}: {target} has another use; use one like {WORKSPACE}/{name} or /{name}")
    return target


def _checkout(given: Checkout | None, at: str) -> Checkout | None:
    if isinstance(given, BranchCheckout) and not good_branch(given.name):
        raise InvalidRequest(f"{at}name: {given.name[:80]!r} can't be the name of a branch")
    return CommitCheckout(sha=given.sha.lower()) if isinstance(given, CommitCheckout) else given
