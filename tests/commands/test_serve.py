"""`hostler serve`: what it says at its first start, and the one clear line with which it refuses to start at all."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from commands.command import complaint, hostler, spawn
from hostler.settings import load
from running import Server

EXPORTS = re.compile(r"^export (ANTHROPIC_(?:BASE_URL|API_KEY))=(\S+)$", re.MULTILINE)


@contextmanager
def serving(*arguments: object, environ: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """A server on a free port; yields all that it printed when it was ready, and checks that it prints no more."""
    process = spawn("serve", "--port", 0, *arguments, environ=environ, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    printed = {"text": ""}
    try:
        for line in process.stdout:
            printed["text"] += line
            if "listens on" in line:
                printed["url"] = line.split()[-1]
                httpx2.get(f"{printed['url']}/healthz").raise_for_status()
                break
        yield printed
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        printed["text"] += process.stdout.read()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def answer(url: str, key: str) -> int:
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}
    return httpx2.get(f"{url}/v1/agents", headers=headers).status_code


def test_the_first_start_shows_a_key_once(tmp_path: Path) -> None:
    with serving("--data-dir", tmp_path / "data", "--scripted") as first:
        pass
    said = dict(EXPORTS.findall(first["text"]))
    assert first["text"].count("sk-hostler-") == 1
    assert said["ANTHROPIC_BASE_URL"] == first["url"]
    assert "built-in script" in first["text"]
    with serving("--data-dir", tmp_path / "data") as second:
        assert answer(second["url"], said["ANTHROPIC_API_KEY"]) == 200
        assert answer(second["url"], said["ANTHROPIC_API_KEY"] + "x") == 401
    assert "sk-hostler-" not in second["text"]
    assert EXPORTS.findall(second["text"]) == []
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("hostler.db*"))
    assert said["ANTHROPIC_API_KEY"].encode() not in stored


def test_a_server_without_a_model_key_says_so_and_does_not_pretend(tmp_path: Path) -> None:
    with serving("--data-dir", tmp_path / "data", environ={"HOSTLER_API_KEY": "k"}) as said:
        headers = {"x-api-key": "k", "anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}
        with httpx2.Client(base_url=said["url"], headers=headers) as api:
            agent = api.post("/v1/agents", json={"name": "a", "model": "claude-sonnet-5-5"}).json()
            environment = api.post("/v1/environments", json={"name": "e"}).json()
            body = {"agent": agent["id"], "environment_id": environment["id"]}
            session = api.post("/v1/sessions", json=body).json()["id"]
            with api.stream("GET", f"/v1/sessions/{session}/events/stream") as stream:
                content = [{"type": "text", "text": "say: hello"}]
                api.post(
                    f"/v1/sessions/{session}/events", json={"events": [{"type": "user.message", "content": content}]}
                )
                for line in stream.iter_lines():
                    if line == "event: session.status_idle":
                        break
            events = api.get(f"/v1/sessions/{session}/events").json()["data"]
    assert "no key is set" in said["text"]
    assert "HOSTLER_MODEL_API_KEY" in said["text"]
    (error,) = [event["error"] for event in events if event["type"] == "session.error"]
    assert error["retry_status"] == {"type": "exhausted"}
    assert "HOSTLER_MODEL_API_KEY" in error["message"]
    assert "agent.message" not in [event["type"] for event in events]


def test_the_environment_fixes_the_key(tmp_path: Path) -> None:
    environ = {"HOSTLER_API_KEY": "my-own-key", "HOSTLER_MODEL_API_KEY": "sk-ant-x"}
    with serving("--data-dir", tmp_path / "data", environ=environ) as said:
        assert answer(said["url"], "my-own-key") == 200
        assert answer(said["url"], "another") == 401
    assert "key" not in said["text"]
    assert "script" not in said["text"]


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        why = complaint(hostler("serve", "--port", port, "--data-dir", tmp_path / "data"))
    assert f"127.0.0.1 port {port}" in why
    assert "--port" in why


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    assert "192.0.2.1" in complaint(hostler("serve", "--host", "192.0.2.1", "--port", 0, "--data-dir", tmp_path / "d"))


def test_two_servers_on_one_data_folder(tmp_path: Path) -> None:
    with Server(tmp_path / "data", preload=False) as first:
        why = complaint(hostler("serve", "--port", 0, "--data-dir", tmp_path / "data"))
        assert str(tmp_path / "data") in why
        assert "Another server" in why
        assert httpx2.get(f"{first.base_url}/healthz").status_code == 200
        why = complaint(hostler("record", "x", "--output", tmp_path / "s.json", "--data-dir", tmp_path / "data"))
        assert "Another server" in why
        # A killed server holds nothing.
        first.kill()
        first.start()


def test_data_folders_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (Path("/proc"), Path("/proc/hostler"), tmp_path / "file" / "data"):  # refused to root, too
        why = complaint(hostler("serve", "--port", 0, "--data-dir", folder))
        assert str(folder) in why
        assert "--data-dir" in why
    assert "Traceback" not in hostler("serve", "--port", 0, "--data-dir", tmp_path / "file").stderr


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[server]\nport =\n", ["not valid TOML", "line 2"]),
        ("\x00", ["not valid TOML"]),
        ("port = 1\n", ["port"]),
        ("[sever]\n", ["[sever]", "server"]),
        ("[server]\nprot = 1\n", ["[server]", "prot"]),
        ('[server]\nport = "x"\n', ["[server]", "$.port"]),
        ("[server]\nport = 70000\n", ["[server]", "$.port"]),
        ("[server]\nfile_mb = 0\n", ["[server]", "$.file_mb"]),
        ("[harness]\nmodel_attempts = 1.5\n", ["[harness]", "$.model_attempts"]),
        ("[harness]\nretries = 1\n", ["[harness]", "retries"]),
        ("harness = 3\n", ["harness"]),
        ("[sandbox]\nmemory = 1\n", ["[sandbox]", "memory"]),
        ("[[models.route]]\nprovder = 'x'\n", ["[models]", "provder", "$.route[0]"]),
        ("[[models.route]]\nprovider = 'x'\n", ["models.route[0].provider", "'x'"]),
        ("[[models.route]]\nbase_url = 'localhost:3'\n", ["models.route[0].base_url"]),
        (
            "[[models.route]]\nprovider = 'script'\noptions = { file = 'no/such.json' }\n",
            ["models.route[0]", "such.json", "No such file"],
        ),
        ("[[models.route]]\nprovider = 'openai'\noptions = { x = 1 }\n", ["models.route[0]", "x"]),
        ("[models.price.m]\ninput = -1\noutput = 1\n", ["[models]", "input"]),
        ("[models]\nroute = 1\n", ["[models]", "$.route"]),
    ],
)
def test_config_files_that_are_wrong(tmp_path: Path, config: str, words: list[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text(config)
    why = complaint(hostler("serve", "--port", 0, "--data-dir", tmp_path / "data", "--config", file))
    assert [word for word in (str(file), *words) if word not in why] == []


def test_a_config_file_that_does_not_exist(tmp_path: Path) -> None:
    assert "none.toml" in complaint(hostler("serve", "--port", 0, "--config", tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOSTLER_PORT", "x"),
        ("HOSTLER_PORT", "²"),
        ("HOSTLER_MODEL_BASE_URL", "localhost"),
        ("HOSTLER_HOST", "no host"),
    ],
)
def test_variables_that_are_wrong(tmp_path: Path, name: str, value: str) -> None:
    environ = {"HOSTLER_PORT": "0", name: value}
    why = complaint(hostler("serve", "--data-dir", tmp_path / "data", environ=environ))
    assert value in why
    assert "None" not in why


def test_a_key_of_ours_is_no_model_key(tmp_path: Path) -> None:
    """Whoever has pasted the two lines that `serve` prints, and starts the server again there."""
    for key, expected in (("sk-hostler-abc", ""), ("sk-ant-abc", "sk-ant-abc")):
        assert load(data_dir=tmp_path, environ={"ANTHROPIC_API_KEY": key}).model_api_key == expected
