"""`hostler sessions`: hibernate, export, import and fork sessions of a running server, over its HTTP API.

Over HTTP, since a running server alone may touch sandboxes. It must only parse, ask and print.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hostler.client import HEADERS, connect
from hostler.errors import HostlerError
from hostler.settings import DEFAULT_HOST, DEFAULT_PORT, load_client

if TYPE_CHECKING:
    import httpx2

F = TypeVar("F", bound=Callable[..., Any])
SILENCE = 600.0  # seconds; a large sandbox takes its time
_CHUNK = 1 << 20


class CantDo(HostlerError):
    """The server can't be used, or has refused."""


def _server(command: F) -> F:
    """The options that name a server, and `--json`."""
    default = f"The server; default http://{DEFAULT_HOST}:{DEFAULT_PORT}.  [HOSTLER_BASE_URL, ANTHROPIC_BASE_URL]"
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)
    command = click.option("--api-key", metavar="KEY", help="Its key.  [HOSTLER_API_KEY, ANTHROPIC_API_KEY]")(command)
    return click.option("--base-url", metavar="URL", help=default)(command)


@click.group()
def sessions() -> None:
    """Sessions of a running server: hibernate, export, import, fork."""


@sessions.command("hibernate", short_help="Turn a session's sandbox into a snapshot.")
@click.argument("session_id", metavar="ID")
@_server
def hibernate(session_id: str, base_url: str | None, api_key: str | None, as_json: bool) -> None:
    """Turn the sandbox of an idle session into one compressed snapshot.

    Files and shell state are kept, processes are not. The directory goes; the next tool call makes it again. Sessions
    that rest for `hibernate_seconds` are hibernated by themselves.
    """
    made = _ask(base_url, api_key, "POST", f"/v1/sessions/{_id(session_id)}/hibernate")
    size = made["size_bytes"] / 1024**2
    click.echo(json.dumps(made) if as_json else f"{session_id} is hibernated: {made['id']}, {size:.1f} MiB.")


@sessions.command("export", short_help="Write a session to an archive.")
@click.argument("session_id", metavar="ID")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The archive; default ID.tar.zst."
)
@_server
def export(session_id: str, output: Path | None, base_url: str | None, api_key: str | None, as_json: bool) -> None:
    """Write an idle session to one archive: its log, inputs, outputs, pinned skills, and the files of its sandbox.

    Secrets are not in it: vaults are named only, and the tokens of repositories are left out. The session stays.

    \b
      hostler sessions export sesn_01... -o session.tar.zst
      hostler sessions import session.tar.zst --base-url http://other:8400
    """
    target = output or Path(f"{_id(session_id)}.tar.zst")
    size = _download(base_url, api_key, f"/v1/sessions/{_id(session_id)}/export", target)
    told = {"type": "session_export", "session_id": session_id, "file": str(target), "size_bytes": size}
    click.echo(json.dumps(told) if as_json else f"{session_id}: {target}, {size / 1024**2:.1f} MiB.")


@sessions.command("import", short_help="Take in a session from an archive.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@_server
def take(file: Path, base_url: str | None, api_key: str | None, as_json: bool) -> None:
    """Take in the session of an archive that `hostler sessions export` has written.

    It keeps its ids and can go on at once. An archive that is damaged, or whose session is there already, is refused
    before anything is written. Vaults with the same ids are used where there are any; repositories want their tokens
    again.
    """
    try:
        with file.open("rb") as archive:
            made = _ask(base_url, api_key, "POST", "/v1/sessions/import", content=_chunks(archive))
    except OSError as error:
        raise CantDo(f"{file} can't be read: {error.strerror}.") from error
    click.echo(json.dumps(made) if as_json else f"{made['id']} is here: {made['title'] or 'without a title'}.")


@sessions.command("fork", short_help="Make a new session from a point of another one.")
@click.argument("session_id", metavar="ID")
@click.option("--event", metavar="ID", help="The last event of the history; default: the end of the last turn.")
@click.option("--title", metavar="TEXT", help="Of the new session; default: that of the old one.")
@_server
def fork(
    session_id: str, event: str | None, title: str | None, base_url: str | None, api_key: str | None, as_json: bool
) -> None:
    """Make a new session whose history ends at an event of session ID, with the files of the nearest checkpoint.

    A session can begin where a turn has ended; an event inside a turn is refused, with the two ends beside it. Old and
    new session know nothing of each other afterwards.
    """
    body = {name: value for name, value in (("event_id", event), ("title", title)) if value is not None}
    made = _ask(base_url, api_key, "POST", f"/v1/sessions/{_id(session_id)}/fork", json=body)
    if as_json:
        click.echo(json.dumps(made))
        return
    checkpoint = made["forked_from"]["checkpoint"]
    files = (
        f"with the files of {checkpoint['created_at'][:19]}" if checkpoint else "without files: there is no checkpoint"
    )
    click.echo(f"{made['id']} goes on from {made['forked_from']['event_id'] or 'the beginning'}, {files}.")


def _id(session_id: str) -> str:
    """An id that can stand in a path. Raises CantDo."""
    if not session_id.replace("_", "").isalnum() or not session_id.isascii():
        raise CantDo(f"{session_id!r} is not the id of a session.")
    return session_id


def _open(base_url: str | None, api_key: str | None) -> httpx2.Client:
    client = load_client(base_url, api_key)
    try:
        headers = {**HEADERS, "x-api-key": client.api_key}
        return connect(client.base_url, headers, SILENCE, base_url=client.base_url)
    except (ValueError, UnicodeError) as error:
        raise CantDo("The base URL or the API key has characters that neither can have.") from error


def _ask(base_url: str | None, api_key: str | None, method: str, path: str, **more: Any) -> dict[str, Any]:
    import httpx2

    with _open(base_url, api_key) as http:
        try:
            answer = http.request(method, path, **more)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _unreachable(http, error) from error
    if answer.status_code != 200:
        raise CantDo(_said(answer))
    try:
        return dict(answer.json())
    except ValueError as error:
        raise CantDo("What answers there is not an agents API.") from error


def _download(base_url: str | None, api_key: str | None, path: str, target: Path) -> int:
    """Save what is answered, whole or not at all; return its size."""
    import httpx2

    half = target.with_name(f".{target.name}.part")
    with _open(base_url, api_key) as http:
        try:
            with http.stream("GET", path) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise CantDo(_said(answer))
                with half.open("wb") as file:
                    for chunk in answer.iter_bytes():
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
            half.replace(target)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _unreachable(http, error) from error
        except OSError as error:
            raise CantDo(f"{target} can't be written: {error.strerror}.") from error
        finally:
            half.unlink(missing_ok=True)
    return target.stat().st_size


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _unreachable(http: httpx2.Client, error: Exception) -> CantDo:
    return CantDo(
        f"No server answers at {http.base_url} ({type(error).__name__}). Start one with `hostler serve`, or name "
        "another with --base-url or HOSTLER_BASE_URL."
    )


def _said(answer: httpx2.Response) -> str:
    """What the server has against it, as one printable line."""
    try:
        text = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = f"What answers there is not an agents API (status {answer.status_code})."
    return "".join(letter if letter.isprintable() else "?" for letter in text)
