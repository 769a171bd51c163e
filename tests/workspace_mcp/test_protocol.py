"""HTTP at /mcp: what is refused before anything is read, what is bounded, and that nothing is kept between requests."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from running import Server
from workspace_mcp.mcp_world import Caller

HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
PING = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})


def post(server: Server, content: str | bytes = PING, path: str = "/mcp", **headers: str) -> httpx2.Response:
    with httpx2.Client(trust_env=False, timeout=30) as http:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        signed = {**HEADERS, "authorization": f"Bearer {server.key}", **named}
        return http.post(f"{server.base_url}{path}", content=content, headers=signed)


def test_only_post_is_answered(server: Server) -> None:
    with httpx2.Client(trust_env=False, timeout=60) as http:
        for method in ("GET", "DELETE", "PUT"):
            answer = http.request(method, f"{server.base_url}/mcp", headers={"x-api-key": server.key, **HEADERS})
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert post(server, path="/mcp/").status_code == 200
    assert post(server, path="/mcp/else").status_code == 404


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1:1"]
)
def test_pages_of_other_sites_are_refused(server: Server, origin: str) -> None:
    answer = post(server, origin=origin)
    assert answer.status_code == 403
    assert "public_url" in answer.json()["message"]


def test_names_that_were_bent_to_this_machine_are_refused(server: Server) -> None:
    port = server.base_url.rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1:1", ""):
        assert post(server, host=host).status_code in (400, 403), host
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert post(server, host=host).status_code == 200
    assert post(server, origin=f"http://localhost:{port}").status_code == 200


def test_what_is_no_message_is_refused(server: Server) -> None:
    for content in ("", "{", "[]", "null", "1" * 5000, '{"jsonrpc": "2.0"}', "[" * 100_000):
        assert post(server, content).status_code == 400, content[:20]
    assert post(server, "x" * (8 * 1024 * 1024 + 1)).status_code == 413
    call = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ntro_task_get","arguments":{"task_id":%s}}}'
    answer = post(server, call % '"\\ud800"')
    assert answer.status_code == 400 or "isError" in answer.text or "error" in answer.text
    assert "Traceback" not in server.log()


def test_a_restart_in_mid_session_is_not_noticed(server: Server) -> None:
    async def work(client: Any) -> Any:
        before = (await client.call_tool("ntro_whoami", {})).structured_content
        server.restart()
        return before, (await client.call_tool("ntro_whoami", {})).structured_content

    for mode in ("auto", "legacy"):
        before, after = Caller(server.base_url, server.key, mode=mode).talk(work)
        assert before == after
        assert before["kind"] == "server"


def test_many_at_once_each_get_their_own_answer(server: Server, boss: Caller) -> None:
    async def work(client: Any) -> Any:
        import anyio

        got: dict[int, str] = {}

        async def ask(number: int) -> None:
            result = await client.call_tool("ntro_task_get", {"task_id": f"task-{number}"})
            got[number] = result.content[0].text

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(ask, number)
        return got

    assert boss.talk(work) == {number: f"Task task-{number} was not found." for number in range(50)}
