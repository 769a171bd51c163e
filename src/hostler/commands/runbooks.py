"""`hostler runbook`: looks at a runbook's folder, tries it without a server, deploys it, and starts it on one.

It must only parse, ask and print. What it runs of a bundle runs in child processes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hostler.commands.asking import plain, settings_of
from hostler.commands.options import JSON, run
from hostler.errors import InvalidRequest

if TYPE_CHECKING:
    from hostler.runbooks.rehearsing import Outcome
    from hostler.runbooks.stage import Event
    from hostler.runbooks.validating import Finding, Report

DIR = click.Path(path_type=Path)


@click.group()
def runbook() -> None:
    """Runbooks: check a folder, try it offline, deploy it, and start tasks."""


@runbook.command("validate", short_help="Say what is wrong with a runbook's folder.")
@click.argument("folder", metavar="DIR", type=DIR)
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=30.0, help="How long importing it may take; default 30."
)
@JSON
def validate(folder: Path, seconds: float, as_json: bool) -> None:
    """Say what is wrong with the runbook in DIR, each fault with a code, the file and the line.

    A runbook has a runbook.md, whose front matter names it, and templates/workflow.py and templates/activities.py.
    Its code is imported, as every worker does: in a process of its own, which sees none of your keys and is ended when
    it takes too long. What the front matter says about slug, version, steps and templates has to be true of the code.

    \b
      hostler runbook validate runbooks/nav-audit-handover

    Ends with 0 when nothing is wrong, and with 1 when something is. Warnings change nothing.
    """
    from hostler.runbooks.validating import validate as look

    report = run(lambda: look(folder, seconds=seconds))
    click.echo(json.dumps(_report(folder, report)) if as_json else "\n".join(_words(folder, report)))
    sys.exit(0 if report.ok else 1)


@runbook.command("test", short_help="Run a runbook without a server, against scenarios.")
@click.argument("folder", metavar="DIR", type=DIR)
@click.option(
    "-s", "--scenario", "names", metavar="NAME|FILE", multiple=True,
    help="happy, reject_all, or a YAML file; repeatable. Default: both, and every .yaml in DIR/scenarios.",
)  # fmt: skip
@click.option("--child", "children", multiple=True, metavar="DIR", type=DIR, help="A runbook that this one starts.")
@click.option(
    "--input", "inputs", multiple=True, metavar="K=V|JSON", help="What the task gets, over the scenario's own input."
)
@click.option("--real", is_flag=True, help="Run the activities, instead of making up what they return.")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), help="How long a scenario may take; default 60.")
@JSON
def test(
    folder: Path,
    names: tuple[str, ...],
    children: tuple[Path, ...],
    inputs: tuple[str, ...],
    real: bool,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Run the runbook in DIR from beginning to end without a server, once for each scenario.

    The workers are those of the server; nothing is downloaded and nothing is kept. `happy` approves everything,
    `reject_all` rejects everything. Activities return what their types promise, unless the scenario says otherwise or
    --real lets them run; they then have an empty data plane. Agents answer what the scenario says. A scenario is a
    YAML file, all of it optional; one that is called happy or reject_all stands in for the built-in one:

    \b
      input: {period: 2026-03}
      default: approved                 # how gates are answered
      reviews:
        review_journal: {decision: rejected, comments: not again}
      uploads:
        bank_statement: {filename: march.csv}
      activities:
        load_tb: {returns: {opening: 1}}
      agents:
        - {text: done, files: [handover.docx]}
      expect: {status: completed, steps: [load, review_journal]}

    Ends with 0 when every scenario came out as expected, and with 1 when one did not. Without `expect` a task has to
    complete; when everything is rejected it may fail, too, but has to end.
    """
    outcomes = run(
        lambda: _rehearse(folder, names, children, settings_of(inputs, "--input"), real, seconds, tell=not as_json)
    )
    if as_json:
        click.echo(json.dumps([_outcome(each) for each in outcomes]))
    sys.exit(0 if all(each.ok for each in outcomes) else 1)


