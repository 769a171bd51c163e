"""The composition root: settings -> store -> rooms -> services. A reader starts here.

It must not hold logic of its own beyond opening things in order and closing them in reverse; `serving.py` puts HTTP
before them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from hostler.api.app import Services
from hostler.configuration import configuration, open_router
from hostler.console.access import Access
from hostler.errors import Unavailable
from hostler.git.room import GitRoom
from hostler.harness.advisor import AdvisorTool
from hostler.harness.contents import FileContents
from hostler.harness.delegation import Delegation
from hostler.harness.deps import Deps
from hostler.harness.gateway import GitGateway
from hostler.harness.life import Life
from hostler.harness.mcp_tools import McpTools
from hostler.harness.repositories import Repositories as HarnessRepositories
from hostler.harness.secrets import SessionSecrets
from hostler.harness.session_layers import SessionLayers
from hostler.harness.side_request import SideRequest
from hostler.harness.supervisor import Supervisor
from hostler.harness.web_tools import WebTools
from hostler.harness.workqueue import WorkHints
from hostler.log.hub import Hub
from hostler.log.log import Log
from hostler.mcp.own import OwnServer
from hostler.mcp.pool import Pool
from hostler.models.catalogue import Catalogue
from hostler.models.protocol import Model
from hostler.models.routing import Router
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.room import Runbooks
from hostler.sandbox.backends import open_backend, open_layers
from hostler.sandbox.contract import Backend
from hostler.sandbox.edge.egresslog import EgressLog
from hostler.sandbox.edge.given import Given
from hostler.sandbox.edge.outgoing import open_log
from hostler.sandbox.toolset import TOOLS
from hostler.services.agents import Agents
from hostler.services.callers import Callers
from hostler.services.checkpoints import Checkpoints
from hostler.services.credentials import Credentials
from hostler.services.environment_keys import EnvironmentKeys
from hostler.services.environments import Environments
from hostler.services.events import Events
from hostler.services.exports import Exports
from hostler.services.files import Files
from hostler.services.forks import Forks
from hostler.services.imports import Imports
from hostler.services.keys import Keys
from hostler.services.models import Models
from hostler.services.repositories import Repositories
from hostler.services.resources import Resources
from hostler.services.sessions import Hooks, Sessions
from hostler.services.skills import Skills
from hostler.services.threads import Threads
from hostler.services.validation import Validation
from hostler.services.vaults import Vaults
from hostler.services.work import WorkQueue
from hostler.settings import Settings
from hostler.skills.prebuilt import prebuilt_versions, read_prebuilt
from hostler.store.blobs import Blobs
from hostler.store.dispatch import EmbeddedDispatcher
from hostler.store.folder import belongs, owned
from hostler.store.opening import open_store
from hostler.store.store import AlreadyOpen, Store
from hostler.vault.keyfile import open_sealer
from hostler.vault.room import Vault
from hostler.vault.rotation import Rotated, Tell, in_use_tx, rotate

log = logging.getLogger("hostler")

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
    life: Life
    services: Services
    runbooks: Runbooks
    access: Access
    own: OwnServer


class Exchange(NamedTuple):
    """Where archives of sessions are made and unpacked, and how large one that comes in may be."""

    folder: Path
    max_bytes: int


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
        git = GitRoom(settings.data_dir / "repositories", config.git, settings.environ)
        stack.push_async_callback(git.aclose)
        repositories = HarnessRepositories(store, vault.sealer, git)
        secrets = SessionSecrets(store, vault.variables)
        egress_log = open_log(settings.data_dir, config.sandbox.egress_log_mb)
        stack.callback(egress_log.close)
        given = Given(GitGateway(repositories), secrets.at_edge, egress_log)
        sandboxes = open_backend(settings.data_dir / "sandboxes", config.sandbox, settings.environ, given)
        stack.push_async_callback(sandboxes.aclose, stop=False)
        layers = open_layers(settings.data_dir / "layers", config.sandbox, settings.environ)
        stack.push_async_callback(layers.aclose)
        own = OwnServer(settings.public_url)
        connections = Pool(config.mcp, settings.environ, own)
        stack.push_async_callback(connections.aclose)
        mcp_tools = McpTools(connections, credentials=vault.resolver)
        model = wrap(router)
        web = WebTools.open(config.web, settings.environ, SideRequest(router))
        stack.callback(web.close)
        life = Life(journal, sandboxes, settings.data_dir / "snapshots", config.harness)
        work = WorkQueue(journal, WorkHints(), config.work)
        deps = Deps(
            log=journal,
            model=model,
            catalogue=router.catalogue,
            sandboxes=sandboxes,
            contents=FileContents(store, blobs),
            blobs=blobs,
            builtins=BUILTINS,
            config=config.harness,
            repositories=repositories,
            work=work.hints,
            secrets=secrets,
            life=life,
            layers=SessionLayers(
                layers,
                sandboxes,
                skill_seconds=config.harness.layer_wait_seconds,
                environment_seconds=config.harness.package_wait_seconds,
            ),
            served=(Delegation(), AdvisorTool(model, router.catalogue), mcp_tools, web),
        )
        dispatcher = EmbeddedDispatcher(store)
        supervisor = Supervisor(deps, dispatcher)
        files = Files(store, blobs, max_bytes=settings.file_bytes)
        skills = Skills(store, blobs)
        await _keep_prebuilt(skills)
        exchange = Exchange(settings.data_dir / "exports", config.harness.import_mb * 1024 * 1024)
        data = await DataPlane.open(settings.data_dir / "data-plane", config.data_plane, settings.data_plane)
        runbooks = Runbooks(
            store, vault.sealer, data, settings.data_dir / "runbooks", config.runbooks, settings.environ
        )
        stack.push_async_callback(runbooks.aclose)
        services = _services(
            journal, blobs, files, skills, router.catalogue, dispatcher, supervisor, vault, mcp_tools, git, work, life,
            exchange, egress_log,
        )  # fmt: skip
        yield Rooms(
            settings, store, journal, router, sandboxes, dispatcher, supervisor, life, services, runbooks,
            Access(store, services.keys, vault.sealer, settings.public_url), own,
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
    git: GitRoom,
    work: WorkQueue,
    life: Life,
    exchange: Exchange,
    egress_log: EgressLog,
) -> Services:
    store, keys = journal.store, Keys(journal.store)
    repositories = Repositories(git.hosts, vault.sealer)

    def ended(session_id: str) -> None:
        supervisor.ended(session_id)
        mcp_tools.forget(session_id)
        egress_log.forget(session_id)

    programs = mcp_tools.programs
    exports = Exports(store, blobs, life, exchange.folder)
    exports.open()
    hooks = Hooks(wake=dispatcher.wake, ended=ended, work=work.hints, created=supervisor.created)
    return Services(
        keys=keys,
        agents=Agents(store, catalogue, programs),
        environments=Environments(store),
        sessions=Sessions(journal, blobs, catalogue, hooks, repositories, programs),
        events=Events(journal, blobs, catalogue, dispatcher.wake, work.hints),
        threads=Threads(journal, dispatcher.wake),
        resources=Resources(store, supervisor.inputs_changed, repositories),
        files=files,
        models=Models(catalogue),
        skills=skills,
        vaults=Vaults(store),
        credentials=Credentials(store, vault.sealer),
        validation=Validation(store, vault.sealer, vault.outward, vault.renewer),
        checkpoints=Checkpoints(store, life),
        forks=Forks(store, life, vault.sealer),
        exports=exports,
        imports=Imports(store, blobs, life, exchange.folder, exchange.max_bytes),
        callers=Callers(store, keys),
        work=work,
        environment_keys=EnvironmentKeys(store),
    )


# -- serving -------------------------------------------------------------------------------------------------------
