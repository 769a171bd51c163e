"""`hostler runbook deploy`, `list` and `run`: a folder goes to a running server, and a task begins there.

It must only parse, ask and print.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hostler.client import Refused, part
from hostler.commands.asking import WORKSPACE, asked, plain, rows, settings_of, show, table
from hostler.commands.options import of_server
from hostler.commands.options import run as run_loop
from hostler.commands.tasks import OVER, TASKS, ladder, page, waits, words
from hostler.errors import InvalidRequest

if TYPE_CHECKING:
    from hostler.client import Api

RUNBOOKS = "/v1/runbooks"
_POLL = 0.5


@click.command("deploy", short_help="Send a runbook's folder to a server; new tasks run it.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--tenant", required=True, metavar="SLUG", help="For whom; a runbook is there for all tenants.")
@click.option("--no-validate", is_flag=True, help="Don't import it here first.")
@of_server
def deploy(
    folder: Path, tenant: str, no_validate: bool, server: str | None, api_key: str | None, as_json: bool
) -> None:
    """Send the runbook in DIR to a server, where new tasks run it from now on.

    runbook.md and the text files of templates/, subledgers/ and migrations/ are sent. It is validated first. Tasks that
    run go on with the files that they began with. Deploying the same files again changes nothing.

    \b
      hostler runbook deploy runbooks/nav-audit-handover --tenant byng
    """
    from hostler.runbooks.bundlefolder import class_name, read_files

    front = _front(folder, look=not no_validate)
    slug, version = front["slug"], front["version"]
    files = read_files(folder)
    with asked(server, api_key) as api:
        before = _deployed(api, slug)
        body = {"tenantSlug": tenant, "version": version, "workflowClass": class_name(slug), "files": files.texts}
        made = api.post(f"{RUNBOOKS}/{part(slug)}/deploy", body)
    news = _news(before, files.texts)
    told = {**made, "new": news, "leftOut": files.left_out}
    said = [f"{slug} {version} is deployed: {len(files.texts)} files, {made['result']['digest']}"]
    said += [f"  {line}" for line in news] or ["  nothing is new"]
    show(told, as_json, [*said, *(f"  left out: {line}" for line in files.left_out)])


@click.command("list")
@of_server
def list_runbooks(server: str | None, api_key: str | None, as_json: bool) -> None:
    """List the runbooks that are deployed on a server."""
    with asked(server, api_key) as api:
        found = rows(api.get(RUNBOOKS))
    cells = [(each["slug"], each["version"], each["name"], str(each.get("deployedAt"))[:19]) for each in found]
    show(found, as_json, table(("SLUG", "VERSION", "NAME", "DEPLOYED"), cells, "No runbooks are deployed."))


@click.command("run", short_help="Start a task on a server; with --wait, watch it.")
@click.argument("runbook", metavar="SLUG|DIR")
@click.option("--tenant", required=True, metavar="SLUG", help="For whom.")
@click.option("--entity", required=True, metavar="SLUG", help="For which entity of the tenant.")
@click.option("--period", metavar="TEXT", help="Short for --input period=TEXT, such as 2026-03.")
@click.option("--input", "inputs", metavar="K=V|JSON|@FILE", multiple=True, help="What the task gets; repeatable.")
@click.option("--wait", is_flag=True, help="Show its steps until it is over.")
@click.option("--seconds", type=click.FloatRange(0), help="With --wait: no longer than this.")
@of_server
def run(
    runbook: str,
    tenant: str,
    entity: str,
    period: str | None,
    inputs: tuple[str, ...],
    wait: bool,
    seconds: float | None,
    server: str | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Start a task of a deployed runbook, by its slug or by its folder. Nothing is deployed.

    The task gets what tenant, entity and workflow say, and over that what --input says. Where the entity has no
    workflow with this runbook yet, one is made, without a schedule.

    \b
      hostler runbook run nav-audit-handover --tenant byng --entity fund-one --period 2026-03 \\
        --input @sample/period-2026-03.json --wait

    With --wait it ends with 0 when the task has completed, and with 1 when it has failed or the time is up. Ctrl-C
    leaves the task running.
    """
    slug = _front(Path(runbook), look=False)["slug"] if Path(runbook).is_dir() else runbook
    context = settings_of(_read(inputs), "--input") | ({"period": period} if period else {})
    with asked(server, api_key) as api:
        workflow = _workflow(api, slug, tenant, entity)
        body = {"tenantId": tenant, "entityId": entity, "workflowId": workflow, "context": context}
        # Each run is a new task; the name lets the request be sent again.
        found = api.ask("POST", TASKS, json=body, headers={"idempotency-key": str(uuid.uuid4())})
        if wait:
            found = _watch(api, found, seconds, quiet=as_json)
        found["documents"] = rows(api.get(f"{TASKS}/{part(found['id'])}/documents"))
    show(found, as_json, words(found) if wait else [*words(found), f"  then: hostler task show {found['id']}"])
    sys.exit(1 if wait and found["status"] != "COMPLETED" else 0)


COMMANDS = [deploy, list_runbooks, run]