async def _rehearse(
    folder: Path,
    names: tuple[str, ...],
    children: tuple[Path, ...],
    given: dict[str, Any],
    real: bool,
    seconds: float | None,
    *,
    tell: bool,
) -> list[Outcome]:
    import msgspec

    from hostler.runbooks.rehearsing import Rehearsal

    scenarios = _scenarios(folder, names)
    rehearsal = Rehearsal(dict([await _bundle(each) for each in (folder, *children)]), real=real)
    outcomes = []
    for scenario in scenarios:
        more = {"input": {**scenario.input, **given}, **({"seconds": seconds} if seconds else {})}
        outcome = await rehearsal.run(msgspec.structs.replace(scenario, **more))
        outcomes.append(outcome)
        if tell:
            click.echo("\n".join(_told(outcome)))
    return outcomes


async def _bundle(folder: Path) -> tuple[str, Any]:
    """A bundle that can be run, by its slug. Raises InvalidRequest."""
    from hostler.runbooks.validating import validate as look

    report = await look(folder)
    if not report.ok:
        first = _finding(folder, report.errors[0])
        raise InvalidRequest(f"{first} (`hostler runbook validate {folder}` says all that is wrong)")
    return _as_bundle(folder, report)


def _as_bundle(folder: Path, report: Report) -> tuple[str, Any]:
    from hostler.runbooks.contract import Bundle

    found = report.bundle
    made = Bundle(folder=folder.resolve(), workflow_class=found["workflow_class"], modules=found["modules"])
    return str(found["slug"]), made


def _scenarios(folder: Path, names: tuple[str, ...]) -> list[Any]:
    from hostler.runbooks.scenarios import BUILT_IN, load_scenario

    if not names:
        own = [load_scenario(file) for file in sorted((folder / "scenarios").glob("*.yaml"))]
        return [*(each for name, each in BUILT_IN.items() if name not in {each.name for each in own}), *own]
    found = []
    for name in names:
        beside = folder / "scenarios" / f"{name}.yaml"
        file = Path(name) if Path(name).is_file() else beside if beside.is_file() else None
        if name not in BUILT_IN and file is None:
            raise InvalidRequest(f"There is no scenario {name}: {', '.join(BUILT_IN)}, a YAML file, or {beside}.")
        found.append(BUILT_IN[name] if file is None else load_scenario(file))
    return found


def _report(folder: Path, report: Report) -> dict[str, Any]:
    found = {"errors": report.errors, "warnings": report.warnings}
    told = {name: [each._asdict() for each in each_kind] for name, each_kind in found.items()}
    return {"ok": report.ok, "folder": str(folder), **told, "bundle": report.bundle}


def _words(folder: Path, report: Report) -> list[str]:
    said = [_finding(folder, each) for each in report.errors]
    said += [f"{_finding(folder, each)} (a warning)" for each in report.warnings]
    if report.ok:
        bundle = report.bundle
        steps = ", ".join(bundle.get("steps", [])) or "none"
        said.append(f"{folder} is fine: {bundle.get('slug')} {bundle.get('version')}, steps: {steps}.")
    return said


def _finding(folder: Path, found: Finding) -> str:
    place = str(folder / found.path) if found.path else str(folder)
    line = f", line {found.line}" if found.line else ""
    text = f"{place}{line}: {found.code}: {found.message}"
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {**outcome._asdict(), "ok": outcome.ok, "events": [each._asdict() for each in outcome.events]}


def _told(outcome: Outcome) -> list[str]:
    mark = "ok  " if outcome.ok else "FAIL"
    said = [f"{mark} {outcome.scenario}: {outcome.status} after {outcome.seconds:.1f} s"]
    said += [f"       {_event(each)}" for each in outcome.events]
    if outcome.error and outcome.ok:
        said.append(f"       ended with {outcome.error}")
    said += [f"       wrong: {each}" for each in outcome.faults]
    return [plain(" ".join(line.splitlines())) for line in said]


def _event(event: Event) -> str:
    below = event.task.partition(":")[2]
    return f"{event.seconds:5.1f} s  {event.kind:7} {f'[{below}] ' if below else ''}{event.detail}"
