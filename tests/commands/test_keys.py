"""`hostler keys` beside a running server, on both databases."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx2

from commands.command import complaint, hostler
from databases import Databases
from hostler.ids import new_id
from running import Server

HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}


def answer(server: Server, key: str) -> int:
    return httpx2.get(f"{server.base_url}/v1/agents", headers={**HEADERS, "x-api-key": key}).status_code


def test_keys_beside_a_running_server(tmp_path: Path, databases: Databases) -> None:
    url = databases.url(new_id("t").lower())
    place = ["--data-dir", tmp_path / "data", *(["--database", url] if url else [])]

    def keys(*arguments: object) -> Any:
        done = hostler("keys", *arguments, *place)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with Server(tmp_path / "data", database=url) as server:
        made = json.loads(keys("create", "mine", "--json"))
        plain = keys("create").strip()
        assert answer(server, made["key"]) == answer(server, plain) == 200

        listed = {key["name"]: key for key in json.loads(keys("list", "--json"))}
        assert listed["mine"]["hint"] == made["key"][-4:]
        assert listed["mine"]["revoked_at"] is None
        table = keys("list")
        assert made["id"] in table
        assert made["key"] not in table
        assert plain not in table

        assert made["id"] in keys("revoke", made["id"])
        until = time.monotonic() + 10
        while answer(server, made["key"]) == 200:
            assert time.monotonic() < until, "a revoked key still works"
            time.sleep(0.2)
        assert answer(server, made["key"]) == 401
        assert answer(server, plain) == 200
        assert "revoked" in next(line for line in keys("list").splitlines() if made["id"] in line)
        assert "apikey_x" in complaint(hostler("keys", "revoke", "apikey_x", *place))
