"""Looks at a machine the way a server would: what is usable, how to mend what is not. It must not change anything."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hostler.configuration import configuration, open_router
from hostler.errors import HostlerError
from hostler.git.process import Git
from hostler.mcp.config import McpConfig
from hostler.models.routing import Router
from hostler.preparing import checks as skill_checks
from hostler.runbooks.config import RunbooksConfig
from hostler.runbooks.confining import NotConfined, confinement
from hostler.sandbox.backends import open_backend
from hostler.sandbox.contract import Check
from hostler.settings import Settings
from hostler.vault import keyfile
from hostler.web.config import WebConfig

LOW_DISK = 1024**3
OLDEST_SQLITE = (3, 35)


async def examine(settings: Settings) -> list[Check]:
    """All checks, in the order in which a server would meet the problems."""
    checks = [_python(), _data_folder(settings), _disk(settings), await _database(settings), _port(settings)]
    checks.append(_secret_key(settings))
    try:
        config = configuration(settings)
        router = open_router(settings, config.models)
    except HostlerError as error:
        return [*checks, Check(name="config", ok=False, detail=error.message, remedy="correct the config file")]
    checks += _models(router)
    checks.append(_search(config.web, router, settings))
    await router.aclose()
    backend = open_backend(settings.data_dir / "sandboxes", config.sandbox, settings.environ)
    checks.append(await asyncio.to_thread(_git, settings))
    checks += await asyncio.to_thread(backend.probe)
    await backend.aclose(stop=False)
    checks += _mcp(config.mcp, settings.environ)
    checks.append(await asyncio.to_thread(_runbooks, config.runbooks))
    return checks + await skill_checks(settings, config.sandbox)


def _runbooks(config: RunbooksConfig) -> Check:
    """Whether their code can be kept apart from the server."""
    if config.isolation == "none":
        remedy = 'bundles see all that the server sees; take isolation = "none" out of [runbooks] if bubblewrap works'
        return Check(name="runbooks", ok=True, detail="not kept apart from the server", remedy=remedy, required=False)
    try:
        confinement(config.folders)
    except NotConfined as problem:
        said, _, remedy = problem.message.partition("; ")
        return Check(name="runbooks", ok=False, detail=said, remedy=remedy, required=False)
    return Check(name="runbooks", ok=True, detail="their code is kept apart from the server", required=False)


def _python() -> Check:
    detail = f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    if sys.platform != "linux":
        remedy = "the server runs here, but the embedded sandbox needs Linux 5.11 or newer"
        return Check(name="platform", ok=False, detail=detail, remedy=remedy, required=False)
    return Check(name="platform", ok=True, detail=detail)


def _data_folder(settings: Settings) -> Check:
    folder = settings.data_dir
    existing = _existing(folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        remedy = "choose a folder that you may write, with --data-dir"
        return Check(name="data folder", ok=False, detail=f"{existing} can't be written", remedy=remedy)
    return Check(name="data folder", ok=True, detail=f"{folder}{'' if folder.exists() else ' (will be made)'}")


def _existing(folder: Path) -> Path:
    """The folder itself, or the one in which it would be made."""
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(_existing(settings.data_dir)).free
    remedy = "free some space: sandboxes, files and the log all live in the data folder"
    return Check(name="disk", ok=free >= LOW_DISK, detail=f"{free / 1024**3:.1f} GiB free", remedy=remedy)


async def _database(settings: Settings) -> Check:
    if settings.database is None:
        ok = sqlite3.sqlite_version_info >= OLDEST_SQLITE
        remedy = "use a Python whose sqlite3 module is 3.35 or newer"
        return Check(name="database", ok=ok, detail=f"SQLite {sqlite3.sqlite_version}", remedy=remedy)
    import asyncpg

    try:
        connection = await asyncpg.connect(settings.database, timeout=5)
        version = await connection.fetchval("SHOW server_version")
        await connection.close()
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        remedy = "check the --database URL and that PostgreSQL runs"
        return Check(name="database", ok=False, detail=f"PostgreSQL: {error}", remedy=remedy)
    return Check(name="database", ok=True, detail=f"PostgreSQL {version}")


def _secret_key(settings: Settings) -> Check:
    """The key of stored secrets. Whether it is the right one is for the start to find out: it needs the database."""
    name, file = "secret key", settings.data_dir / keyfile.NAME
    try:
        found = keyfile.find_keys(settings.data_dir, settings.secret_key)
    except HostlerError as error:
        return Check(name=name, ok=False, detail=error.message, remedy=f"give {keyfile.VARIABLE} or {file} a valid key")
    if not found.keys:
        return Check(name=name, ok=True, detail=f"none yet: the first start makes {file}")
    where = keyfile.VARIABLE if found.configured else str(file)
    detail = f"{found.keys[0].id.hex()}, from {where}"
    if file.exists() and keyfile.readable_by_others(file):
        return Check(
            name=name, ok=False, detail=f"{file} can be read by others", remedy=f"chmod 600 {file}", required=False
        )
    if len(found.keys) > 1:
        remedy = "run `hostler keys rotate-secrets` while the server is stopped, which finishes the change of keys"
        detail = f"{detail}; {len(found.keys) - 1} older kept"
        return Check(name=name, ok=False, detail=detail, remedy=remedy, required=False)
    return Check(name=name, ok=True, detail=detail)


def _port(settings: Settings) -> Check:
    name = f"port {settings.port}"
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            remedy = "a server may be running already; else choose another --port"
            detail = f"{settings.host}: {error.strerror}"
            return Check(name=name, ok=False, detail=detail, remedy=remedy, required=False)
    return Check(name=name, ok=True, detail=f"free on {settings.host}")


def _mcp(config: McpConfig, environ: Mapping[str, str]) -> list[Check]:
    """The stdio MCP servers. One that is missing fails in sessions only."""
    checks = []
    for name, program in sorted(config.stdio.items()):
        found = shutil.which(program.command, path=environ.get("PATH"))
        absent = [variable for variable in program.env_from if variable not in environ]
        detail = found or f"{program.command} is not found"
        remedy = f"install it, or correct command in [mcp.stdio.{name}]"
        if found and absent:
            detail, remedy = f"{found}, without {', '.join(absent)}", "set what env_from names"
        ok = found is not None and not absent
        checks.append(Check(name=f"mcp {name}", ok=ok, detail=detail, remedy=remedy, required=False))
    return checks


def _search(config: WebConfig, router: Router, settings: Settings) -> Check:
    """Whether `web_search` can be offered. No network: a wrong key shows at the first search."""
    name, key = "web search", config.search_key(settings.environ)
    detail: str = config.search
    if not config.search:
        detail = "no provider is configured: web_search is not offered to agents"
        remedy = "set `search` in the config file's table [web]; see docs/web.md"
        return Check(name=name, ok=False, detail=detail, remedy=remedy, required=False)
    if config.search_key_env and not key:
        detail = f"{config.search}: no key is set"
        return Check(name=name, ok=False, detail=detail, remedy=f"set {config.search_key_env}", required=False)
    if config.search == "anthropic":
        route = router.route_of(config.search_model)
        detail = f"anthropic, with {config.search_model}"
        if route.provider != "anthropic":
            remedy = "set `search_model` in [web] to a model that Anthropic serves, or choose another `search`"
            detail = f"{detail}, which is routed to {route.provider}"
            return Check(name=name, ok=False, detail=detail, remedy=remedy, required=False)
    return Check(name=name, ok=True, detail=detail)


def _git(settings: Settings) -> Check:
    """The program that repositories need, on the server's side; sandboxes see the one in /usr."""
    git = Git(settings.environ).program
    detail = git or "no git program is found"
    if git is not None:
        done = subprocess.run([git, "--version"], capture_output=True, text=True, timeout=10, check=False)
        detail = f"{git}, {done.stdout.strip()}"
    inside = git is not None and Path("/usr/bin/git").exists()
    remedy = "" if inside else "install git into /usr, else sessions can't have repositories"
    return Check(name="git", ok=inside, detail=detail, remedy=remedy, required=False)


def _models(router: Router) -> list[Check]:
    """The routes, the default last: that one may be without a key where nobody uses it."""
    checks = []
    routes = router.describe()
    for number, route in enumerate(routes, start=1):
        detail = f"{route.provider} {route.endpoint}".strip() + (f" as {route.model}" if route.model else "")
        scripted = route.provider == "script"
        ok = route.has_key or scripted or route.provider not in ("anthropic",)
        if not ok:
            detail = f"{detail}: no key is set"
        remedy = "set HOSTLER_MODEL_API_KEY or ANTHROPIC_API_KEY, or the route's api_key_env; or serve with --scripted"
        required = number < len(routes)
        checks.append(Check(name=f"model {route.pattern}", ok=ok, detail=detail, remedy=remedy, required=required))
    if router.scripted:
        detail = "no key is set: the built-in script answers, not a real model"
        remedy = "set HOSTLER_MODEL_API_KEY or ANTHROPIC_API_KEY"
        checks.append(Check(name="model key", ok=False, detail=detail, remedy=remedy, required=False))
    return checks
