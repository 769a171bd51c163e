"""The command `hostler sessions egress`: prints the egress log of a session. It must not need a running server.

It reads the files of the data folder, so it works where the server runs, also after it has stopped.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from hostler.commands.options import CONFIG, DATA_DIR, JSON
from hostler.settings import load

if TYPE_CHECKING:
    from hostler.sandbox.edge.ledger import Entry

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@click.command("egress")
@click.argument("session_id", metavar="ID")
@DATA_DIR
@CONFIG
@JSON
def egress(session_id: str, data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """Print where the sandbox of session ID has connected to, and what was refused, oldest first."""
    from hostler.sandbox.edge.ledger import Entry
    from hostler.sandbox.edge.outgoing import open_log
    from hostler.store.folder import find_data_dir

    if not _ID.fullmatch(session_id):
        raise click.BadParameter("this is no id of a session", param_hint="ID")
    folder = load(data_dir=data_dir, config_file=config).data_dir
    find_data_dir(folder)
    journal = open_log(folder)
    found = False
    for line in journal.read(session_id):
        found = True
        if as_json:
            click.echo(msgspec.json.encode(line).decode())
        elif isinstance(line, Entry):
            click.echo(_words(line))
        else:
            click.echo(f"{line.dropped} connections were not written down")
    journal.close()
    if not found:
        click.echo(f"No connections of {session_id} are written down in {folder}.", err=True)


def _words(entry: Entry) -> str:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.time))
    where = f"{entry.host}:{entry.port}" if entry.host else "-"
    text = f"{when}  {entry.verdict:8}{entry.kind or '-':8}{where}  {entry.sent} sent, {entry.received} received"
    text += f", {entry.seconds:.1f} s"
    if entry.name:
        text += f", named {entry.name}"
    if entry.credentials:
        text += f", with {', '.join(entry.credentials)}"
    return f"{text}: {entry.reason}" if entry.reason else text
