"""`hostler keys rotate-secrets` on a real data folder: refused beside a server, safe when killed, no secret lost."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx2

from commands.command import complaint, hostler, records, spawn
from credentials import auth_of
from databases import Databases
from hostler.ids import new_id
from hostler.vault.sealing import Key
from running import Server
from serving import ok
from tokens import McpServer


def client(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=30)


def fill(http: httpx2.Client, *auths: dict[str, Any]) -> list[str]:
    vault = f"/v1/vaults/{ok(http.post('/v1/vaults', json={'display_name': 'v'}))['id']}/credentials"
    return [f"{vault}/{ok(http.post(vault, json={'auth': auth}))['id']}" for auth in auths]


def status(http: httpx2.Client, credential: str) -> str:
    """What a probe with the stored token says: it is only valid when the secret opens."""
    return str(ok(http.post(f"{credential}/mcp_oauth_validate"))["status"])


def test_rotation(tmp_path: Path, databases: Databases) -> None:
    data, url = tmp_path / "data", databases.url(new_id("t").lower())
    place = ["--data-dir", data, *(["--database", url] if url else [])]
    server = Server(data, database=url)
    with McpServer("s3cret-access") as mcp, server:
        with client(server) as http:
            (credential,) = fill(http, auth_of("mcp_oauth", mcp_server_url=mcp.url, refresh=None))
            assert status(http, credential) == "valid"
        assert "stop it" in complaint(hostler("keys", "rotate-secrets", *place))
        before = (data / "secret.key").read_bytes()
        server.stop()
        plain = hostler("keys", "rotate-secrets", *place)
        assert (plain.returncode, plain.stderr.splitlines()) == (0, ["vault_credentials: 1 of 1"])
        assert "Sealed anew: 1." in plain.stdout
        assert (data / "secret.key").read_bytes() != before
        told = records(hostler("keys", "rotate-secrets", "--json", *place).stdout)
        assert [line["type"] for line in told] == ["progress", "rotation"]
        assert {**told[1], "key_id": ""} == {
            "type": "rotation", "key_id": "", "resealed": 1, "resumed": False, "configured": False, "file_left": False,
        }  # fmt: skip
        server.start()
        with client(server) as http:
            assert status(http, credential) == "valid"
        server.stop()
        key = Key.new()
        moved = hostler("keys", "rotate-secrets", *place, environ={"HOSTLER_SECRET_KEY": key.text})
        assert "remove it" in moved.stdout
        assert key.id.hex() in moved.stdout
        assert key.text not in moved.stdout
        # With the file's key alone the server does not start, and says what is missing.
        failed = hostler("serve", "--port", 0, *place)
        assert key.id.hex() in complaint(failed)
        (data / "secret.key").unlink()
        assert "HOSTLER_SECRET_KEY" in complaint(hostler("serve", "--port", 0, *place))
        assert not (data / "secret.key").exists()


def test_killed_again_and_again(tmp_path: Path) -> None:
    """SIGKILL after the first progress: what was told is done, and the next run goes on."""
    data = tmp_path / "data"
    server = Server(data)
    with McpServer("s3cret-access") as mcp, server:
        with client(server) as http:
            auths = [auth_of("environment_variable", secret_name=f"N{n}") for n in range(19)]
            for _ in range(15):
                fill(http, *auths)
            (credential,) = fill(http, auth_of("mcp_oauth", mcp_server_url=mcp.url, refresh=None))
        server.stop()
        for _ in range(2):
            process = spawn("keys", "rotate-secrets", "--json", "--data-dir", data)
            assert process.stdout is not None
            line = process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert json.loads(line)["type"] in ("progress", "rotation")
            server.start()
            with client(server) as http:
                assert status(http, credential) == "valid"
            server.stop()
        done = hostler("keys", "rotate-secrets", "--json", "--data-dir", data)
        assert records(done.stdout)[-1]["type"] == "rotation"
        keys = [line for line in (data / "secret.key").read_text().splitlines() if not line.startswith("#")]
        assert len(keys) == 1
        server.start()
        with client(server) as http:
            assert status(http, credential) == "valid"


def test_help_teaches() -> None:
    said = " ".join(hostler("keys", "rotate-secrets", "--help").stdout.split())
    for word in ("Stop the server", "HOSTLER_SECRET_KEY=NEW,OLD", "openssl rand -base64 32", "interrupted", "Backups"):
        assert word in said


def test_doctor(tmp_path: Path) -> None:
    def check(**environ: str) -> dict[str, Any]:
        done = hostler("doctor", "--json", "--port", 0, "--data-dir", tmp_path / "data", environ=environ)
        (found,) = [check for check in json.loads(done.stdout) if check["name"] == "secret key"]
        assert found["ok"] or found["remedy"]
        return dict(found)

    assert "none yet" in check()["detail"]
    key = Key.new()
    assert check(HOSTLER_SECRET_KEY=key.text)["detail"] == f"{key.id.hex()}, from HOSTLER_SECRET_KEY"
    wrong = check(HOSTLER_SECRET_KEY="hunter2")
    assert not wrong["ok"]
    assert "hunter2" not in json.dumps(wrong)
    with Server(tmp_path / "data"):
        pass
    file = tmp_path / "data" / "secret.key"
    assert check()["ok"]
    assert str(file) in check()["detail"]
    file.chmod(0o644)
    assert check()["remedy"] == f"chmod 600 {file}"
    file.chmod(0o600)
    file.write_text(f"{key.text}\n{file.read_text()}")
    assert "rotate-secrets" in check()["remedy"]
