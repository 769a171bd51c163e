"""The command line of `hostler`. It must only parse, call and print.

Heavy rooms are imported inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hostler import __version__
from hostler.applying.command import apply
from hostler.commands.agents import agent
from hostler.commands.deploying import COMMANDS as DEPLOY_COMMANDS
from hostler.commands.egress import egress
from hostler.commands.environments import environments
from hostler.commands.keys import keys
from hostler.commands.layers import COMMANDS as LAYER_COMMANDS
from hostler.commands.options import CONFIG, DATA_DIR, DATA_PLANE, DATABASE, JSON, run
from hostler.commands.runbooks import runbook
from hostler.commands.sessions import sessions
from hostler.commands.tasks import task
from hostler.commands.tenants import entity, tenant
from hostler.errors import HostlerError
from hostler.settings import DEFAULT_HOST, DEFAULT_PORT, load

if TYPE_CHECKING:
    from hostler.app import Rooms
    from hostler.recording import Recording

SCRIPTED = click.option(
    "--scripted", is_flag=True, help="Without a model key, let the built-in script answer.  [HOSTLER_SCRIPTED]"
)


class Commands(click.Group):
    """Shows errors of ours as one line, and ends with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HostlerError as error:
            click.echo(f"hostler: {error.message}", err=True)
            ctx.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hostler")
def main() -> None:
    """A self-hosted server for the Claude Managed Agents API.

    Start it with `hostler serve`, paste the two lines that it prints, and run any program written for the API.
    """


main.add_command(apply)
main.add_command(keys)
main.add_command(agent)
main.add_command(entity)
main.add_command(runbook)
main.add_command(task)
main.add_command(tenant)
main.add_command(sessions)
sessions.add_command(egress)
main.add_command(environments)
for command in DEPLOY_COMMANDS:
    runbook.add_command(command)
for command in LAYER_COMMANDS:
    environments.add_command(command)


@main.command()
@click.option("--host", help=f"The address to listen on; default {DEFAULT_HOST}.  [HOSTLER_HOST]")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Default {DEFAULT_PORT}; 0 picks one.  [HOSTLER_PORT]")
@DATA_DIR
@DATABASE
@DATA_PLANE
@CONFIG
@SCRIPTED
def serve(
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    database: str | None,
    data_plane: str | None,
    config: Path | None,
    scripted: bool,
) -> None:
    """Serve the API: one process, everything in one data folder.

    Models: set HOSTLER_MODEL_API_KEY (else ANTHROPIC_API_KEY is used) and, for another endpoint,
    HOSTLER_MODEL_BASE_URL; or route models to providers in the config file. To try the server offline, without a key,
    start it with --scripted: a built-in scripted model then answers.
    """
    gc.disable()  # what a start makes is there to stay: to look for garbage in it is a tenth of its time
    from hostler import serving

    _log_to_stderr()
    settings = load(
        host=host,
        port=port,
        data_dir=data_dir,
        database=database,
        data_plane=data_plane,
        config_file=config,
        scripted=scripted,
    )
    run(lambda: serving.serve(settings, _ready))


def _ready(house: Rooms, url: str, first_key: str | None) -> None:
    gc.freeze()  # nor is it looked through later: a full collection would stop all sessions for it
    gc.enable()
    _announce(house, url, first_key)


def _announce(house: Rooms, url: str, first_key: str | None) -> None:
    lines = [f"Hostler {__version__} listens on {url}", f"Data: {house.settings.data_dir}"]
    if house.router.scripted:
        where = " where no route of the config file fits" if len(house.router.describe()) > 1 else ""
        lines.append(f"Model: the built-in script{where} (no model key is set)")
    elif not house.router.usable:
        lines.append("Model: no key is set, so agents can't answer. Set HOSTLER_MODEL_API_KEY, or try --scripted.")
    if first_key:
        lines += ["", "Your API key is shown this once. Paste these two lines where your program runs:", ""]
        lines += [f"export ANTHROPIC_BASE_URL={url}", f"export ANTHROPIC_API_KEY={first_key}"]
    click.echo("\n".join([*lines, ""]))
    sys.stdout.flush()


