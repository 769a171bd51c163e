"""A credential of a vault is used by an agent's command through the real server, and never seen by it.

The site is the tests' own on 127.0.0.2, which the operator's config names as a private host.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path

from edge_world import VALUE, make_certificate, serve_site

from commands.command import hostler, records
from failures.client import Api, results
from running import Server

HOST = "127.0.0.2"  # not 127.0.0.1: sandboxes don't use the proxy for that, which is their own


def test_from_the_vault_to_the_site(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, addresses=[HOST])
    with serve_site(tmp_path, HOST) as (port, seen):
        config = f'[sandbox]\nallow_private_hosts = ["{HOST}:{port}"]\n'
        environ = {"SSL_CERT_FILE": str(certificate)}
        with Server(tmp_path / "data", config=config, environ=environ) as server, Api(server) as api:
            vault = api.post("/v1/vaults", {"display_name": "v"})["id"]
            networking = {"type": "limited", "allowed_hosts": [HOST]}
            auth = {"type": "environment_variable", "secret_name": "TOKEN", "secret_value": VALUE}
            credential = api.post(f"/v1/vaults/{vault}/credentials", {"auth": {**auth, "networking": networking}})
            config_of = {"type": "cloud", "networking": networking}
            environment = api.post("/v1/environments", {"name": "limited", "config": config_of})
            session = api.session(vault_ids=[vault], environment_id=environment["id"])
            command = (
                f'run: curl -sS -H "X-Key: $TOKEN" https://{HOST}:{port}/; '
                f"curl -sS https://{HOST}:{port + 1 if port < 65535 else 1}/; curl -sS https://example.com/; "
                "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt"
            )
            (result,) = results(api.turn(session, command))
            text = result["content"][0]["text"]
            assert seen == [VALUE]
            assert VALUE not in text
            assert "you sent secret_placeholder_" in text
            log = records(hostler("sessions", "egress", session, "--data-dir", server.data_dir, "--json").stdout)
            check_log(log, port, credential["id"])
            words = hostler("sessions", "egress", session, "--data-dir", server.data_dir).stdout
            assert f"allowed https {HOST}:{port}" in " ".join(words.split())
            assert VALUE not in words + server.log()
            fork = api.post(f"/v1/sessions/{session}/fork", {})["id"]  # its shell has the placeholder from before
            results(api.turn(fork, f'run: curl -sS -H "X-Key: $TOKEN" https://{HOST}:{port}/'))
            assert seen == [VALUE, VALUE]
            folder = server.data_dir / "egress"
            assert stat.S_IMODE((folder / "authority.pem").stat().st_mode) == 0o600
            api.http.delete(f"/v1/sessions/{session}").raise_for_status()
            wait_until(lambda: not list((folder / "log").glob(f"{session}*")))


def wait_until(holds: Callable[[], bool]) -> None:
    """The sandbox goes a moment after the answer, and its log with it."""
    for _ in range(500):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError


def check_log(log: list[dict[str, object]], port: int, credential: str) -> None:
    first, second, third = log
    assert (first["host"], first["port"], first["kind"], first["verdict"]) == (HOST, port, "https", "allowed")
    assert first["credentials"] == [credential]
    assert int(str(first["sent"])) > 300
    assert second["verdict"] == "refused"
    assert (third["host"], third["verdict"]) == ("example.com", "refused")
    assert "not among the hosts" in str(third["reason"])
