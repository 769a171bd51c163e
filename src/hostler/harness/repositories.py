"""What sessions may reach of git: their repositories with the tokens, read from the store when they are needed.

A token is opened for one request and kept nowhere. It must not decide when a repository is put into a sandbox.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from sqlalchemy import bindparam, select

from hostler.git.failures import RepositoryFailure
from hostler.git.hosts import BadUrl, Remote
from hostler.git.mirrors import View
from hostler.git.remote import Credential
from hostler.git.room import GitRoom
from hostler.sandbox.edge.gateway import GATEWAY_HOST
from hostler.store.sql import Row, Tx
from hostler.store.store import Store
from hostler.store.tables import resources, sessions
from hostler.vault.sealing import NotOpened

GATEWAY = f"http://{GATEWAY_HOST}/"
PROXY = "http://127.0.0.1:3128"


class Opener(Protocol):
    """Opens sealed secrets."""

    def open(self, owner_id: str, sealed: bytes) -> bytes: ...


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository of a session. `checkout` is the wire's, or None for the default branch."""

    id: str
    url: str
    mount_path: str
    checkout: dict[str, Any] | None = None

    @property
    def branch(self) -> str | None:
        return self.checkout["name"] if self.checkout and self.checkout["type"] == "branch" else None

    @property
    def commit(self) -> str | None:
        return self.checkout["sha"] if self.checkout and self.checkout["type"] == "commit" else None


class Access(msgspec.Struct, frozen=True):
    """A repository as one request may use it."""

    repository: Repository
    remote: Remote
    credential: Credential | None
    commits: list[str] = []  # that the session was given by their names


_SECRETS = (
    select(resources.c.id, resources.c.mount_path, resources.c.body, resources.c.secret)
    .join_from(resources, sessions, resources.c.session_id == sessions.c.id)
    .where(
        resources.c.session_id == bindparam("s"),
        resources.c.type == "github_repository",
        sessions.c.archived_at.is_(None),
    )
    .order_by(resources.c.updated_at.desc(), resources.c.id)
)


def repository(resource_id: str, mount_path: str, body: bytes) -> Repository:
    """A repository from its row."""
    return Repository(id=resource_id, mount_path=mount_path, **msgspec.json.decode(body))


class Repositories:
    """The repositories of all sessions."""

    def __init__(self, store: Store, opener: Opener, git: GitRoom) -> None:
        self._store = store
        self._opener = opener
        self.git = git

    async def of(self, session_id: str) -> list[Access]:
        """What a session may use, the one with the newest token first. None of a session that has ended."""

        return [found for row in await self._rows(session_id) if (found := self._access(row)) is not None]

    async def _rows(self, session_id: str) -> list[Row]:
        def tx() -> Tx[list[Row]]:
            return (yield _SECRETS, {"s": session_id})

        return await self._store.read(tx)

    def _access(self, row: Row) -> Access | None:
        known = repository(row[0], row[1], row[2])
        try:
            remote = self.git.hosts.remote(known.url)
        except BadUrl:
            return None  # its host is no longer allowed
        secret = self._opener.open(row[0], row[3]).decode() if row[3] else None
        return Access(known, remote, Credential(secret) if secret else None)

    async def prepare(self, session_id: str, wanted: Repository) -> View:
        """Make sure that the session may read the repository now, and that what it wants is there.

        Raises RepositoryFailure.
        """
        try:
            found = [self._access(row) for row in await self._rows(session_id) if row[0] == wanted.id]
        except NotOpened:
            raise RepositoryFailure("authentication", "The stored authorization_token can't be opened.") from None
        access = found[0] if found else None
        if access is None:
            raise RepositoryFailure("forbidden", "This server's configuration does not allow the repository's host.")
        commits = [wanted.commit] if wanted.commit else []
        view = await self.git.mirrors.view(access.remote, access.credential, commits)
        if wanted.branch is not None and view.refs.branch(wanted.branch) is None:
            raise RepositoryFailure("checkout", f"The repository has no branch {wanted.branch}.")
        return view

    def git_config(self, repositories: list[Repository]) -> str:
        """The sandbox's system configuration of git: the real URLs, asked for at the gateway."""
        lines = ["[init]", "\tdefaultBranch = main", f'[http "{GATEWAY}"]', f"\tproxy = {PROXY}"]
        for url in sorted({known.url.removesuffix(".git") for known in repositories}):
            lines += [f'[url "{GATEWAY}{url.partition("://")[2]}"]', f"\tinsteadOf = {url}"]
        return "\n".join(lines) + "\n"
