"""`hostler environments build`, `layers`, `prune`: beside a running server, for programs and for people."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands.command import complaint, hostler, records, spawn
from failures.client import Api, errors, results
from running import Server
from sandbox.wheels import Index, serving, wheel


def environment(index: Index) -> dict[str, str]:
    hidden = {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "HTTPS_PROXY": "", "https_proxy": ""}
    return hidden | {"PIP_INDEX_URL": index.url, "PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "0"}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels", "hostler_wheel")
    wheel(tmp_path / "wheels", "hostler_other")
    with serving(tmp_path / "wheels") as found:
        yield found


@pytest.fixture
def api(tmp_path: Path, index: Index) -> Iterator[Api]:
    with Server(tmp_path / "data", environ=environment(index)) as server, Api(server) as found:
        yield found


def made(api: Api, **packages: list[str]) -> str:
    body = {"name": "e", "config": {"type": "cloud", "packages": packages}}
    return str(api.post("/v1/environments", body)["id"])


def run(api: Api, index: Index, *arguments: object) -> Any:
    return hostler("environments", *arguments, "--data-dir", api.server.data_dir, environ=environment(index))


def test_build_list_and_prune(api: Api, index: Index) -> None:
    environment_id = made(api, pip=["hostler_wheel"])
    built = run(api, index, "build", environment_id)
    assert (built.returncode, built.stderr.count("pip: ") > 0) == (0, True), built.stdout + built.stderr
    assert built.stdout.startswith("ok   pip: hostler_wheel-1.0 (")
    again = run(api, index, "build", environment_id)
    assert "was there" in again.stdout
    session = api.post("/v1/sessions", {"agent": api.agent()["id"], "environment_id": environment_id})["id"]
    events = api.turn(str(session), "run: python3 -c 'import hostler_wheel as w; print(w.VERSION)'")
    assert "1.0" in str(results(events)[0]["content"])
    (listed,) = records(run(api, index, "layers", "--json").stdout)
    assert (listed["type"], listed["manager"], listed["used_by"]) == ("layer", "pip", [environment_id])
    assert listed["mounted"]
    assert listed["bytes"] > 0
    assert "0 layers removed" in run(api, index, "prune").stdout
    api.post(
        f"/v1/environments/{environment_id}", {"config": {"type": "cloud", "packages": {"pip": ["hostler_other"]}}}
    )
    assert "used by nothing (mounted now)" in run(api, index, "layers").stdout
    assert "0 layers removed" in run(api, index, "prune").stdout  # a sandbox that lives has it
    api.http.delete(f"/v1/sessions/{session}")
    assert "0 layers would be removed" in run(api, index, "prune", "--older-than", "12h", "--dry-run").stdout
    (would,) = records(run(api, index, "prune", "--dry-run", "--json").stdout)
    assert (would["key"], would["dry_run"]) == (listed["key"], True)
    (gone,) = records(run(api, index, "prune", "--json").stdout)
    assert (gone["key"], gone["dry_run"]) == (listed["key"], False)
    assert run(api, index, "layers").stdout == "0 layers, 0.0 MiB\n"


def test_what_fails_is_said_and_the_rest_is_kept(api: Api, index: Index) -> None:
    environment_id = made(api, pip=["hostler_absent"])
    built = run(api, index, "build", environment_id, "--json")
    assert built.returncode == 1
    *progress, last = records(built.stdout)
    assert {each["type"] for each in progress} <= {"progress"}
    assert (last["type"], last["manager"], last["ok"]) == ("layer", "pip", False)
    assert "hostler_absent" in last["detail"]
    assert "s3cret" not in built.stdout + built.stderr
    assert complaint(run(api, index, "build", "env_01absent")) != ""
    assert run(api, index, "build", made(api)).stdout == "The environment has no packages.\n"
    assert "12h" in run(api, index, "prune", "--older-than", "soon").stderr


def test_a_build_of_the_server_is_waited_for(api: Api, index: Index, tmp_path: Path) -> None:
    """A session and the command wait for one build, and both end with the same layer."""
    index.held = threading.Event()
    environment_id = made(api, pip=["hostler_wheel"])
    session = api.post("/v1/sessions", {"agent": api.agent()["id"], "environment_id": environment_id})["id"]
    assert index.reached.wait(30)
    arguments = ("environments", "build", environment_id, "--json", "--data-dir", api.server.data_dir)
    waiting = spawn(*arguments, environ=environment(index))
    assert waiting.stdout is not None
    first = records(waiting.stdout.readline())
    assert first[0]["type"] == "progress"  # what the server's build says
    index.held.set()
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert records(out)[-1]["ok"]
    events = api.turn(str(session), "run: python3 -c 'import hostler_wheel as w; print(w.VERSION)'")
    assert errors(events) == []
    assert sum(path.endswith("hostler_wheel-1.0-py3-none-any.whl") for path in index.asked) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("environments", "build", "env_1"),
        ("environments", "layers"),
        ("environments", "prune"),
        ("environments", "keys", "list", "env_1"),
        ("sessions", "egress", "sesn_1"),
    ],
    ids=" ".join,
)
def test_a_data_folder_that_is_not_there_is_not_made(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    wrong = tmp_path / "wrong"
    assert f"There is no data folder {wrong}" in complaint(hostler(*arguments, "--data-dir", wrong))
    assert not wrong.exists()


def test_a_session_without_connections_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    done = hostler("sessions", "egress", "sesn_1", "--data-dir", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"No connections of sesn_1 are written down in {tmp_path}" in done.stderr
