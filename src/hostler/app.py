"""The composition root: settings -> store -> rooms -> ASGI app -> a serving process. A reader starts here.

It must not hold logic of its own beyond starting things in order and stopping them in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import msgspec
import uvicorn
from sqlalchemy import select

from hostler import clock
from hostler.api.app import Services, create_app
from hostler.api.connection import Connection
from hostler.errors import Unavailable
from hostler.harness.advisor import AdvisorTool
from hostler.harness.contents import FileContents
from hostler.harness.delegation import Delegation
from hostler.harness.deps import Deps, HarnessConfig
from hostler.harness.mcp_tools import McpTools
from hostler.harness.supervisor import Supervisor
from hostler.log.hub import Hub
from hostler.log.log import Log
from hostler.mcp.config import McpConfig
from hostler.mcp.pool import Pool
from hostler.models.catalogue import Catalogue
from hostler.models.config import ModelsConfig, with_keys
from hostler.models.protocol import Model
from hostler.models.routing import Router
from hostler.sandbox.backends import SandboxConfig, open_backend
from hostler.sandbox.contract import Backend
from hostler.sandbox.toolset import TOOLS
from hostler.services.agents import Agents
from hostler.services.credentials import Credentials
from hostler.services.environments import Environments
from hostler.services.events import Events
from hostler.services.files import Files
from hostler.services.keys import Keys
from hostler.services.models import Models
from hostler.services.resources import Resources
from hostler.services.sessions import Hooks, Sessions
from hostler.services.skills import Skills
from hostler.services.threads import Threads
from hostler.services.validation import Validation
from hostler.services.vaults import Vaults
from hostler.settings import BadSettings, Settings, decode
from hostler.skills.prebuilt import prebuilt_versions, read_prebuilt
from hostler.store.blobs import Blobs
from hostler.store.dispatch import EmbeddedDispatcher
from hostler.store.folder import belongs, make_data_dir, owned
from hostler.store.sql import Tx
from hostler.store.sqlite import SqliteStore
from hostler.store.store import AlreadyOpen, Store
from hostler.store.tables import sessions
from hostler.vault.keyfile import open_sealer
from hostler.vault.room import Vault
from hostler.vault.rotation import Rotated, Tell, in_use_tx, rotate

log = logging.getLogger("hostler")

DRAIN_SECONDS = 6.0
REST_SECONDS = 1.5
CLOSE_SECONDS = 1
BACKLOG = 2048
SWEEP_FILES_SECONDS = 600.0
BUILTINS = {tool["name"]: tool for tool in TOOLS}


class Rooms(msgspec.Struct, frozen=True):
    """What one process is made of, once it runs."""

    settings: Settings
    store: Store
    log: Log
    router: Router
    sandboxes: Backend
    dispatcher: EmbeddedDispatcher
    supervisor: Supervisor
    services: Services


class Configuration(msgspec.Struct, frozen=True):
    """The tables of the config file that rooms decode for themselves."""

    harness: HarnessConfig
    models: ModelsConfig
    sandbox: SandboxConfig
    mcp: McpConfig


def configuration(settings: Settings) -> Configuration:
    """Decode the rooms' tables. Raises BadSettings with the file, table and key."""
    tables, file = settings.tables, settings.config_file
    return Configuration(
        decode(tables.get("harness", {}), HarnessConfig, "harness", file),
        decode(tables.get("models", {}), ModelsConfig, "models", file),
        decode(tables.get("sandbox", {}), SandboxConfig, "sandbox", file),
        decode(tables.get("mcp", {}), McpConfig, "mcp", file),
    )


def open_router(settings: Settings, config: ModelsConfig) -> Router:
    """The configured models; without a key, the built-in script where it was asked for. Raises BadSettings."""
    try:
        return Router(
            with_keys(config, settings.environ),
            api_key=settings.model_api_key,
            base_url=settings.model_base_url,
            allow_script_default=settings.scripted,
        )
    except ValueError as error:
        where = "" if str(error).startswith("HOSTLER_") else f"The config file {settings.config_file}: "
        raise BadSettings(f"{where}{error}") from error


async def open_store(settings: Settings, *, owner: bool = True) -> Store:
    """Open the database. `owner` is the serving process; a command beside it is not."""
    if settings.database is None:
        make_data_dir(settings.data_dir)
        return await SqliteStore.open(settings.data_dir / "hostler.db", now=clock.now())
    if not settings.database.startswith(("postgresql://", "postgres://")):
        raise BadSettings(f"--database must be a postgresql:// URL, not {settings.database.split(':')[0]!r}.")
    from hostler.store.postgres import PostgresStore  # with its driver, only where it is used

    return await PostgresStore.open(settings.database, now=clock.now(), owner=owner)


