"""Tokens of a session's vaults: which server gets them, when they are looked up, and that nothing shows them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from stage import AGENT, Stage

from contract.world import only
from databases import Databases
from hostler.harness.loop import advance
from hostler.harness.mcp_tools import McpTools
from hostler.harness.served import Offer
from hostler.ids import new_id
from hostler.mcp.config import McpConfig
from hostler.mcp.pool import Pool
from hostler.vault.bearer import Bearer
from mcptools.conftest import Serve, Start
from mcptools.processes import Process, calls
from mcptools.test_turns import SCRIPT, session

SECRET = "canary-token"


class Vault:
    """A vault whose token for any server is rotated by tests; `spare` is what a refresh gives."""

    def __init__(self, token: str | None, spare: str | None = None) -> None:
        self.token = token
        self.spare = spare
        self.asked: list[tuple[list[str], str]] = []
        self.rejected: list[str] = []

    async def authorization(self, vault_ids: Sequence[str], server_url: str) -> Bearer | None:
        self.asked.append((list(vault_ids), server_url))
        return held(self.token) if self.token is not None else None

    async def refreshed(self, bearer: Bearer, rejected_token: str) -> Bearer | None:
        self.rejected.append(rejected_token)
        return held(self.spare) if self.spare is not None else None


def held(token: str) -> Bearer:
    return Bearer(token, "vcrd_1", "vlt_1")


def play(folder: Path, vault: Vault, url: str, *turns: Any, script: dict[str, Any] = SCRIPT) -> list[dict[str, Any]]:
    """Turns of one session of two vaults; a turn is a text, or something to do before the next. Returns its events."""

    async def main() -> list[dict[str, Any]]:
        stage = await Stage.open(folder, script)
        pool = Pool(McpConfig(), dict(os.environ))
        tools = McpTools(pool, vault)
        deps = msgspec.structs.replace(stage.deps, served=(tools,))
        await stage.set(agent=msgspec.json.encode(agent(url)), vault_ids=b'["vlt_1", "vlt_2"]')
        try:
            for turn in turns:
                if callable(turn):
                    turn()
                    continue
                await stage.say(turn)
                await advance(await stage.wake(), deps)
            return await stage.events()
        finally:
            await pool.aclose()
            await stage.store.close()

    return asyncio.run(main())


def agent(url: str) -> dict[str, Any]:
    toolset = {
        "type": "mcp_toolset",
        "mcp_server_name": "real",
        "configs": [],
        "default_config": {"enabled": True, "permission_policy": {"type": "always_allow"}},
    }
    return {**AGENT, "tools": [toolset], "mcp_servers": [{"type": "url", "name": "real", "url": url}]}


def errors(events: list[dict[str, Any]]) -> list[str]:
    return [event["error"]["type"] for event in events if event["type"] == "session.error"]


def guarded(start: Start, folder: Path, token: str) -> tuple[Process, Path]:
    """A server, and the file that says which token it wants at the moment."""
    wanted = folder / "wanted"
    wanted.write_text(token)
    return start("http", "--token", str(wanted)), wanted


def test_the_token_of_the_session_s_vaults_is_sent(start: Start, tmp_path: Path) -> None:
    real, _ = guarded(start, tmp_path, SECRET)
    vault = Vault(SECRET)
    events = play(tmp_path, vault, real.url, "add")
    assert errors(events) == []
    assert real.noted() == ["add 1 2"]
    assert vault.asked == [(["vlt_1", "vlt_2"], real.url)]
    assert SECRET not in str(events)
    assert SECRET.encode() not in (tmp_path / "db").read_bytes()


def test_what_was_rotated_holds_from_the_next_turn_on(start: Start, tmp_path: Path) -> None:
    real, wanted = guarded(start, tmp_path, "one")
    vault = Vault("one")

    def rotate() -> None:
        vault.token = "two"
        wanted.write_text("two")

    events = play(tmp_path, vault, real.url, "add", rotate, "add")
    assert (errors(events), vault.rejected) == ([], [])
    assert real.noted() == ["add 1 2"] * 2


def test_a_token_that_was_taken_away_is_not_sent_again(start: Start, tmp_path: Path) -> None:
    real, _ = guarded(start, tmp_path, "one")
    vault = Vault("one")

    def archive() -> None:
        vault.token = None

    events = play(tmp_path, vault, real.url, "add", archive, "add")
    assert real.noted() == ["add 1 2"]
    assert "did not authorize" in str([event for event in events if event["type"] == "agent.mcp_tool_result"][-1])
    assert errors(events) == ["mcp_authentication_failed_error"]


def test_a_refused_token_is_refreshed_and_the_call_runs_once(start: Start, tmp_path: Path) -> None:
    real, _ = guarded(start, tmp_path, "new")
    vault = Vault("old", spare="new")
    events = play(tmp_path, vault, real.url, "add")
    assert (errors(events), vault.rejected) == ([], ["old"])
    assert real.noted() == ["add 1 2"]


def test_a_refresh_that_fails_is_told_to_the_client(start: Start, tmp_path: Path) -> None:
    real, _ = guarded(start, tmp_path, "other")
    events = play(tmp_path, Vault("old"), real.url, "say: On.")
    assert errors(events) == ["mcp_authentication_failed_error"]
    assert events[-1]["stop_reason"] == {"type": "end_turn"}


def test_no_credential_means_no_header(start: Start, tmp_path: Path) -> None:
    real = start()
    play(tmp_path, Vault(None), real.url, "add")
    assert {line.split()[-1] for line in real.requests()} == {"-"}


def test_an_agent_without_servers_asks_nobody(tmp_path: Path) -> None:
    vault = Vault(SECRET)

    async def main() -> None:
        stage = await Stage.open(tmp_path, calls())
        pool = Pool(McpConfig(), {})
        await stage.say("say: x")
        wake = await stage.wake()
        assert McpTools(pool, vault).offer(wake.primary) == Offer()
        await pool.aclose()
        await stage.store.close()

    asyncio.run(main())
    assert vault.asked == []


def test_a_vault_of_the_api(serve: Serve, start: Start, tmp_path: Path, databases: Databases) -> None:
    """The whole way: a credential is added, rotated and archived while the session is in use."""
    world = serve(scripted=SCRIPT, database=databases.url(new_id("t").lower()))
    real, wanted = guarded(start, tmp_path, SECRET)
    vault = world.beta.vaults.create(display_name="v")
    session_id = session(world, real.url, created={"vault_ids": [vault.id]})
    (problem,) = only(world.turn(session_id, "say: x"), "session.error")
    assert problem.error.type == "mcp_authentication_failed_error"

    auth = {"type": "static_bearer", "mcp_server_url": real.url, "token": SECRET}
    credential = world.beta.vaults.credentials.create(vault.id, auth=auth)
    events = world.turn(session_id, "add")
    assert (world.last_text(session_id), only(events, "session.error")) == ("3", [])

    wanted.write_text(f"{SECRET}-2")
    rotated = {"type": "static_bearer", "token": f"{SECRET}-2"}
    world.beta.vaults.credentials.update(credential.id, vault_id=vault.id, auth=rotated)
    world.turn(session_id, "add")
    assert real.noted() == ["add 1 2"] * 2

    world.beta.vaults.credentials.archive(credential.id, vault_id=vault.id)
    events = world.turn(session_id, "add")
    assert only(events, "agent.mcp_tool_result")[0].is_error is True
    assert real.noted() == ["add 1 2"] * 2
    assert SECRET not in str(world.raw(session_id))
    world.server.stop()
    for file in [path for path in (tmp_path / "data").rglob("*") if path.is_file()] + [world.server.log_file]:
        assert SECRET.encode() not in file.read_bytes(), file
