"""The runbooks that were deployed: kept in the database, laid out as folders for the workers that import them.

It must not import one: that runs its code, which is what workers are for.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import msgspec
import yaml
from sqlalchemy import bindparam, insert, select, update

from hostler import clock
from hostler.errors import InvalidRequest, NotFound, RequestTooLarge, Unavailable
from hostler.runbooks.contract import Bundle, Revision
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import runbooks as table

MAX_FILES = 500
MAX_BYTES = 8 * 1024 * 1024
MANIFEST = "runbook.md"
WORKFLOW = "templates/workflow.py"
_c = table.c
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")

_KEEP = insert(table)
_DEPLOY = update(table).where(_c.slug == bindparam("s"), _c.digest == bindparam("d"))
_DEPLOY = _DEPLOY.values(deployed_at=bindparam("now"), version=bindparam("v"), body=bindparam("b")).returning(_c.slug)
_SHOWN = (_c.slug, _c.version, _c.digest, _c.deployed_at, _c.body)
_ALL = select(*_SHOWN).order_by(_c.slug, _c.deployed_at.desc())
_NEWEST = select(_c.version, _c.digest).where(_c.slug == bindparam("s")).order_by(_c.deployed_at.desc()).limit(1)
_OF_VERSION = _NEWEST.where(_c.version == bindparam("v"))
_ONE = select(*_SHOWN, _c.files).where(_c.slug == bindparam("s"), _c.digest == bindparam("d"))
_THERE = select(_c.slug).where(_c.slug == bindparam("s"), _c.digest == bindparam("d"))
_SLUGS = select(_c.slug).distinct().order_by(_c.slug)


class Fault(Protocol):
    @property
    def code(self) -> str: ...

    @property
    def message(self) -> str: ...


Faults = Callable[[Path, str, str, list[str]], Awaitable[Sequence[Fault]]]


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """A revision of a runbook. `front` is the front matter of its runbook.md; `files` are there when it was asked for
    alone: text by path. `deployed_at` is in microseconds."""

    slug: str
    version: str
    digest: str
    deployed_at: int
    front: dict[str, Any]
    workflow_class: str
    modules: list[str]
    files: dict[str, str] = {}


class Library:
    def __init__(self, store: Store, folder: Path, faults: Faults) -> None:
        self._store = store
        self._folder = folder
        self._faults = faults

    @property
    def folder(self) -> Path:
        """It is there from the first deployment on."""
        return self._folder

    async def deploy(
        self, slug: str, version: str, workflow_class: str, modules: list[str], files: dict[str, str]
    ) -> Deployed:
        """Keep a bundle, and make it what new tasks run. Tasks that run go on with the files that they began with.
        Raises InvalidRequest, RequestTooLarge, Unavailable."""
        _check(slug, version, workflow_class, modules, files)
        digest = _digest(workflow_class, modules, files)
        if not await self._store.read(lambda: _run(_THERE, {"s": slug, "d": digest})):  # else they were tried then
            await self._try(slug, workflow_class, modules, files)
        front = front_matter(files[MANIFEST]) if MANIFEST in files else {}
        body = msgspec.json.encode({"front": front, "workflow_class": workflow_class, "modules": modules})
        now = clock.now()
        row = {
            "slug": slug, "digest": digest, "version": version, "deployed_at": now, "body": body,
            "files": msgspec.json.encode(files),
        }  # fmt: skip

        def tx() -> Tx[None]:
            known = yield _DEPLOY, {"s": slug, "d": digest, "now": now, "v": version, "b": body}
            if not known:
                yield _KEEP, row

        await self._store.write(tx)
        return Deployed(
            slug=slug, version=version, digest=digest, deployed_at=now, front=front, workflow_class=workflow_class,
            modules=modules, files=files,
        )  # fmt: skip

    async def _try(self, slug: str, workflow_class: str, modules: list[str], files: dict[str, str]) -> None:
        """Import it once, where that does no harm. Raises InvalidRequest."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=".try-", dir=self._folder) as folder:
            tried = await asyncio.to_thread(_lay_out, Path(folder) / slug, files)
            faults = await self._faults(tried, slug, workflow_class, modules)
        if faults:
            raise InvalidRequest("files: " + "; ".join(f"{each.code}: {each.message}" for each in faults)[:4000])

    async def newest(self) -> list[Deployed]:
        """What new tasks would run: the newest of each, without its files."""
        rows = await self._store.read(lambda: _run(_ALL))
        newest: dict[str, Deployed] = {}
        for row in rows:
            newest.setdefault(row[0], _deployed(row))
        return list(newest.values())

    async def get(self, slug: str, version: str | None = None) -> Deployed:
        """The newest, of this version or of any, with its files. Raises NotFound."""

        def tx() -> Tx[Deployed]:
            revision = yield from self.deployed_tx(slug, version)
            rows = yield _ONE, {"s": slug, "d": revision.digest}
            return _deployed(rows[0])

        return await self._store.read(tx)

    async def slugs(self) -> list[str]:
        return [row[0] for row in await self._store.read(lambda: _run(_SLUGS))]

    def deployed_tx(self, slug: str, version: str | None = None) -> Tx[Revision]:
        rows = yield (_NEWEST, {"s": slug}) if version is None else (_OF_VERSION, {"s": slug, "v": version})
        if not rows:
            which = f"version {version} of the runbook {slug}" if version else f"runbook {slug}"
            raise NotFound(f"There is no {which}: deploy it with `hostler runbook deploy DIR`.")
        return Revision(*rows[0])

    async def bundle(self, slug: str, digest: str) -> Bundle:
        rows = await self._store.read(lambda: _run(_ONE, {"s": slug, "d": digest}))
        if not rows:
            raise NotFound(f"The files of runbook {slug} are gone; deploy it again and start a new task.")
        found = _deployed(rows[0])
        try:
            folder = await asyncio.to_thread(_lay_out, self._folder / slug / digest, found.files)
        except OSError as problem:
            raise Unavailable(f"The files of runbook {slug} could not be written: {problem.strerror}.") from problem
        return Bundle(folder=folder, workflow_class=found.workflow_class, modules=found.modules)


