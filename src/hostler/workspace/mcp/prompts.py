"""Prompts that clients offer to people: ways through several tools. They must name only tools that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hostler.errors import InvalidRequest, NotFound

MAX_ARGUMENT = 500


class Argument(NamedTuple):
    name: str
    description: str
    default: str | None = None


class Prompt(NamedTuple):
    name: str
    description: str
    arguments: tuple[Argument, ...]
    text: Callable[[dict[str, str]], str]

    def filled(self, given: dict[str, str]) -> str:
        """Raises InvalidRequest."""
        values = {each.name: given.get(each.name, each.default) for each in self.arguments}
        for name, value in given.items():
            if name not in values:
                raise InvalidRequest(f"{name[:100]}: Extra inputs are not permitted")
            if len(value) > MAX_ARGUMENT or not value.isprintable():
                raise InvalidRequest(f"{name}: one line of up to {MAX_ARGUMENT} characters is expected")
        for name, said in values.items():
            if not said:
                raise InvalidRequest(f"{name}: Field required")
        return self.text({name: said or "" for name, said in values.items()})


def find(name: str) -> Prompt:
    """Raises NotFound."""
    for each in PROMPTS:
        if each.name == name:
            return each
    raise NotFound(f"There is no prompt {name[:100]}.")


def _onboard(given: dict[str, str]) -> str:
    return f"""Set up the entity {given["spv_name"]} for the tenant {given["tenant_slug"]}.

1. Read ntro://tenants/{given["tenant_slug"]}. If it is not there or not ACTIVE, stop and say so.
2. Read ntro://entities. If one with nearly the same name exists, ask first.
3. Make the entity with ntro_entity_create: jurisdiction {given["jurisdiction"]}, currency {given["currency"]}, and a
   short slug made from its name.
4. Look with ntro_runbook_list which runbooks are deployed, and ask which of them this entity needs, and when each runs.
5. Bind each with ntro_workflow_create, with the schedule as five cron fields and its time zone.
6. Offer a trial with ntro_workflow_run and dry_run set to true, and follow it with ntro_task_next_step.

Say at the end what you made, with the ids."""


def _run_nav(given: dict[str, str]) -> str:
    return f"""Run the monthly NAV of {given["entity_slug"]} ({given["tenant_slug"]}) for {given["period"]}.

1. Read ntro://workflows and find the workflow of this entity that runs the NAV. If there are none or several, ask.
2. Look with ntro_run_list whether a task for {given["period"]} is there already; if so, go on with that one.
3. Else start one with ntro_workflow_run, period {given["period"]}.
4. Follow it with ntro_task_next_step. While it says wait, wait. When it says review or submit_file, tell the user
   what is asked, and decide nothing yourself: approve or reject only when told to.
5. When it is over, say what came of it, with ntro_task_list_files for the documents, and every warning or failure."""


def _status(_: dict[str, str]) -> str:
    return """Say how things stand on this server.

Read ntro://whoami, ntro://tenants, ntro://entities, ntro://workflows and ntro://schedule, and list the tasks that are
BLOCKED and FAILED with ntro_run_list. Your key may not open all of it; say what you could not see.

Then tell in short: how many tenants, entities and workflows there are; what runs now and what runs next; what waits for
somebody, and for what; what has failed, and why. Begin with what wants attention."""


PROMPTS = (
    Prompt(
        "onboard_spv",
        "Set up a new entity of a tenant, step by step.",
        (
            Argument("tenant_slug", "The tenant's slug."),
            Argument("spv_name", "The entity's name."),
            Argument("jurisdiction", "Its jurisdiction.", "Jersey"),
            Argument("currency", "Its currency.", "GBP"),
        ),
        _onboard,
    ),
    Prompt(
        "run_nav",
        "Run the monthly NAV of an entity, and follow it.",
        (
            Argument("tenant_slug", "The tenant's slug."),
            Argument("entity_slug", "The entity's slug."),
            Argument("period", "Such as 2026-03."),
        ),
        _run_nav,
    ),
    Prompt("platform_status", "How things stand: what runs, what waits, what has failed.", (), _status),
)