def _front(folder: Path, *, look: bool) -> dict[str, str]:
    """Slug and version, as runbook.md says them. Raises InvalidRequest."""
    from hostler.runbooks.frontmatter import read_front_matter
    from hostler.runbooks.library import MANIFEST
    from hostler.runbooks.validating import validate

    if look:
        report = run_loop(lambda: validate(folder))
        if not report.ok:
            first = report.errors[0]
            where = f"{first.path}, line {first.line}" if first.path and first.line else first.path or folder
            more = f"; `hostler runbook validate {folder}` says all that is wrong"
            raise InvalidRequest(f"{where}: {first.code}: {plain(first.message)}{more}")
    if not (folder / MANIFEST).is_file():
        raise InvalidRequest(f"{folder}: there is no {MANIFEST}")
    front, fault = read_front_matter(folder / MANIFEST)
    if front is None or not front.data.get("slug") or not front.data.get("version"):
        why = fault.message if fault is not None else "slug and version have to be there"
        raise InvalidRequest(f"{folder / MANIFEST}: {why}")
    return {name: str(front.data[name]) for name in ("slug", "version")}


def _deployed(api: Api, slug: str) -> dict[str, str] | None:
    """The texts that are there now, None where it was never deployed."""
    try:
        found = api.get(f"{RUNBOOKS}/{part(slug)}/templates")
        texts = {each["path"]: str(each.get("content")) for each in rows({"items": found["templates"]})}
        return {**texts, "runbook.md": str(api.get(f"{RUNBOOKS}/{part(slug)}").get("content"))}
    except Refused as error:
        if error.answered == 404:
            return None
        raise


def _news(before: dict[str, str] | None, files: dict[str, str]) -> list[str]:
    if before is None:
        return [f"new: {path}" for path in sorted(files)]
    changed = [f"changed: {path}" for path in sorted(files) if path in before and files[path] != before[path]]
    new = [f"new: {path}" for path in sorted(files) if path not in before]
    return [*new, *changed, *(f"gone: {path}" for path in sorted(before) if path not in files)]


def _read(inputs: tuple[str, ...]) -> tuple[str, ...]:
    """With `@FILE` as what is in it."""
    read = []
    for each in inputs:
        if not each.startswith("@"):
            read.append(each)
            continue
        try:
            read.append(Path(each[1:]).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"--input {each}: can't be read: {error}.") from error
        if not isinstance(_object(read[-1]), dict):
            raise InvalidRequest(f"--input {each}: is no JSON object.")
    return tuple(read)


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _workflow(api: Api, slug: str, tenant: str, entity: str) -> str:
    """The id of the entity's workflow with this runbook; made where there is none."""
    place = api.get(f"{WORKSPACE}/tenants/{part(tenant)}/entities/{part(entity)}")
    workflows = f"{WORKSPACE}/registry/workflows"
    mine = [
        each for each in rows(api.get(workflows)) if each["runbookSlug"] == slug and each["entityId"] == place["id"]
    ]
    if len(mine) > 1:
        ids = ", ".join(each["id"] for each in mine)
        raise InvalidRequest(f"{entity} has several workflows with {slug}: {ids}. Keep one.")
    made = mine[0] if mine else api.post(workflows, {"runbookSlug": slug, "entityId": place["id"]})
    return str(made["id"])


def _watch(api: Api, found: dict[str, Any], seconds: float | None, *, quiet: bool) -> dict[str, Any]:
    """The task once it is over, or the time is."""
    until = time.monotonic() + seconds if seconds is not None else None
    screen = Screen(quiet)
    try:
        while True:
            found = api.get(f"{TASKS}/{part(found['id'])}")
            if found["status"] == "BLOCKED":
                found["nextStep"] = api.get(f"{TASKS}/{part(found['id'])}/next-step")
            screen.show(found)
            if found["status"] in OVER:
                return found
            if until is not None and time.monotonic() >= until:
                click.echo(f"It is not over after {seconds:g} seconds, and goes on.", err=True)
                return found
            time.sleep(_POLL)
    except KeyboardInterrupt:
        click.echo(f"\nThe task goes on: hostler task show {found['id']}", err=True)
        sys.exit(130)
    finally:
        screen.clear()


class Screen:
    """The steps of a task: drawn anew in place on a terminal, else a line for each change."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet
        self._drawn: list[str] = []
        self._said: set[str] = set()

    def show(self, found: dict[str, Any]) -> None:
        lines = [*page(found), *ladder(found), *waits(found)]
        if self._live:
            drawn = plain("\n".join([f"{found.get('title')}: {found['status']}", *lines])).split("\n")
            if drawn != self._drawn:
                self.clear()
                click.echo("\n".join(drawn), err=True)
                self._drawn = drawn
        elif not self._quiet:
            told = [line for line in lines if line.strip() and not line.startswith("    ") and line not in self._said]
            self._said.update(told)
            for line in told:
                click.echo(plain(line), err=True)

    def clear(self) -> None:
        if self._live and self._drawn:
            width = shutil.get_terminal_size().columns
            rows_drawn = sum(max(1, -(-len(line) // width)) for line in self._drawn)  # a long line takes several
            click.echo(f"\x1b[{rows_drawn}A\x1b[J", err=True, nl=False, color=True)
            self._drawn = []
