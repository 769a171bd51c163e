"""`hostler doctor`: what it finds, how it says so, and with what it ends."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from commands.command import complaint, hostler


def checks(*arguments: object, environ: dict[str, str] | None = None) -> tuple[int, dict[str, dict[str, Any]]]:
    done = hostler("doctor", "--json", *arguments, environ=environ)
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    for check in found:
        assert set(check) == {"name", "ok", "required", "detail", "remedy"}
        assert check["detail"]
        assert check["ok"] or check["remedy"], check
    return done.returncode, {check["name"]: check for check in found}


def config(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file


def test_a_machine_that_is_fit(tmp_path: Path) -> None:
    code, found = checks("--data-dir", tmp_path / "data", "--port", 0)
    assert [name for name, check in found.items() if check["required"] and not check["ok"]] == []
    assert code == 0
    assert {"data folder", "disk", "database", "port 0", "model *"} <= set(found)
    assert any(name.startswith("sandbox") for name in found)
    assert not found["model *"]["ok"]  # no key, and yet not required
    assert not (tmp_path / "data").exists()  # it looks and changes nothing


def test_what_a_person_reads(tmp_path: Path) -> None:
    done = hostler("doctor", "--data-dir", tmp_path / "data", "--port", 0)
    assert done.returncode == 0
    assert f"ok   data folder: {tmp_path / 'data'}" in done.stdout
    assert "--   model *: anthropic" in done.stdout
    assert "       mend: set HOSTLER_MODEL_API_KEY" in done.stdout


def test_what_makes_a_server_impossible(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, found = checks("--data-dir", tmp_path / "file" / "data", "--port", 0)
    assert code == 1
    assert not found["data folder"]["ok"]
    done = hostler("doctor", "--data-dir", tmp_path / "file" / "data", "--port", 0)
    assert done.returncode == 1
    assert "FAIL data folder" in done.stdout

    code, found = checks("--data-dir", tmp_path / "d", "--port", 0, "--database", "postgresql://127.0.0.1:1/x")
    assert code == 1
    assert not found["database"]["ok"]


def test_no_sandbox(tmp_path: Path) -> None:
    code, found = checks(
        "--data-dir", tmp_path / "d", "--port", 0, "--config", config(tmp_path, '[sandbox]\nbackend = "none"\n')
    )
    assert not found["sandbox"]["ok"]
    assert "none" in found["sandbox"]["detail"]
    assert code == 0  # it was asked for
    code, found = checks(
        "--data-dir", tmp_path / "d", "--port", 0, "--config", config(tmp_path, '[sandbox]\nbackend = "no.such:x"\n')
    )
    assert "no.such" in found["sandbox"]["detail"]
    assert code == 1


def test_a_port_in_use_is_no_fault(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, found = checks("--data-dir", tmp_path / "d", "--port", port)
    assert not found[f"port {port}"]["ok"]
    assert code == 0


def test_models_and_keys(tmp_path: Path) -> None:
    file = config(tmp_path, '[[models.route]]\npattern = "k-*"\napi_key_env = "NOT_SET_HERE"\n')
    environ = {"ANTHROPIC_API_KEY": "sk-ant-secret-key", "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}
    code, found = checks("--data-dir", tmp_path / "d", "--port", 0, "--config", file, environ=environ)
    assert not found["model k-*"]["ok"]
    assert found["model *"]["ok"]
    assert "127.0.0.1:1" not in json.dumps(found)
    assert "sk-ant-secret" not in json.dumps(found)
    assert code == 1


def test_a_config_file_that_is_wrong(tmp_path: Path) -> None:
    assert "prot" in complaint(hostler("doctor", "--config", config(tmp_path, "[server]\nprot = 1\n")))
    code, found = checks("--data-dir", tmp_path / "d", "--port", 0, "--config", config(tmp_path, "[harness]\nx = 1\n"))
    assert code == 1
    assert "[harness]" in found["config"]["detail"]


def test_programs_of_mcp_servers(tmp_path: Path) -> None:
    file = config(
        tmp_path,
        """
        [mcp.stdio.here]
        command = "sh"
        [mcp.stdio.gone]
        command = "no-such-program"
        [mcp.stdio.bare]
        command = "sh"
        env_from = ["NOBODY_SETS_THIS"]
        """,
    )
    _, found = checks("--data-dir", tmp_path / "d", "--port", 0, "--config", file)
    assert found["mcp here"]["ok"]
    assert "is not found" in found["mcp gone"]["detail"]
    assert "NOBODY_SETS_THIS" in found["mcp bare"]["detail"]
    assert not found["mcp bare"]["required"]


def test_web_search(tmp_path: Path) -> None:
    common = ("--data-dir", tmp_path / "d", "--port", 0)
    code, found = checks(*common)
    assert not found["web search"]["ok"]
    assert "web_search is not offered" in found["web search"]["detail"]
    assert "`search`" in found["web search"]["remedy"]
    assert code == 0

    file = config(tmp_path, '[web]\nsearch = "brave"\nsearch_key_env = "MY_BRAVE_KEY"\n')
    _, found = checks(*common, "--config", file)
    assert "no key is set" in found["web search"]["detail"]
    _, found = checks(*common, "--config", file, environ={"MY_BRAVE_KEY": "secret-of-brave"})
    assert found["web search"]["ok"]
    assert "secret-of-brave" not in json.dumps(found)

    route = '[[models.route]]\npattern = "*"\nprovider = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n'
    _, found = checks(*common, "--config", config(tmp_path, f'[web]\nsearch = "anthropic"\n{route}'))
    assert "routed to openai" in found["web search"]["detail"]
    code, found = checks(*common, "--config", config(tmp_path, '[web]\nsearch = "searxng"\n'))
    assert code == 1
    assert "[web]" in found["config"]["detail"]
