"""`hostler sessions`: hibernate, export, import and fork from the command line, against running servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands.command import complaint, hostler
from failures.client import Api, results
from running import Server


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Server(tmp_path_factory.mktemp("sessions") / "data") as server, Api(server) as api:
        yield api


@pytest.fixture
def environ(api: Api) -> dict[str, str]:
    return {"HOSTLER_BASE_URL": api.server.base_url, "HOSTLER_API_KEY": api.server.key}


def asked(*arguments: object, environ: dict[str, str]) -> dict[str, Any]:
    done = hostler("sessions", *arguments, "--json", environ=environ)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def printed(api: Api, session: str) -> str:
    (result,) = results(api.turn(session, "run: cat file"))
    return str(result["content"][0]["text"])


def test_there_and_back(api: Api, environ: dict[str, str], tmp_path: Path) -> None:
    session = api.session(title="mine")
    api.turn(session, "run: echo kept > file")
    assert asked("hibernate", session, environ=environ)["hibernated"]
    archive = tmp_path / "session.tar.zst"
    told = asked("export", session, "-o", archive, environ=environ)
    assert (told["file"], told["size_bytes"]) == (str(archive), archive.stat().st_size)
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]
    again = hostler("sessions", "import", archive, environ=environ)
    assert "already" in complaint(again)
    assert api.http.delete(f"/v1/sessions/{session}").status_code == 200
    done = hostler("sessions", "import", archive, environ=environ)
    assert done.stdout == f"{session} is here: mine.\n"
    assert printed(api, session) == "kept"


def test_fork(api: Api, environ: dict[str, str]) -> None:
    session = api.session()
    api.turn(session, "run: echo one > file")
    end = api.events(session)[-1]["id"]
    made = asked("fork", session, "--event", end, "--title", "other", environ=environ)
    assert (made["title"], made["forked_from"]["event_id"]) == ("other", end)
    assert printed(api, made["id"]) == "one"
    said = hostler("sessions", "fork", session, environ=environ).stdout
    assert f"goes on from {end}, with the files of" in said
    first = api.events(session)[0]["id"]
    assert "inside a turn" in complaint(hostler("sessions", "fork", session, "--event", first, environ=environ))


def test_what_can_not_be_done_is_said_in_one_line(api: Api, environ: dict[str, str], tmp_path: Path) -> None:
    session = api.session()
    assert "no sandbox" in complaint(hostler("sessions", "hibernate", session, environ=environ))
    assert "not found" in complaint(hostler("sessions", "export", "sesn_none", environ=environ, cwd=tmp_path))
    assert "not the id" in complaint(hostler("sessions", "export", "../x", environ=environ, cwd=tmp_path))
    assert "can't be read" in complaint(hostler("sessions", "import", tmp_path / "none", environ=environ))
    (tmp_path / "bad").write_bytes(b"bad")
    assert "archive" in complaint(hostler("sessions", "import", tmp_path / "bad", environ=environ))
    nobody = {**environ, "HOSTLER_BASE_URL": "http://127.0.0.1:9"}
    assert "No server answers" in complaint(hostler("sessions", "fork", session, environ=nobody))
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]
