"""Copies of repositories between sessions: objects are shared, but a reader gets only what its host just listed for it.

A mirror holds the objects of one URL. A *view* is a small repository over it with exactly the refs that the host has
shown to one credential: git serves nothing that they do not lead to. So a mirror tells nobody anything that its host
would not, and a cached repository is read only by whom the host admits now. It must not serve without having asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from hostler.git import views
from hostler.git.claims import claimed, without
from hostler.git.failures import RepositoryFailure
from hostler.git.hosts import GitConfig, Remote
from hostler.git.pktline import BadFrame
from hostler.git.process import Git, GitFailed
from hostler.git.refs import Refs
from hostler.git.remote import Credential, RemoteClient

MIB = 1024 * 1024
KEPT_VIEWS = 16
MAX_PACKS = 50
MAX_PROVEN = 4096
_NOT_OURS = ("not our ref", "couldn't find remote ref", "no such remote ref", "unadvertised object")


class View(msgspec.Struct, frozen=True):
    """What one credential may read of one repository, at one moment."""

    folder: Path
    mirror: str
    refs: Refs


class Mirrors:
    """The folder of all mirrors. One instance a process; the folder belongs to it."""

    def __init__(self, folder: Path, config: GitConfig, git: Git, client: RemoteClient) -> None:
        self._folder = folder
        self._config = config
        self._git = git
        self._client = client
        self._locks: dict[str, asyncio.Lock] = {}
        self._readers: dict[str, int] = {}
        self._grown = False  # something was fetched since the last look at the room
        self._proven: set[tuple[str, str, str, str]] = set()  # commits that a credential may read
        self._seats = asyncio.Semaphore(config.parallel)

    async def view(
        self, remote: Remote, credential: Credential | None, commits: Sequence[str] = (), *, strict: bool = True
    ) -> View:
        """Ask the host, fetch what is new, and return what may be read: also these commits, where no branch leads to.

        Raises RepositoryFailure; for a commit that can't be had only when `strict`.
        """
        refs = await self._client.refs(remote, credential)
        name = hashlib.sha256(remote.url.encode()).hexdigest()[:32]
        with self._reading(name):
            async with self._locks.setdefault(name, asyncio.Lock()):
                refs = await self._filled(name, remote, credential, refs)
                wanted = dict(refs.named)
                for commit in commits:
                    try:
                        await self._have_commit(name, remote, credential, refs, commit)
                        wanted[views.WANTED + commit.encode()] = commit.encode()
                    except RepositoryFailure:
                        if strict:
                            raise
                refs = msgspec.structs.replace(refs, named=wanted)
                folder = await asyncio.to_thread(self._make_view, name, refs)
        if self._grown:
            self._grown = False
            await asyncio.to_thread(self._evict)
        return View(folder, name, refs)

    @asynccontextmanager
    async def upload_pack(self, view: View, request: bytes | None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """What git answers to a reader: to a request, or, without one, the list of refs. Raises RepositoryFailure."""
        how = ["--advertise-refs"] if request is None else []
        arguments = ["upload-pack", "--strict", "--stateless-rpc", *how, str(view.folder)]
        with self._reading(view.mirror):
            shown = b"" if request is None else await self._of_what_is_shown(view, request)
            async with self._git.stream(self._folder, arguments, shown) as parts:
                yield _failing(parts)

    async def _of_what_is_shown(self, view: View, request: bytes) -> bytes:
        """The request without claims on what the mirror has and the view does not show. Raises RepositoryFailure."""
        digits = 64 if view.refs.sha256 else 40
        try:
            if not (claims := claimed(request, digits)):
                return request
            asked = b"".join(oid + b"\n" for oid in sorted(claims))
            words = ["rev-list", "--ignore-missing", "--stdin", "--not", "--all"]
            return without(request, set((await self._git.run(view.folder, words, stdin=asked)).split()), digits)
        except (BadFrame, GitFailed):
            raise RepositoryFailure("clone", "The request is not one of git's.") from None

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Keep a mirror from being removed."""
        self._readers[name] = self._readers.get(name, 0) + 1
        try:
            yield
        finally:
            self._readers[name] -= 1
            if not self._readers[name]:
                del self._readers[name]

    # -- filling; the mirror's lock is held --

    async def _filled(self, name: str, remote: Remote, credential: Credential | None, refs: Refs) -> Refs:
        """Have all objects of these refs, or of what the host lists after the fetch."""
        for attempt in range(3):
            mirror = await self._mirror(name, sha256=refs.sha256)
            if not await self._missing(mirror, refs.oids()):
                return refs
            try:
                async with self._seats:
                    await self._fetch(mirror, remote, credential, _BRANCHES_AND_TAGS, "--prune")
            except RepositoryFailure as failure:
                if attempt or not _spoilt(failure) or self._readers.get(name) != 1:
                    raise
                await asyncio.to_thread(self._discard, name)
                continue
            if await self._missing(mirror, refs.oids()):
                refs = await self._client.refs(remote, credential)  # it has moved on meanwhile
        raise RepositoryFailure("clone", "The repository changed faster than it could be fetched.")

    async def _have_commit(
        self, name: str, remote: Remote, credential: Credential | None, refs: Refs, commit: str
    ) -> None:
        """Have a commit by its own name. What no branch leads to is asked of the host, whatever the mirror has."""
        proof = (name, refs.digest(), credential.digest if credential else "", commit)
        mirror = self._folder / name / views.MIRROR
        if proof in self._proven and not await self._missing(mirror, {commit.encode()}):
            return
        folder = await asyncio.to_thread(self._make_view, name, refs)
        if await self._missing(mirror, {commit.encode()}) or not await self._reachable(folder, commit):
            await self._ask_for(name, remote, credential, commit)
        if (await self._git.run(mirror, ["cat-file", "-t", commit])).strip() != b"commit":
            raise RepositoryFailure("checkout", f"{commit} is not a commit.")
        if len(self._proven) >= MAX_PROVEN:
            self._proven.clear()
        self._proven.add(proof)

    async def _ask_for(self, name: str, remote: Remote, credential: Credential | None, commit: str) -> None:
        """Fetch a commit into an empty repository first: git would not ask for what the mirror has."""
        probe = self._folder / name / "probe"
        wanted = [f"+{commit}:{views.WANTED.decode()}{commit}"]
        try:
            await asyncio.to_thread(shutil.rmtree, probe, ignore_errors=True)
            await self._init(probe, sha256=len(commit) == 64)
            async with self._seats:
                await self._fetch(probe, remote, credential, wanted, "--depth=1")
                await self._fetch(self._folder / name / views.MIRROR, remote, credential, wanted)
        except RepositoryFailure as failure:
            absent = RepositoryFailure("checkout", f"The repository has no commit {commit}.")
            raise (absent if _says(failure, _NOT_OURS) else failure) from None
        finally:
            await asyncio.to_thread(shutil.rmtree, probe, ignore_errors=True)

    async def _reachable(self, folder: Path, commit: str) -> bool:
        """Whether a branch or tag leads to an object that is there."""
        try:
            out = await self._git.run(folder, ["rev-list", "--max-count=1", commit, "--not", "--all", "--"])
        except GitFailed:
            return False
        return not out.strip()

    async def _mirror(self, name: str, *, sha256: bool) -> Path:
        mirror = self._folder / name / views.MIRROR
        if mirror.exists() and await asyncio.to_thread(_packs, mirror) > MAX_PACKS and self._readers.get(name) == 1:
            await asyncio.to_thread(self._discard, name)  # one fetch of everything makes one pack again
        if not mirror.exists():
            await self._init(mirror, sha256=sha256)
        os.utime(mirror.parent)
        return mirror

    async def _init(self, folder: Path, *, sha256: bool) -> None:
        """Make an empty repository, whole or not at all."""
        half = folder.with_name(f".{folder.name}.new")
        await asyncio.to_thread(shutil.rmtree, half, ignore_errors=True)
        half.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        kind = "sha256" if sha256 else "sha1"
        await self._git.run(
            self._folder, ["init", "--quiet", "--bare", "--template=", f"--object-format={kind}", str(half)]
        )
        half.replace(folder)

    async def _missing(self, mirror: Path, oids: set[bytes]) -> bool:
        """Whether an object is not there. git brings a ref's objects whole or not at all."""
        if not oids:
            return False
        asked = b"".join(oid + b"\n" for oid in sorted(oids))
        try:
            said = await self._git.run(mirror, ["cat-file", "--batch-check=%(objecttype)", "--buffer"], stdin=asked)
        except GitFailed:
            return True
        return b"missing" in said

    async def _fetch(
        self, mirror: Path, remote: Remote, credential: Credential | None, wanted: list[str], *more: str
    ) -> None:
        config = {f"http.{remote.url}.extraHeader": f"Authorization: {credential.header()}"} if credential else {}
        if remote.url.startswith("http:"):
            config["protocol.http.allow"] = "always"
        arguments = ["fetch", "--quiet", "--force", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"]
        most, self._grown = self._config.repository_mb * MIB, True
        try:
            async with asyncio.timeout(self._config.seconds):
                await self._git.run(
                    mirror, [*arguments, *more, "--", remote.url, *wanted], config=config, file_bytes=most
                )
        except TimeoutError:
            await asyncio.to_thread(_sweep, mirror)
            raise RepositoryFailure("clone", f"The fetch took longer than {self._config.seconds:g} seconds.") from None
        except GitFailed as failed:
            if await asyncio.to_thread(_sweep, mirror) >= most:
                raise RepositoryFailure(
                    "clone", f"The repository is larger than this server's {self._config.repository_mb} MB."
                ) from None
            said = _said(failed).replace(str(self._folder), "")
            raise RepositoryFailure("clone", f"git could not fetch: {said}") from failed

    # -- views and room; no I/O of git --

    def _make_view(self, name: str, refs: Refs) -> Path:
        folder = self._folder / name / "views"
        view = views.make(folder, refs)
        if self._readers.get(name) == 1:  # nobody else may be about to read one
            views.prune(folder, KEPT_VIEWS)
        return view

    def _discard(self, name: str) -> None:
        """Remove a mirror: from its name at once, so that a kill in between leaves none in part."""
        gone = self._folder / f".gone-{name}-{os.urandom(4).hex()}"
        with contextlib.suppress(FileNotFoundError):
            (self._folder / name).replace(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _evict(self) -> None:
        """Remove the mirrors that were used longest ago, until all have room."""
        left = self._config.cache_mb * MIB
        for folder in sorted(_folders(self._folder), key=_used, reverse=True):
            left -= views.size(folder)
            if left < 0 and folder.name not in self._readers:
                self._discard(folder.name)

    def open(self) -> None:
        """At the start: make the folder, and clear away what a killed process has left."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in self._folder.glob(".gone-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in _folders(self._folder):
            for half in (folder / "probe", *folder.glob(".*.new"), *folder.glob("*/.*.new")):
                shutil.rmtree(half, ignore_errors=True)
            _sweep(folder / views.MIRROR)


_BRANCHES_AND_TAGS = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _packs(mirror: Path) -> int:
    return sum(1 for _ in (mirror / "objects/pack").glob("*.pack"))


def _sweep(mirror: Path) -> int:
    """Remove what fetches that were cut off have left; return the size of the largest of it."""
    largest = 0
    for left in (mirror / "objects/pack").glob("tmp_*"):
        with contextlib.suppress(FileNotFoundError):
            largest = max(largest, left.stat().st_size)
            left.unlink()
    return largest


def _says(failure: RepositoryFailure, words: tuple[str, ...]) -> bool:
    return isinstance(failure.__cause__, GitFailed) and any(word in failure.__cause__.errors for word in words)


def _spoilt(failure: RepositoryFailure) -> bool:
    """Whether a write that was cut off may be the cause: by a power failure, or a full disk."""
    return _says(failure, ("lock", "corrupt", "bad object", "broken", "not a git repository"))


def _said(failed: GitFailed) -> str:
    """The first complaint, one line of plain text."""
    lines = [line.strip() for line in failed.errors.splitlines() if line.strip()]
    first = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "no reason")
    return "".join(c for c in first.partition(": ")[2] or first if c.isprintable())[:300]


async def _failing(parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    try:
        async for part in parts:
            yield part
    except GitFailed as failed:
        raise RepositoryFailure("clone", f"git could not serve the repository: {_said(failed)}") from failed