@main.command(short_help="Say what is usable on this machine.")
@click.option("--host", help="As for `serve`.")
@click.option("--port", type=click.IntRange(0, 65535), help="As for `serve`.")
@DATA_DIR
@DATABASE
@CONFIG
@JSON
def doctor(
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    database: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Say, check by check, what is usable on this machine, and how to mend what is not.

    Ends with 1 when something is not usable that a server needs.
    """
    from hostler.doctor import examine

    settings = load(host=host, port=port, data_dir=data_dir, database=database, config_file=config)
    checks = asyncio.run(examine(settings))
    if as_json:
        click.echo(json.dumps([_check(check) for check in checks]))
    else:
        for check in checks:
            mark = "ok  " if check.ok else "FAIL" if check.required else "--  "
            click.echo(f"{mark} {check.name}: {check.detail}")
            if check.remedy and not check.ok:
                click.echo(f"       mend: {check.remedy}")
    if any(check.required and not check.ok for check in checks):
        sys.exit(1)


@main.group()
def skills() -> None:
    """The skills that come with Hostler: docx, pdf, pptx, xlsx."""


@skills.command("prepare")
@DATA_DIR
@CONFIG
@JSON
def prepare_skills(data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """Install the packages of the pre-built skills now, not when a session first needs them.

    They are fetched with pip's settings of this machine, once, and kept in the data folder. Works while the server
    runs. Ends with 1 when some could not be installed.
    """
    from hostler import preparing

    shows = not as_json and sys.stderr.isatty()

    def tell(skill_id: str, seconds: float) -> None:
        if shows:
            click.echo(f"\r{skill_id}: installing ... {seconds:.0f} s ", err=True, nl=False)

    _log_to_stderr(logging.ERROR)
    settings = load(data_dir=data_dir, config_file=config)
    prepared = run(lambda: preparing.prepare(settings, tell))
    if shows:
        click.echo("\r" + " " * 40 + "\r", err=True, nl=False)
    if as_json:
        names = preparing.Prepared.__struct_fields__
        click.echo(json.dumps([{name: getattr(skill, name) for name in names} for skill in prepared]))
    else:
        click.echo("\n".join(_prepared(skill) for skill in prepared))
    sys.exit(0 if all(skill.ok for skill in prepared) else 1)


def _prepared(skill: Any) -> str:
    if not skill.ok:
        return f"FAIL {skill.id}: {skill.detail}"
    return f"ok   {skill.id}: {', '.join(skill.packages)} ({skill.bytes / 1024**2:.0f} MiB, {skill.seconds:.1f} s)"


@main.command(short_help="Run a session with a real model; save a script of it.")
@click.argument("prompt")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The script to write, a .json."
)
@click.option("--model", metavar="ID", help="The model's id.")
@click.option("--system", metavar="TEXT", help="The agent's system prompt.")
@click.option("--agent", type=click.Path(path_type=Path, dir_okay=False), help="A JSON file as for POST /v1/agents.")
@click.option(
    "--file", "files", multiple=True, type=click.Path(path_type=Path, dir_okay=False), help="Mount it; repeatable."
)
@click.option("--allow", is_flag=True, help="Run tools that ask for a confirmation; without it they are denied.")
@DATA_DIR
@CONFIG
@JSON
def record(data_dir: Path | None, config: Path | None, as_json: bool, **job: Any) -> None:
    """Run a session with PROMPT against a real model, and save the script that replays it.

    The models are those of `serve`. Without --data-dir the session lives in a folder that is removed afterwards. Files
    that the agent hands back are saved beside the script. Ctrl-C ends the session and keeps what was recorded.
    Ends with 1 when the agent did not end its turn.
    """
    from hostler.recording import Job
    from hostler.recording import record as run_session
    from hostler.transcript import lines

    def tell(event: dict[str, Any]) -> None:
        shown = [json.dumps(event)] if as_json else lines(event)
        if shown:
            click.echo("\n".join(shown))

    _log_to_stderr(logging.WARNING)
    with contextlib.ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(_passing_folder()))
        settings = load(data_dir=folder, config_file=config)
        recording = run(lambda: run_session(settings, Job(**job), tell))
    click.echo(json.dumps(_recording(recording)) if as_json else _how_to_replay(recording, keeps=data_dir is not None))
    sys.exit(0 if recording.stop_reason == "end_turn" else 130 if recording.stop_reason is None else 1)


def _passing_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hostler-record-", ignore_cleanup_errors=True)


def _recording(recording: Recording) -> dict[str, Any]:
    names = ("session_id", "script", "stop_reason", "outputs")
    return {"type": "recording", **{name: getattr(recording, name) for name in names}}


def _how_to_replay(recording: Recording, *, keeps: bool) -> str:
    said = [""]
    if recording.scripted:
        said.append("No model key is set, so it was the built-in script that was recorded; see `hostler serve --help`.")
    if recording.stop_reason is None:
        said.append("Interrupted. What was recorded by then is kept.")
    if recording.outputs:
        said += ["The agent handed back:", *(f"  {path}" for path in recording.outputs)]
    if recording.first_key and keeps:
        said += ["An API key was made for this new data folder; it is shown this once:", f"  {recording.first_key}"]
    if recording.script is None:
        return "\n".join([*said, "Nothing was recorded: the model gave no answer."])
    route = ["[[models.route]]", 'provider = "script"', f"options = {{ file = {json.dumps(recording.script)} }}"]
    said += [f"Recorded in {recording.script}. To replay it, put this into a file, say replay.toml:", ""]
    said += [f"  {line}" for line in route]
    return "\n".join([*said, "", "then run `hostler serve --config replay.toml` and send the same message."])


def _check(check: Any) -> dict[str, Any]:
    return {name: getattr(check, name) for name in ("name", "ok", "required", "detail", "remedy")}


def _log_to_stderr(level: int = logging.INFO) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("httpx2", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
