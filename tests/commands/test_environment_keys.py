"""`hostler environments keys` beside a running server, on both databases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2

from commands.command import complaint, hostler
from databases import Databases
from hostler.ids import new_id
from running import Server


def test_keys_of_workers_beside_a_running_server(tmp_path: Path, databases: Databases) -> None:
    url = databases.url(new_id("t").lower())
    place = ["--data-dir", tmp_path / "data", *(["--database", url] if url else [])]

    def keys(*arguments: object) -> Any:
        done = hostler("environments", "keys", *arguments, *place)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with Server(tmp_path / "data", database=url) as server:
        made = httpx2.post(
            f"{server.base_url}/v1/environments",
            headers=server.headers,
            json={"name": "mine", "config": {"type": "self_hosted"}},
        ).json()
        environment = made["id"]
        poll = f"{server.base_url}/v1/environments/{environment}/work/poll"

        def polled(key: str) -> int:
            return httpx2.get(poll, headers={**server.headers, "authorization": f"Bearer {key}"}).status_code

        for name in ("", "n" * 257):
            assert "1 to 256 characters" in complaint(
                hostler("environments", "keys", "create", environment, name, *place)
            )
        plain = keys("create", environment).strip()
        named = json.loads(keys("create", environment, "second", "--json"))
        assert plain.startswith("sk-ant-oat01-")
        assert polled(plain) == polled(named["key"]) == 200
        listed = {key["name"]: key for key in json.loads(keys("list", environment, "--json"))}
        assert set(listed) == {"worker", "second"}
        assert "key" not in listed["second"]
        assert listed["second"]["hint"] == named["key"][-4:]
        assert named["id"] in keys("revoke", environment, named["id"])
        assert (polled(plain), polled(named["key"])) == (200, 401), "from the next request on"
        table = keys("list", environment)
        assert "revoked" in next(line for line in table.splitlines() if named["id"] in line)
        assert plain not in table
        assert "envkey_x" in complaint(hostler("environments", "keys", "revoke", environment, "envkey_x", *place))
        assert "env_x" in complaint(hostler("environments", "keys", "create", "env_x", *place))
