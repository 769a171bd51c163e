"""Puts the routes of all resources of the Workspace API behind its gate. It must hold no rules."""

from __future__ import annotations

from hostler.runbooks.room import Runbooks
from hostler.services.keys import Keys
from hostler.workspace import integrations, registry, runbooks, tasks, tenants
from hostler.workspace.callers import WorkspaceCallers
from hostler.workspace.documents import Documents
from hostler.workspace.gate import Gate, Route


def create_workspace(room: Runbooks, keys: Keys, public_url: str | None = None) -> Gate:
    """`public_url` is where the server is reached, when that is not where it listens."""
    return Gate(routes(room), WorkspaceCallers(keys, room.registered), public_url)


def routes(room: Runbooks) -> list[Route]:
    """All of them; tests and docs read them too."""
    return [
        *tenants.routes(room.tenants, room.entities, room.runner.wake),
        *registry.routes(room.registered, room.workflows, room.connections),
        *integrations.routes(room.connections),
        *tasks.Tasks(room.store, room.starts, room.acting, room.uploads, room.runner.query).routes(),
        *Documents(room.store, room.data).routes(),
        *runbooks.routes(room.catalogue),
    ]