async def rotate_secrets(settings: Settings, tell: Tell) -> Rotated:
    """Seal all secrets with another key, as the only one who has the data folder and the database."""
    try:
        with owned(settings.data_dir):
            store = await open_store(settings)
            try:
                await belongs(settings.data_dir, store)
                return await rotate(store, settings.data_dir, settings.secret_key, tell)
            finally:
                await store.close()
    except AlreadyOpen as error:
        raise AlreadyOpen("A server is running on this data: stop it, rotate the secrets, start it again.") from error


@contextlib.asynccontextmanager
async def rooms(settings: Settings, wrap: Callable[[Model], Model] = lambda model: model) -> AsyncIterator[Rooms]:
    """Open every room in order, and close them in reverse. `wrap` may stand between the harness and its model."""
    config = configuration(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(owned(settings.data_dir))
        store = await open_store(settings)
        stack.push_async_callback(store.close)
        await belongs(settings.data_dir, store)
        vault = Vault(store, open_sealer(settings.data_dir, settings.secret_key, await store.read(in_use_tx)))
        stack.push_async_callback(vault.aclose)
        await vault.renewer.take_over()
        router = open_router(settings, config.models)
        stack.push_async_callback(router.aclose)
        blobs = Blobs(settings.data_dir / "files")
        blobs.open()
        journal = Log(store, Hub())
        sandboxes = open_backend(settings.data_dir / "sandboxes", config.sandbox, settings.environ)
        stack.push_async_callback(sandboxes.aclose, stop=False)
        connections = Pool(config.mcp, settings.environ)
        stack.push_async_callback(connections.aclose)
        mcp_tools = McpTools(connections, vault.resolver)
        model = wrap(router)
        deps = Deps(
            log=journal,
            model=model,
            catalogue=router.catalogue,
            sandboxes=sandboxes,
            contents=FileContents(store, blobs),
            blobs=blobs,
            builtins=BUILTINS,
            config=config.harness,
            served=(Delegation(), AdvisorTool(model, router.catalogue), mcp_tools),
        )
        dispatcher = EmbeddedDispatcher(store)
        supervisor = Supervisor(deps, dispatcher)
        files = Files(store, blobs, max_bytes=settings.file_bytes)
        skills = Skills(store, blobs)
        await _keep_prebuilt(skills)
        services = _services(journal, blobs, files, skills, router.catalogue, dispatcher, supervisor, vault, mcp_tools)
        yield Rooms(
            settings, store, journal, router, sandboxes, dispatcher, supervisor, services,
        )  # fmt: skip


async def _keep_prebuilt(skills: Skills) -> None:
    try:
        await skills.keep_prebuilt(prebuilt_versions(), read_prebuilt)
    except Unavailable as error:  # a full disk must not keep the server from starting
        log.warning("could not take in the skills that come with the server: %s", error)


def _services(
    journal: Log,
    blobs: Blobs,
    files: Files,
    skills: Skills,
    catalogue: Catalogue,
    dispatcher: EmbeddedDispatcher,
    supervisor: Supervisor,
    vault: Vault,
    mcp_tools: McpTools,
) -> Services:
    store = journal.store

    def ended(session_id: str) -> None:
        supervisor.ended(session_id)
        mcp_tools.forget(session_id)

    programs = mcp_tools.programs
    return Services(
        keys=Keys(store),
        agents=Agents(store, catalogue, programs),
        environments=Environments(store),
        sessions=Sessions(journal, blobs, catalogue, Hooks(wake=dispatcher.wake, ended=ended), programs),
        events=Events(journal, blobs, catalogue, dispatcher.wake),
        threads=Threads(journal, dispatcher.wake),
        resources=Resources(store, supervisor.inputs_changed),
        files=files,
        models=Models(catalogue),
        skills=skills,
        vaults=Vaults(store),
        credentials=Credentials(store, vault.sealer),
        validation=Validation(store, vault.sealer, vault.outward, vault.renewer),
    )


# -- serving -------------------------------------------------------------------------------------------------------


class Server(uvicorn.Server):
    """uvicorn without its own signal handling: `serve` decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


async def serve(
    settings: Settings,
    ready: Callable[[Rooms, str, str | None], None],
    wrap: Callable[[Model], Model] = lambda model: model,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until `stop` is set by a caller that handles signals itself.

    `ready` is told the rooms, the base URL, and the first API key when one was made.
    On a stop no new session is started, running ones get a few seconds, then streams are cut and the process ends,
    within ten seconds in all. What still ran goes on at the next start.
    """
    raise_file_limit()
    with bound(settings.host, settings.port) as listener:
        async with rooms(settings, wrap) as house:
            first_key = await _first_key(house)
            config = uvicorn.Config(
                create_app(house.services),
                http=Connection,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_keep_alive=75,
                timeout_graceful_shutdown=CLOSE_SECONDS,
            )
            server = Server(config)
            stop = stop or _stop_on_signals()
            work = asyncio.create_task(house.supervisor.run(), name="supervisor")
            sweep = asyncio.create_task(_sweep_files(house), name="sweep-files")
            once = [
                asyncio.create_task(_reap(house), name="reap"),
                asyncio.create_task(house.router.warm_up(), name="warm-up"),
            ]
            http = asyncio.create_task(server.serve(sockets=[listener]), name="http")
            stopped = asyncio.create_task(stop.wait())
            _listen(listener)  # before the announcement: whoever reads it may connect at once
            ready(house, base_url(listener), first_key)
            await asyncio.wait({stopped, work, http, sweep}, return_when=asyncio.FIRST_COMPLETED)
            await house.supervisor.drain(DRAIN_SECONDS if stopped.done() else 0)
            await house.supervisor.rest(REST_SECONDS)
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the streams that are now cut are no errors
            server.should_exit = True
            await asyncio.wait({http})
            for task in (work, sweep, stopped, *once):
                task.cancel()
            outcomes = await asyncio.gather(work, sweep, http, stopped, *once, return_exceptions=True)
    _raise_first(outcomes)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def raise_file_limit() -> None:
    """Take all the descriptors that the system grants: streams, sandboxes and what agents fetch share them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """The listening socket, or an error that says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Without it a response's body waits 40 ms for the client to acknowledge its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise _unusable(host, port, error) from error
        yield listener


def _listen(listener: socket.socket) -> None:
    try:
        listener.listen(BACKLOG)
    except OSError as error:  # another server has bound it at the same moment, and was first
        host, port = listener.getsockname()[:2]
        raise _unusable(host, port, error) from error


def _unusable(host: str, port: int, error: OSError) -> BadSettings:
    return BadSettings(
        f"Can't listen on {host} port {port}: {error.strerror}. Stop what uses it, or choose another --port."
    )


def base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _first_key(house: Rooms) -> str | None:
    """Make the first API key, unless there is one or the environment fixes it; return it to be shown once."""
    keys = house.services.keys
    if house.settings.api_key:
        await keys.ensure("HOSTLER_API_KEY", house.settings.api_key)
        return None
    if await keys.list():
        return None
    return (await keys.create("first"))[1]


async def _reap(house: Rooms) -> None:
    """End the sandboxes of sessions that are not running any more; those of running ones are attached to again."""

    def tx() -> Tx[set[str]]:
        rows = yield select(sessions.c.id).where(sessions.c.wake_at.is_not(None))
        return {row[0] for row in rows}

    try:
        await house.sandboxes.reap(await house.store.read(tx))
        await _forget_ended(house)
    except (Unavailable, OSError) as error:
        log.warning("could not look for sandboxes of an earlier start: %s", error)


async def _forget_ended(house: Rooms) -> None:
    """Delete the files of sessions that were archived or deleted when an earlier process had no time left for it."""
    folder = house.settings.data_dir / "sandboxes"
    names = await asyncio.to_thread(lambda: os.listdir(folder) if folder.is_dir() else [])
    for start in range(0, len(names), 500):
        some = names[start : start + 500]

        def tx(some: list[str] = some) -> Tx[set[str]]:
            known = select(sessions.c.id).where(sessions.c.id.in_(some), sessions.c.archived_at.is_(None))
            rows = yield known
            return {row[0] for row in rows}

        for name in set(some) - await house.store.read(tx):
            if name.startswith("sesn_"):
                house.supervisor.ended(name)


async def _sweep_files(house: Rooms) -> None:
    """Remove expired files, and contents that nothing names."""
    while True:
        try:
            await house.services.skills.sweep()
            await house.services.files.sweep()
        except (Unavailable, OSError) as error:
            log.warning("could not sweep the files: %s", error)
        await asyncio.sleep(SWEEP_FILES_SECONDS)


def _raise_first(outcomes: Iterable[object]) -> None:
    for outcome in outcomes:
        while isinstance(outcome, ExceptionGroup) and len(outcome.exceptions) == 1:
            outcome = outcome.exceptions[0]
        if isinstance(outcome, Exception) and not isinstance(outcome, asyncio.CancelledError):
            raise outcome
