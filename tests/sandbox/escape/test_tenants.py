"""Probes between the tenants of one real server: an agent looks for what is another session's, and the server's own."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running import Server
from sandbox.test_hostile_session import _SCRIPT, Session


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(
        tmp_path / "data", scripted=_SCRIPT, key="canary-key", environ={"SOME_PASSWORD": "canary"}, preload=False
    ) as server:
        yield server


def _upload(server: Server, text: str) -> str:
    boundary = secrets.token_hex(8)
    body = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n{text}\r\n--{boundary}--\r\n'
    )
    headers = {**server.headers, "content-type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{server.base_url}/v1/files", body.encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["id"])


def _result(events: list[dict[str, Any]]) -> str:
    return "".join(
        block.get("text", "") for event in events if event["type"] == "agent.tool_result" for block in event["content"]
    )


def test_an_agent_finds_nothing_of_another_session_or_of_the_server(server: Server) -> None:
    """By every path that there is in the data folder, by a search of all that can be read, by processes and sockets."""
    mark = f"mark{secrets.token_hex(12)}"
    _upload(server, mark)
    other = Session(server)
    other.say(f"run: echo {mark} | tee w ~/h /tmp/t > /mnt/session/outputs/o; sleep 1234 & export HIDDEN={mark}")
    held = [
        path
        for path in server.data_dir.rglob("*")
        if path.is_file() and not path.is_symlink() and mark.encode() in path.read_bytes()
    ]
    assert len(held) >= 5, "the mark is in the blobs, the database and the other's folders"
    session = Session(server)
    paths = " ".join(shlex.quote(str(path)) for path in [server.data_dir, *server.data_dir.rglob("*")][:200])
    like = f"'[{mark[0]}]{mark[1:]}'"  # so that the search does not find itself
    script = (
        f"cat {paths} 2>/dev/null | head -c 100; "
        f"grep -rlas {like} / --exclude-dir=proc --exclude-dir=usr --exclude-dir=sys 2>/dev/null; "
        "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n' | "
        f"grep -a -e {like} -e '[c]anary' -e '^123[4]$'; "
        f"for p in {server.base_url.rpartition(':')[2]} 5432 8080; do "
        "(exec 3<>/dev/tcp/127.0.0.1/$p) 2>/dev/null && echo port $p; done; "
        f"for p in '' -p; do curl -s -m 5 $p {server.base_url}/v1/agents; done; echo searched"
    )
    found = _result(session.say(f"run: {script}"))
    assert "searched" in found
    assert mark not in found
    lines = [line for line in found.splitlines() if line and "hostler egress" not in line]
    assert [line for line in lines if "searched" not in line] == []


def test_the_first_session_is_as_it_was(server: Server) -> None:
    """While a second one does its worst to everything that it can name."""
    first, second = Session(server), Session(server)
    first.say("run: echo mine > /workspace/mine; sleep 1000 & echo $! > /tmp/pid; stays=here")
    worst = (
        "kill -9 -1; for d in /workspace /tmp ~ /mnt/session/outputs; do rm -rf $d/* $d; chmod 0 $d; done; "
        "fallocate -l 3G /tmp/big; for i in $(seq 300); do sleep 1000 & done; exec 0<&-; echo done"
    )
    second.say(f"run: {worst} 2>/dev/null")
    found = _result(first.say("run: cat /workspace/mine; kill -0 $(cat /tmp/pid) && echo runs; echo $stays"))
    assert found.split() == ["mine", "runs", "here"]
    assert "works" in _result(second.say("run: echo works"))
    assert "Traceback" not in server.log()


def test_the_servers_files_are_nobodys_else(server: Server) -> None:
    """Where other users of the host live beside it: database, keys and sandboxes are closed to them."""
    Session(server).say("run: echo x > /mnt/session/outputs/x")
    for folder, folders, names in os.walk(server.data_dir):
        if folder != str(server.data_dir) and not Path(folder).stat().st_mode & 0o011:
            folders.clear()  # nobody gets further than this
            continue
        if folder == str(server.data_dir):
            open_to_others = [name for name in (*folders, *names) if (Path(folder) / name).stat().st_mode & 0o077]
            assert open_to_others == []
