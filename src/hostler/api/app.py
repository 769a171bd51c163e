"""Puts the routes of all resources behind the gate. The composition root, `hostler.app`, brings the services."""

from __future__ import annotations

from typing import NamedTuple

from starlette.responses import Response
from starlette.types import ASGIApp

from hostler.api import (
    agents,
    checkpoints,
    environments,
    events,
    files,
    models,
    resources,
    sessions,
    skills,
    threads,
    vaults,
    work,
)
from hostler.api.call import Call
from hostler.api.gate import Gate
from hostler.api.render import json
from hostler.api.router import Route, Router
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
from hostler.services.resources import Resources
from hostler.services.sessions import Sessions
from hostler.services.skills import Skills
from hostler.services.threads import Threads
from hostler.services.validation import Validation
from hostler.services.vaults import Vaults
from hostler.services.work import WorkQueue


class Services(NamedTuple):
    keys: Keys
    agents: Agents
    environments: Environments
    sessions: Sessions
    events: Events
    threads: Threads
    resources: Resources
    files: Files
    models: Models
    skills: Skills
    vaults: Vaults
    credentials: Credentials
    validation: Validation
    checkpoints: Checkpoints
    forks: Forks
    exports: Exports
    imports: Imports
    callers: Callers
    work: WorkQueue
    environment_keys: EnvironmentKeys


def create_app(services: Services) -> ASGIApp:
    return Gate(Router(routes(services)), Router([Route("GET", "/healthz", _healthz, beta=False)]), services.callers)


def routes(services: Services) -> list[Route]:
    """All routes behind the key; tests and docs read them too."""
    return [
        *agents.routes(services.agents),
        *environments.routes(services.environments),
        *sessions.routes(services.sessions),
        *checkpoints.routes(services.checkpoints, services.forks, services.exports, services.imports),
        *events.routes(services.events),
        *threads.routes(services.threads, services.events),
        *resources.routes(services.resources),
        *files.routes(services.files),
        *models.routes(services.models),
        *skills.routes(services.skills),
        *vaults.routes(services.vaults, services.credentials, services.validation),
        *work.routes(services.work, services.environment_keys),
    ]


async def _healthz(call: Call) -> Response:
    return json({"status": "ok"})
