"""`hostler task`: what runs on a server, what it waits for, and what people decide.

It must only parse, ask and print.
"""

from __future__ import annotations

import json
import mimetypes
from pathlib import Path
from typing import Any

import click

from hostler.client import part
from hostler.commands.asking import WORKSPACE, asked, rows, settings_of, show, table
from hostler.commands.options import of_server
from hostler.commands.savings import save
from hostler.errors import InvalidRequest

TASKS = f"{WORKSPACE}/tasks"
STATES = ("PENDING", "READY", "IN_PROGRESS", "BLOCKED", "COMPLETED", "FAILED")
OVER = ("COMPLETED", "FAILED")
MARKS = {"COMPLETED": "done", "IN_PROGRESS": "now ", "BLOCKED": "wait", "FAILED": "FAIL"}
GATE = click.option("--gate", metavar="ID", help="Which gate, where several are open: `gate` of `task show`.")
REASON = click.option("--reason", metavar="TEXT", help="Why; the runbook gets it as the comments.")


@click.group()
def task() -> None:
    """Tasks: list, show, approve, reject, cancel, and their files."""


@task.command("list")
@click.option("--status", type=click.Choice(STATES), help="Only those in this state; BLOCKED ones wait for somebody.")
@click.option("--tenant", metavar="SLUG", help="Only those of this one.")
@click.option("--entity", metavar="SLUG", help="Only those of this entity of --tenant.")
@of_server
def list_tasks(
    status: str | None,
    tenant: str | None,
    entity: str | None,
    server: str | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """List tasks.

    \b
      hostler task list --status BLOCKED
      hostler task list --tenant byng --entity fund-one
    """
    if entity and not tenant:
        raise InvalidRequest("--entity: say whose with --tenant.")
    with asked(server, api_key) as api:
        if entity:
            found = rows(api.get(f"{WORKSPACE}/tenants/{part(str(tenant))}/entities/{part(entity)}/tasks"))
            found = [each for each in found if status in (None, each["status"])]
        else:
            found = rows(api.get(TASKS, status=status))
        if tenant and not entity:
            tenant_id = api.get(f"{WORKSPACE}/tenants/{part(tenant)}")["id"]
            found = [each for each in found if each["tenantId"] == tenant_id]
    cells = [(each["status"], each.get("title"), str(each.get("createdAt"))[:19], each["id"]) for each in found]
    show(found, as_json, table(("STATUS", "TITLE", "CREATED", "ID"), cells, "There are no such tasks."))


@task.command("show")
@click.argument("task_id", metavar="ID")
@of_server
def show_task(task_id: str, server: str | None, api_key: str | None, as_json: bool) -> None:
    """Show a task: its steps, what it waits for, its result or failure, its documents."""
    with asked(server, api_key) as api:
        found = api.get(f"{TASKS}/{part(task_id)}")
        found["nextStep"] = api.get(f"{TASKS}/{part(task_id)}/next-step")
        found["documents"] = rows(api.get(f"{TASKS}/{part(task_id)}/documents"))
    show(found, as_json, words(found))


@task.command("approve")
@click.argument("task_id", metavar="ID")
@REASON
@click.option("--corrections", metavar="K=V|JSON", multiple=True, help="What is to be changed; repeatable, or JSON.")
@GATE
@of_server
def approve(
    task_id: str,
    reason: str | None,
    corrections: tuple[str, ...],
    gate: str | None,
    server: str | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Approve what a task, or one below it, waits for.

    \b
      hostler task approve 6f9619ff-8b86-4d01-b42d-00cf4fc964ff --reason "checked against the bank"
    """
    body = {"reason": reason, "corrections": settings_of(corrections, "--corrections") or None, "gate": gate}
    _decide("approve", task_id, body, server, api_key, as_json)


@task.command("reject")
@click.argument("task_id", metavar="ID")
@REASON
@GATE
@of_server
def reject(
    task_id: str, reason: str | None, gate: str | None, server: str | None, api_key: str | None, as_json: bool
) -> None:
    """Reject what a task, or one below it, waits for. What then happens is the runbook's to say."""
    _decide("reject", task_id, {"reason": reason, "gate": gate}, server, api_key, as_json)


@task.command("cancel")
@click.argument("task_id", metavar="ID")
@of_server
def cancel(task_id: str, server: str | None, api_key: str | None, as_json: bool) -> None:
    """End a task. What it does now is interrupted, its agents' sessions too; what it has done stays."""
    with asked(server, api_key) as api:
        found = api.post(f"{TASKS}/{part(task_id)}/cancel")
    over = found["status"] in OVER
    show(found, as_json, [f"{task_id} is over: {found['status']}." if over else f"{task_id} is being cancelled."])


@task.command("files")
@click.argument("task_id", metavar="ID")
@click.option(
    "--save", "folder", type=click.Path(path_type=Path, file_okay=False), help="Download them to this folder."
)
@click.option(
    "--upload", "file", type=click.Path(path_type=Path, dir_okay=False), help="Hand in a file that the task waits for."
)
@click.option("--source", metavar="NAME", help="Which one it is, where the task waits for several.")
@of_server
def files(
    task_id: str,
    folder: Path | None,
    file: Path | None,
    source: str | None,
    server: str | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """List the documents of a task, download them, or hand one in.

    \b
      hostler task files ID --save handover/
      hostler task files ID --upload march.csv --source bank_statement
    """
    place = f"{TASKS}/{part(task_id)}"
    with asked(server, api_key) as api:
        if file is not None:
            _upload(api, place, file, source)
        found = rows(api.get(f"{place}/documents"))
        if folder is not None:
            for each in found:
                each["saved"] = str(save(api, f"{place}/documents/{part(each['id'])}", folder, each["filename"]))
    cells = [(each["filename"], each["sizeBytes"], each["source"], each.get("saved") or each["id"]) for each in found]
    last = "SAVED" if folder is not None else "ID"
    show(found, as_json, table(("FILE", "BYTES", "SOURCE", last), cells, "There are no documents yet."))


def _upload(api: Any, place: str, file: Path, source: str | None) -> None:
    query = {"filename": file.name, **({"source": source} if source else {})}
    try:
        with file.open("rb") as content:
            kind, _ = mimetypes.guess_type(file.name)
            headers = {"content-type": kind or "application/octet-stream"}
            api.ask("POST", f"{place}/files", params=query, content=content, headers=headers)
    except OSError as error:
        raise InvalidRequest(f"{file} can't be read: {error.strerror}.") from error


def _decide(
    what: str, task_id: str, body: dict[str, Any], server: str | None, api_key: str | None, as_json: bool
) -> None:
    with asked(server, api_key) as api:
        sent = {name: value for name, value in body.items() if value is not None}
        found = api.post(f"{TASKS}/{part(task_id)}/{what}", sent)
    past = {"approve": "approved", "reject": "rejected"}[what]
    show(found, as_json, [f"{found.get('id') or found.get('workflowId')}: {past}."])


def words(found: dict[str, Any]) -> list[str]:
    """A task for people."""
    said = [f"{found.get('title') or found['id']}: {found['status']}", f"  {found['id']}"]
    said += [f"  {line}" for line in ladder(found)]
    said += [f"  {line}" for line in waits(found)]
    if failure := found.get("failure"):
        said.append(f"  failed: {failure['type']}: {failure['message']}")
    if (result := found.get("result")) is not None:
        said.append(f"  result: {json.dumps(result, ensure_ascii=False)[:2000]}")
    for each in found.get("documents") or []:
        said.append(f"  document: {each['filename']} ({each['sizeBytes']} bytes, {each['source']})")
    return [*said, *(f"  {line}" for line in page(found))]


def page(found: dict[str, Any]) -> list[str]:
    """Where a browser shows it."""
    return [f"page: {url}" for url in (found.get("links") or {}).values()]


def ladder(found: dict[str, Any]) -> list[str]:
    return [
        f"{MARKS.get(each['status'], '    ')} {each.get('title') or each['name']}" for each in found.get("steps") or []
    ]


def waits(found: dict[str, Any]) -> list[str]:
    """What it waits for, and what to do."""
    step = found.get("nextStep") or {}
    if step.get("action") not in ("review", "submit_file"):
        return []
    said = [f"waits: {step.get('message') or step['action']}"]
    if step.get("gate"):
        said.append(f"gate: {step['gate']}")
    if step["action"] == "review":
        return [*said, f"then: hostler task approve {found['id']}, or hostler task reject {found['id']} --reason TEXT"]
    return [*said, f"then: hostler task files {found['id']} --upload FILE"]
