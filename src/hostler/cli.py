"""The command line of `hostler`. It must only parse, call and print.

Heavy rooms are imported inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hostler import __version__
from hostler.applying.command import apply
from hostler.environment_commands import environments
from hostler.errors import HostlerError
from hostler.layer_commands import COMMANDS as LAYER_COMMANDS
from hostler.session_commands import sessions
from hostler.settings import DEFAULT_HOST, DEFAULT_PORT, Settings, load
from hostler.watching import egress

if TYPE_CHECKING:
    from hostler.app import Rooms
    from hostler.recording import Recording

DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Where everything is kept.  [HOSTLER_DATA_DIR]"
)
DATABASE = click.option(
    "--database", metavar="URL", help="postgresql://...; without it, SQLite in the data folder.  [HOSTLER_DATABASE]"
)
CONFIG = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="A TOML file.  [HOSTLER_CONFIG]"
)
SCRIPTED = click.option(
    "--scripted", is_flag=True, help="Without a model key, let the built-in script answer.  [HOSTLER_SCRIPTED]"
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


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
main.add_command(sessions)
sessions.add_command(egress)
main.add_command(environments)
for command in LAYER_COMMANDS:
    environments.add_command(command)


@main.command()
@click.option("--host", help=f"The address to listen on; default {DEFAULT_HOST}.  [HOSTLER_HOST]")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Default {DEFAULT_PORT}; 0 picks one.  [HOSTLER_PORT]")
@DATA_DIR
@DATABASE
@CONFIG
@SCRIPTED
def serve(
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    database: str | None,
    config: Path | None,
    scripted: bool,
) -> None:
    """Serve the API: one process, everything in one data folder.

    Models: set HOSTLER_MODEL_API_KEY (else ANTHROPIC_API_KEY is used) and, for another endpoint,
    HOSTLER_MODEL_BASE_URL; or route models to providers in the config file. To try the server offline, without a key,
    start it with --scripted: a built-in scripted model then answers.
    """
    from hostler import serving

    _log_to_stderr()
    settings = load(host=host, port=port, data_dir=data_dir, database=database, config_file=config, scripted=scripted)
    _run(lambda: serving.serve(settings, _announce))


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


@main.group()
def keys() -> None:
    """API keys: make, list, revoke, also while the server runs; and the key that seals secrets."""


@keys.command("create")
@click.argument("name", default="key")
@DATA_DIR
@DATABASE
@JSON
def create_key(name: str, data_dir: Path | None, database: str | None, as_json: bool) -> None:
    """Make a key called NAME and print it. It is shown this once; only its hash is kept."""

    async def act(manager: Any) -> None:
        key, secret = await manager.create(name)
        click.echo(json.dumps({"id": key.id, "name": key.name, "key": secret}) if as_json else secret)

    _with_keys(act, data_dir, database)


@keys.command("list")
@DATA_DIR
@DATABASE
@JSON
def list_keys(data_dir: Path | None, database: str | None, as_json: bool) -> None:
    """List all keys, revoked ones included. No key itself can be shown again."""
    from hostler.wire.base import timestamp

    async def act(manager: Any) -> None:
        found = await manager.list()
        if as_json:
            click.echo(json.dumps([_key(key, timestamp) for key in found]))
            return
        for key in found:
            state = "revoked" if key.revoked_at else "active"
            click.echo(f"{key.id}  {state:8}{timestamp(key.created_at)[:19]}  ...{key.hint}  {key.name}")

    _with_keys(act, data_dir, database)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@DATA_DIR
@DATABASE
def revoke_key(key_id: str, data_dir: Path | None, database: str | None) -> None:
    """Revoke the key with this ID (see `hostler keys list`). A running server obeys within seconds."""
    _with_keys(lambda manager: manager.revoke(key_id), data_dir, database)
    click.echo(f"{key_id} is revoked.")


@keys.command("rotate-secrets")
@DATA_DIR
@DATABASE
@JSON
def rotate_secrets(data_dir: Path | None, database: str | None, as_json: bool) -> None:
    """Seal all stored secrets with a new key. Stop the server first.

    Secrets of vault credentials are sealed with the key in the data folder, secret.key. This makes a new key, seals
    everything with it, and then forgets the old one. It may be interrupted at any point: both keys are kept until all
    is done, a server works meanwhile, and running it again finishes what was begun.

    Where HOSTLER_SECRET_KEY holds the key, make a new one (openssl rand -base64 32), put it in front of the old one,
    HOSTLER_SECRET_KEY=NEW,OLD, and run this: everything is then sealed with the first one, and the others can go.

    Backups of the database that were made before need the key that was used then.
    """
    from hostler import app
    from hostler.vault.rotation import Progress

    settings = load(data_dir=data_dir, database=database)

    def tell(progress: Progress) -> None:
        if as_json:
            click.echo(json.dumps({"type": "progress", **progress._asdict()}))
        else:
            click.echo(f"{progress.table}: {progress.done} of {progress.total}", err=True)

    rotated = _run(lambda: app.rotate_secrets(settings, tell))
    if as_json:
        click.echo(json.dumps({"type": "rotation", **rotated._asdict()}))
        return
    begun = "Finished the rotation that was interrupted. " if rotated.resumed else ""
    click.echo(f"{begun}Sealed anew: {rotated.resealed}. All stored secrets are sealed with the key {rotated.key_id}.")
    if rotated.configured:
        click.echo("It is the first one in HOSTLER_SECRET_KEY; older ones there are not needed any more.")
    if rotated.file_left:
        click.echo("Nor is the key file in the data folder: remove it.")


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
    prepared = _run(lambda: preparing.prepare(settings, tell))
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
        recording = _run(lambda: run_session(settings, Job(**job), tell))
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


def _key(key: Any, timestamp: Callable[[int], str]) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "created_at": timestamp(key.created_at),
        "revoked_at": timestamp(key.revoked_at) if key.revoked_at else None,
    }


def _with_keys(act: Callable[[Any], Any], data_dir: Path | None, database: str | None) -> None:
    from hostler.configuration import open_store
    from hostler.services.keys import Keys

    settings: Settings = load(data_dir=data_dir, database=database)

    async def work() -> None:
        store = await open_store(settings, owner=False)
        try:
            await act(Keys(store))
        finally:
            await store.close()

    _run(work)


def _run(main_coroutine: Callable[[], Any]) -> Any:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main_coroutine())


def _log_to_stderr(level: int = logging.INFO) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("httpx2", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
