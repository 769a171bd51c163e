"""Routes of deployed runbooks. They are the whole server's: any key reads them, a key of the server deploys."""

from __future__ import annotations

from typing import Any

from hostler.runbooks.catalogue import Catalogue
from hostler.wire.runbooks import FeedbackCreate, RunbookDeploy
from hostler.workspace.call import Call
from hostler.workspace.gate import Route

_RUNBOOK = "/v1/runbooks/{slug}"


def routes(catalogue: Catalogue) -> list[Route]:
    async def index(call: Call) -> Any:
        return await catalogue.all(call.query("state", "classification", "tags", "jurisdiction", "search"))

    async def retrieve(call: Call) -> Any:
        return await catalogue.get(call.params["slug"], call.query("version")["version"])

    async def templates(call: Call) -> Any:
        call.query()
        return await catalogue.templates(call.params["slug"])

    async def deploy(call: Call) -> Any:
        call.caller.must_be_wide("Deploying a runbook")
        return await catalogue.deploy(call.params["slug"], await call.body(RunbookDeploy))

    async def say(call: Call) -> Any:
        return await catalogue.say(call.params["slug"], await call.body(FeedbackCreate), call.scope)

    async def said(call: Call) -> Any:
        call.query()
        return await catalogue.said(call.params["slug"], call.scope)

    async def skill(call: Call) -> Any:
        call.query()
        return await catalogue.skill(call.params["slug"])

    return [
        Route("GET", "/v1/runbooks", index),
        Route("GET", _RUNBOOK, retrieve),
        Route("GET", f"{_RUNBOOK}/templates", templates),
        Route("POST", f"{_RUNBOOK}/deploy", deploy),
        Route("POST", f"{_RUNBOOK}/feedback", say, 201),
        Route("GET", f"{_RUNBOOK}/feedback", said),
        Route("GET", "/v1/skills/{slug}", skill),
    ]