def front_matter(text: str) -> dict[str, Any]:
    """What stands between the first two lines of dashes. Raises InvalidRequest."""
    head, dashes, rest = text.lstrip("\ufeff").partition("---\n")
    front, end, _ = rest.partition("\n---")
    if head.strip() or not dashes or not end:
        raise InvalidRequest(f"{MANIFEST}: it has to begin with front matter: YAML between two lines of `---`.")
    try:
        found = yaml.safe_load(front)
    except yaml.YAMLError as problem:
        raise InvalidRequest(f"{MANIFEST}: its front matter is no YAML: {problem}") from problem
    if not isinstance(found, dict):
        raise InvalidRequest(f"{MANIFEST}: its front matter has to be a mapping.")
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found, enc_hook=str))
    return plain


def _check(slug: str, version: str, workflow_class: str, modules: list[str], files: dict[str, str]) -> None:
    if not _SLUG.fullmatch(slug):
        raise InvalidRequest("slug: lower-case letters, digits, `-` and `_` are expected, 64 at most.")
    if not _VERSION.fullmatch(version):
        raise InvalidRequest("version: letters, digits, `.`, `_`, `+` and `-` are expected, 64 at most.")
    for where, name in [("workflowClass", workflow_class), *(("activityModules", each) for each in modules)]:
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"{where}: {name[:100]!r} is no Python name.")
    if len(files) > MAX_FILES or sum(len(text) for text in files.values()) > MAX_BYTES:
        raise RequestTooLarge(f"files: a runbook may have {MAX_FILES} files of {MAX_BYTES} characters in all.")
    for path in files:
        if not _is_plain(path):
            raise InvalidRequest(f"files: {path[:200]!r} is no relative path inside the bundle.")
    if WORKFLOW not in files:
        raise InvalidRequest(f"files: {WORKFLOW} is missing.")
    for module in modules:
        if f"templates/{module.replace('.', '/')}.py" not in files:
            raise InvalidRequest(f"activityModules: templates/{module.replace('.', '/')}.py is not among the files.")
    _check_manifest(slug, version, files.get(MANIFEST))


def _check_manifest(slug: str, version: str, text: str | None) -> None:
    """A runbook.md that says something else than the request would be believed by people."""
    front = front_matter(text) if text is not None else {}
    for name, given in (("slug", slug), ("version", version)):
        if name in front and str(front[name]) != given:
            raise InvalidRequest(
                f"{MANIFEST}: its {name} is {str(front[name])[:100]!r}, but it is deployed as {given!r}."
            )


def _is_plain(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(
        parts and not path.startswith("/") and "/".join(parts) == path and ".." not in parts
        and "\\" not in path and all(ord(letter) >= 32 for letter in path) and len(path) <= 255
    )  # fmt: skip


def _digest(workflow_class: str, modules: list[str], files: dict[str, str]) -> str:
    said = msgspec.json.encode([workflow_class, modules, sorted(files.items())])
    return hashlib.sha256(said).hexdigest()[:32]


def _deployed(row: Sequence[Any]) -> Deployed:
    slug, version, digest, deployed_at, body, *files = row
    return Deployed(
        slug=slug, version=version, digest=digest, deployed_at=deployed_at, **msgspec.json.decode(body),
        files=msgspec.json.decode(files[0]) if files else {},
    )  # fmt: skip


def _lay_out(folder: Path, files: dict[str, str]) -> Path:
    """The folder is there whole, or not at all."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        for path, text in files.items():
            file = made / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        try:
            os.rename(made, folder)
        except OSError:
            if not folder.is_dir():  # another was faster
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _run(statement: Any, params: dict[str, Any] | None = None) -> Tx[list[Any]]:
    rows = yield statement, params or {}
    return rows
