"""The same contract through an SDK of the 0.12x generation, which can't share an interpreter with 2.x.

Run as `python old_sdk.py BASE_URL KEY` with that SDK installed; prints one line of JSON for each scenario. The tests
import only the names of the scenarios, so nothing but the standard library may be imported at the top.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import Any

WEATHER = {
    "type": "custom",
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
BUILTINS = {"type": "agent_toolset_20260401"}
IDLE = "session.status_idle"
SILENCE = 20.0


def message(text: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


class Client:
    """The SDK, strict, and what scenarios need again and again."""

    def __init__(self, base_url: str, key: str) -> None:
        import anthropic

        self.anthropic = anthropic
        self.named = {"base_url": base_url, "api_key": key, "timeout": SILENCE, "_strict_response_validation": True}
        self.sdk = anthropic.Anthropic(**self.named)
        self.beta = self.sdk.beta
        self.environment = self.beta.environments.create(name="old").id

    def session(self, *tools: Any, **fields: Any) -> str:
        model = fields.pop("model", "claude-opus-5-5")
        agent = self.beta.agents.create(name="Old", model=model, tools=list(tools)).id
        return str(self.beta.sessions.create(agent=agent, environment_id=self.environment, **fields).id)

    def turn(self, session_id: str, *events: Any, **query: Any) -> list[Any]:
        """Open the stream, send, and read up to the idle event."""
        got = []
        with self.beta.sessions.events.stream(session_id, **query) as stream:
            self.beta.sessions.events.send(session_id, events=list(events))
            for event in stream:
                got.append(event)
                if event.type == IDLE:
                    return got
        raise AssertionError(f"the stream ended after {[event.type for event in got]}")

    def check(self, session_id: str, *kinds: str) -> None:
        """These types are in the list, and the list as a whole is valid."""
        listed = [event.type for event in self.beta.sessions.events.list(session_id)]
        missing = set(kinds) - set(listed)
        assert not missing, f"{missing} not in {listed}"
        for kind in kinds:
            assert {event.type for event in self.beta.sessions.events.list(session_id, types=[kind])} == {kind}


def of(events: list[Any], kind: str) -> list[Any]:
    return [event for event in events if event.type == kind]


def refused(call: Callable[[], Any], kind: type[Exception]) -> Any:
    """The error of this class that the call must raise."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected")


def agents(client: Client) -> None:
    beta = client.beta
    agent = beta.agents.create(
        name="a", model="claude-opus-5-5", system="s", description="d", tools=[BUILTINS, WEATHER], metadata={"k": "v"}
    )
    assert agent._request_id
    assert beta.agents.retrieve(agent.id) == agent
    assert beta.agents.update(agent.id, version=1, description="e").version == 2
    assert [item.version for item in beta.agents.versions.list(agent.id, limit=1)] == [2, 1]
    assert beta.agents.retrieve(agent.id, version=1).description == "d"
    assert agent.id in [item.id for item in beta.agents.list(limit=50, created_at_gte=agent.created_at)]
    assert beta.agents.archive(agent.id).archived_at is not None
    stale = refused(lambda: beta.agents.update(agent.id, version=1, name="x"), client.anthropic.APIStatusError)
    assert stale.status_code in (400, 409)
    assert stale.request_id


def agent_parts(client: Client) -> None:
    """MCP servers and rosters, as this generation has them: without the three parts of 2026-10-01."""
    beta = client.beta
    server = {"type": "url", "name": "crm", "url": "https://mcp.example.com/mcp"}
    toolset = {"type": "mcp_toolset", "mcp_server_name": "crm"}
    worker = beta.agents.create(name="worker", model="claude-opus-5-5", tools=[toolset], mcp_servers=[server])
    assert worker.tools[0].default_config.permission_policy.type == "always_ask"
    assert [item.to_dict() for item in worker.mcp_servers] == [server]
    lost = refused(lambda: beta.agents.update(worker.id, version=1, tools=[]), client.anthropic.BadRequestError)
    assert "no mcp_toolset" in str(lost)
    advisor = {"type": "advisor", "model": "claude-opus-5-5"}
    entries = [advisor, {"type": "agent", "id": worker.id, "version": 1}, {"type": "self"}]
    lead = beta.agents.create(
        name="lead", model="claude-opus-5-5", multiagent={"type": "coordinator", "agents": entries}
    )
    assert [entry.type for entry in lead.multiagent.agents] == ["agent", "agent", "advisor"]
    session = beta.sessions.create(agent=lead.id, environment_id=client.environment)
    assert session.agent.multiagent.agents[0].name == "worker"
    (thread,) = beta.sessions.threads.list(session.id)
    assert (thread.agent.id, thread.parent_thread_id) == (lead.id, None)
    assert beta.agents.update(lead.id, version=1, multiagent=None).multiagent is None
    over = {"type": "agent_with_overrides", "id": worker.id, "tools": [WEATHER], "mcp_servers": []}
    bare = beta.sessions.create(agent=over, environment_id=client.environment)
    changed = beta.sessions.update(bare.id, agent={"tools": [toolset], "mcp_servers": [server]})
    assert [item.name for item in changed.agent.mcp_servers] == ["crm"]
    (event,) = beta.sessions.events.list(bare.id)
    assert event.agent == changed.agent


def environments(client: Client) -> None:
    beta = client.beta
    made = beta.environments.create(name="e", config={"type": "cloud", "networking": {"type": "limited"}})
    assert beta.environments.retrieve(made.id) == made
    assert beta.environments.update(made.id, description="d").description == "d"
    assert made.id in [item.id for item in beta.environments.list(limit=50)]
    assert beta.environments.archive(made.id).archived_at
    assert beta.environments.delete(made.id).type == "environment_deleted"


def sessions(client: Client) -> None:
    beta = client.beta
    session_id = client.session(WEATHER, title="t", metadata={"k": "v"})
    assert beta.sessions.retrieve(session_id).title == "t"
    assert beta.sessions.update(session_id, title="u", metadata={"a": "b"}).metadata == {"k": "v", "a": "b"}
    page = beta.sessions.list(limit=1, statuses=["idle"])
    assert page.data[0].id == session_id
    # Only its own: other tests' sessions may have what this generation's strict types do not know.
    mine = beta.sessions.list(order="asc", limit=100, agent_id=beta.sessions.retrieve(session_id).agent.id)
    assert [item.id for item in mine] == [session_id]
    (thread,) = beta.sessions.threads.list(session_id)
    assert beta.sessions.threads.retrieve(thread.id, session_id=session_id).parent_thread_id is None
    assert [event.type for event in beta.sessions.threads.events.list(thread.id, session_id=session_id)] == [
        "session.updated"
    ]
    assert beta.sessions.archive(session_id).status == "terminated"
    assert beta.sessions.delete(session_id).type == "session_deleted"


def files(client: Client) -> None:
    beta = client.beta
    made = beta.files.upload(file=("data.csv", b"a,b\n1,2\n", "text/csv"))
    assert beta.files.retrieve_metadata(made.id) == made
    more = [beta.files.upload(file=(f"{number}.txt", b"x", "text/plain")).id for number in range(3)]
    listed = [item.id for item in beta.files.list(limit=2)]
    assert listed[:3] == more[::-1], "pages by after_id"
    page = beta.files.list(limit=2)
    assert (page.first_id, page.last_id, page.has_more) == (more[2], more[1], True)
    back = beta.files.list(limit=2, before_id=more[0])
    assert [item.id for item in back.data] == [more[2], more[1]]
    session_id = client.session(
        BUILTINS, resources=[{"type": "file", "file_id": made.id, "mount_path": "/workspace/data.csv"}]
    )
    (resource,) = beta.sessions.resources.list(session_id)
    assert beta.sessions.resources.retrieve(resource.id, session_id=session_id).mount_path == "/workspace/data.csv"
    client.turn(session_id, message("run: wc -l < /workspace/data.csv > /mnt/session/outputs/lines.txt"))
    found = [item for item in beta.files.list(scope_id=session_id) if item.downloadable]
    assert [item.filename for item in found] == ["lines.txt"]
    assert beta.files.download(found[0].id).read() == b"2\n"
    added = beta.sessions.resources.add(session_id, type="file", file_id=made.id)
    assert beta.sessions.resources.delete(added.id, session_id=session_id).type == "session_resource_deleted"
    assert beta.files.delete(made.id).id == made.id


def repositories(client: Client) -> None:
    """The session is never run: its repository is at a host that tests don't ask."""
    beta = client.beta
    asked = {
        "type": "github_repository",
        "url": "https://github.com/owner/repo",
        "authorization_token": "ghp_old",
        "checkout": {"type": "branch", "name": "main"},
    }
    session_id = client.session(BUILTINS, resources=[asked])
    (resource,) = beta.sessions.resources.list(session_id)
    assert (resource.type, resource.url, resource.mount_path) == (asked["type"], asked["url"], "/workspace/repo")
    assert resource.checkout.name == "main"
    assert "ghp_old" not in resource.to_json()
    assert beta.sessions.retrieve(session_id).resources == [resource]
    rotated = beta.sessions.resources.update(resource.id, session_id=session_id, authorization_token="ghp_new")
    assert beta.sessions.resources.retrieve(resource.id, session_id=session_id) == rotated


def skills(client: Client) -> None:
    from anthropic.lib import files_from_dir

    beta = client.beta
    with tempfile.TemporaryDirectory() as path:
        folder = pathlib.Path(path) / "adding-up"
        folder.mkdir()
        (folder / "SKILL.md").write_text("---\nname: adding-up\ndescription: Adds.\n---\n")
        (folder / "add.sh").write_text("#!/bin/sh\necho 42\n")
        made = beta.skills.create(files=files_from_dir(folder), display_title="Sums")
        assert (made.display_title, made.source, made.type) == ("Sums", "custom", "skill")
        assert beta.skills.retrieve(made.id).latest_version == made.latest_version
        assert made.id in [item.id for item in beta.skills.list(limit=2, source="custom")]
        version = beta.skills.versions.create(made.id, files=files_from_dir(folder))
        assert (version.directory, version.name, version.description) == ("adding-up", "adding-up", "Adds.")
        assert beta.skills.versions.retrieve(version.version, skill_id=made.id).version == version.version
        assert [item.version for item in beta.skills.versions.list(made.id, limit=1)] == [
            version.version, made.latest_version
        ]  # fmt: skip
        ga = client.sdk.skills.create(files=files_from_dir(folder), display_name="GA")
        assert (ga.display_name, ga.source.type) == ("GA", "custom"), "the class without the beta has the new shape"
        assert client.sdk.skills.versions.retrieve("latest", skill_id=ga.id).id == ga.latest_version_id
    agent = beta.agents.create(
        name="Old", model="claude-opus-5-5", tools=[BUILTINS], skills=[{"type": "custom", "skill_id": made.id}]
    )
    assert agent.skills[0].version == version.version
    session = beta.sessions.create(agent=agent.id, environment_id=client.environment)
    (result,) = of(client.turn(session.id, message("run: /mnt/skills/adding-up/add.sh")), "agent.tool_result")
    assert result.content[0].text.strip() == "42"
    assert _downloaded(client, session.id) == ["SKILL.md", "add.sh"]
    refused(lambda: beta.skills.delete(made.id), client.anthropic.BadRequestError)
    for item in beta.skills.versions.list(made.id):
        assert beta.skills.versions.delete(item.version, skill_id=made.id).type == "skill_version_deleted"
    assert beta.skills.retrieve(made.id).latest_version is None
    assert beta.skills.delete(made.id).type == "skill_deleted"


def _downloaded(client: Client, session_id: str) -> list[str]:
    """What the SDK's own worker unpacks of a session's skills."""
    from anthropic.lib.tools._skills import download_session_skills

    async def run() -> list[str]:
        with tempfile.TemporaryDirectory() as path:
            async with client.anthropic.AsyncAnthropic(**client.named) as sdk:
                session = await sdk.beta.sessions.retrieve(session_id)
                (folder,) = await download_session_skills(sdk, workdir=path, session=session)
                return sorted(found.name for found in folder.iterdir())

    return asyncio.run(run())


def vaults(client: Client) -> None:
    beta, credentials = client.beta, client.beta.vaults.credentials
    made = beta.vaults.create(display_name="v", metadata={"k": "v"})
    assert beta.vaults.retrieve(made.id) == made
    assert beta.vaults.update(made.id, display_name="w").display_name == "w"
    assert beta.vaults.list(limit=1).data[0].id == made.id
    url = "http://127.0.0.1:1/mcp"
    refresh = {
        "client_id": "c", "refresh_token": "r", "token_endpoint": "http://127.0.0.1:1/token",
        "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "s"},
    }  # fmt: skip
    hosts = {"type": "limited", "allowed_hosts": ["a.example.com"]}
    variable = {"type": "environment_variable", "secret_name": "N", "secret_value": "v", "networking": hosts}
    bearer = {"type": "static_bearer", "token": "t", "mcp_server_url": url}
    oauth = {"type": "mcp_oauth", "access_token": "t", "mcp_server_url": url, "refresh": refresh}
    for auth in (bearer, oauth, variable):
        one = credentials.create(made.id, auth=auth, display_name="c")
        assert credentials.retrieve(one.id, vault_id=made.id) == one
        changed = credentials.update(one.id, vault_id=made.id, auth={"type": auth["type"]}, metadata={"a": "b"})
        assert (changed.auth, changed.metadata) == (one.auth, {"a": "b"})
        if auth is oauth:
            found = credentials.mcp_oauth_validate(one.id, vault_id=made.id)
            assert (found.status, found.mcp_probe.http_response) == ("unknown", None)
        assert credentials.archive(one.id, vault_id=made.id).archived_at is not None
    assert len(list(credentials.list(made.id, include_archived=True, limit=1))) == 3
    assert credentials.delete(one.id, vault_id=made.id).type == "vault_credential_deleted"
    session_id = client.session(vault_ids=[made.id])
    assert beta.sessions.retrieve(session_id).vault_ids == [made.id]
    assert beta.vaults.archive(made.id).archived_at is not None
    assert beta.vaults.delete(made.id).type == "vault_deleted"


def models(client: Client) -> None:
    known = [model.id for model in client.beta.models.list(limit=3)]
    assert "claude-opus-5-5" in known
    assert client.beta.models.retrieve("claude-opus-5-5").display_name
    assert [model.id for model in client.sdk.models.list(limit=1000)] == known


def a_turn(client: Client) -> None:
    session_id = client.session()
    kinds = [event.type for event in client.turn(session_id, message("think: Hello."))]
    for kind in ("user.message", "agent.thinking", "agent.message", "span.model_request_end"):
        assert kind in kinds
    client.check(session_id, "session.usage", *set(kinds))


def previews(client: Client) -> None:
    from anthropic.lib.sessions import accumulate_managed_agents_event

    session_id = client.session()
    snapshot = None
    events = client.turn(session_id, message("spell: letters"), event_deltas=["agent.message", "agent.thinking"])
    for event in events:
        snapshot = accumulate_managed_agents_event(snapshot, event)
    assert of(events, "event_start")
    assert of(events, "event_delta")
    assert snapshot == of(events, "agent.message")[0]


def built_in_tools(client: Client) -> None:
    asking = {**BUILTINS, "default_config": {"permission_policy": {"type": "always_ask"}}}
    session_id = client.session(asking)
    for verdict in ({"result": "allow"}, {"result": "deny", "deny_message": "No."}):
        (use,) = of(client.turn(session_id, message("run: echo hi")), "agent.tool_use")
        answer = {"type": "user.tool_confirmation", "tool_use_id": use.id, **verdict}
        (result,) = of(client.turn(session_id, answer), "agent.tool_result")
        assert result.is_error is (verdict["result"] == "deny")
    client.check(session_id, "agent.tool_use", "agent.tool_result", "user.tool_confirmation")


def web_tools(client: Client) -> None:
    """Their configs, a page, and an address that the model made up."""
    location = {"type": "approximate", "city": "Lyon", "country": "FR"}
    configs = [
        {"name": "web_fetch", "blocked_domains": ["example.org"], "url_sources": {"client_tool_results": "none"}},
        {"name": "web_search", "allowed_domains": ["example.com/docs"], "user_location": location},
    ]
    agent = client.beta.agents.create(name="w", model="claude-opus-5-5", tools=[{**BUILTINS, "configs": configs}])
    fetch, search = agent.tools[0].configs
    assert (fetch.to_dict()["blocked_domains"], search.to_dict()["user_location"]) == (["example.org"], location)
    session_id = client.session({**BUILTINS, "configs": configs})
    base = str(client.sdk.base_url).rstrip("/")
    (page,) = of(client.turn(session_id, message(f"fetch {base}/healthz")), "agent.tool_result")
    assert [block.type for block in page.content] == ["document"]
    (refused,) = of(client.turn(session_id, message("make up an address")), "agent.tool_result")
    assert refused.content[0].text.startswith("url_not_in_prior_context")
    client.check(session_id, "agent.tool_use", "agent.tool_result")


def custom_tools(client: Client) -> None:
    session_id = client.session(WEATHER)
    events = client.turn(session_id, message("weather in Oslo"))
    (use,) = of(events, "agent.custom_tool_use")
    assert events[-1].stop_reason.event_ids == [use.id]
    answer = {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": use.id,
        "content": [{"type": "text", "text": "ok"}],
    }
    told = {"type": "system.message", "content": [{"type": "text", "text": "Be brief."}]}
    client.turn(session_id, answer, told)
    client.check(session_id, "agent.custom_tool_use", "user.custom_tool_result", "system.message")


def self_hosted(client: Client) -> None:
    """Every call of the work queue, then this generation's own worker."""
    beta = client.beta
    made = beta.environments.create(name="mine", config={"type": "self_hosted"})
    assert made.config.type == "self_hosted"
    path, options = f"/v1/environments/{made.id}/keys", {"headers": {"anthropic-beta": "managed-agents-2026-04-01"}}
    key = client.sdk.post(path, cast_to=object, body={"name": "old"}, options=options)["key"]
    work = beta.environments.work
    assert work.poll(made.id) is None
    session_id = _session_in(client, made.id, "run: echo first")
    (listed,) = work.list(made.id)
    assert work.stats(made.id).depth == 1
    item = work.poll(made.id, block_ms=500)
    assert item.id == listed.id
    assert work.ack(item.id, environment_id=made.id).state == "starting"
    beat = work.heartbeat(item.id, environment_id=made.id, expected_last_heartbeat="NO_HEARTBEAT")
    assert beat.lease_extended
    failed = refused(
        lambda: work.heartbeat(item.id, environment_id=made.id, expected_last_heartbeat="x"),
        client.anthropic.APIStatusError,
    )
    assert failed.status_code == 412
    assert work.update(item.id, environment_id=made.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert work.retrieve(item.id, environment_id=made.id).state == "active"
    assert work.stop(item.id, environment_id=made.id).state == "stopping"
    assert work.stop(item.id, environment_id=made.id, force=True).state == "stopped"
    beta.sessions.events.send(session_id, events=[{"type": "user.interrupt"}])
    second = _session_in(client, made.id, "run: echo from the old worker")
    asyncio.run(_served(client, made.id, key, second))
    client.check(second, "agent.tool_use", "user.tool_result", "agent.message")


def _session_in(client: Client, environment_id: str, words: str) -> str:
    agent = client.beta.agents.create(name="Old", model="claude-opus-5-5", tools=[BUILTINS]).id
    created = client.beta.sessions.create(agent=agent, environment_id=environment_id, initial_events=[message(words)])
    return str(created.id)


async def _served(client: Client, environment_id: str, key: str, session_id: str) -> None:
    """Run this generation's worker until the session has ended its turn."""
    named = {**client.named, "api_key": "unused"}
    async with client.anthropic.AsyncAnthropic(**named) as sdk:
        worker = sdk.beta.environments.work.worker(environment_id=environment_id, environment_key=key, max_idle=0.2)
        running = asyncio.create_task(worker.run())
        try:
            while not any(event.type == "agent.message" for event in client.beta.sessions.events.list(session_id)):
                assert not running.done(), running
                await asyncio.sleep(0.1)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def interrupts(client: Client) -> None:
    session_id = client.session()
    with client.beta.sessions.events.stream(session_id) as stream:
        client.beta.sessions.events.send(session_id, events=[message("nothing more than silence")])
        for event in stream:
            if event.type == "span.model_request_start":
                client.beta.sessions.events.send(session_id, events=[{"type": "user.interrupt"}])
            if event.type == IDLE:
                break
    client.check(session_id, "user.interrupt", "span.model_request_end")


def errors_of_the_model(client: Client) -> None:
    kinds = {
        "overloaded": "model_overloaded_error",
        "rate limited": "model_rate_limited_error",
        "failed": "model_request_failed_error",
        "unknown": "unknown_error",
    }
    for name, kind in kinds.items():
        session_id = client.session()
        (problem,) = of(client.turn(session_id, message(f"{name} once")), "session.error")
        assert (problem.error.type, problem.error.retry_status.type) == (kind, "retrying")
        events = client.turn(session_id, message(f"{name} always"))
        assert of(events, "session.error")[-1].error.retry_status.type == "exhausted"
        assert events[-1].stop_reason.type == "retries_exhausted"
        client.check(session_id, "session.error", "session.status_rescheduled", "session.thread_status_rescheduled")
    session_id = client.session()
    assert of(client.turn(session_id, message("no credit")), "session.error")[0].error.type == "billing_error"


def compaction(client: Client) -> None:
    session_id = client.session(WEATHER, model="test-small")
    (use,) = of(client.turn(session_id, message("fill the window")), "agent.custom_tool_use")
    answer = {"type": "user.custom_tool_result", "custom_tool_use_id": use.id, "content": []}
    client.turn(session_id, answer)
    client.check(session_id, "agent.thread_context_compacted")


def ends(client: Client) -> None:
    """session.updated, session.deleted and the terminated pair, on the stream."""
    seen: list[str] = []
    for end in (client.beta.sessions.archive, client.beta.sessions.delete):
        session_id = client.session()
        with client.beta.sessions.events.stream(session_id) as stream:
            client.beta.sessions.update(session_id, title="t")
            end(session_id)
            seen += [event.type for event in stream]
    assert seen == [
        "session.updated", "session.thread_status_terminated", "session.status_terminated",
        "session.updated", "session.deleted",
    ]  # fmt: skip


def asynchronously(client: Client) -> None:
    async def run() -> None:
        async with client.anthropic.AsyncAnthropic(**client.named) as sdk:
            session_id = client.session()
            async with await sdk.beta.sessions.events.stream(session_id) as stream:
                await sdk.beta.sessions.events.send(session_id, events=[message("say: Hi.")])
                kinds = []
                async for event in stream:
                    kinds.append(event.type)
                    if event.type == IDLE:
                        break
            listed = [event.type async for event in sdk.beta.sessions.events.list(session_id, limit=2)]
            # The first is the queued message; and this SDK drops usage from streams, whose name it does not know.
            assert [kind for kind in listed if kind != "session.usage"] == kinds[1:]

    asyncio.run(run())


def budgets(client: Client) -> None:
    def cents(amount: int) -> dict[str, Any]:
        return {"type": "limit", "max_list_cost": {"amount": str(amount), "currency": "USD"}}

    beta = client.beta
    unpriced = refused(lambda: client.session(model="some-model", budget=cents(1)), client.anthropic.BadRequestError)
    assert unpriced.body["error"]["details"]["reason"] == "model_not_budgetable"
    session_id = client.session(BUILTINS, model="test-priced", budget=cents(100))
    assert client.turn(session_id, message("spend a dollar, then another"))[-1].stop_reason.type == "budget_reached"
    low = refused(lambda: beta.sessions.update(session_id, budget=cents(100)), client.anthropic.BadRequestError)
    assert low.body["error"]["details"]["reason"] == "budget_not_raised"
    with beta.sessions.events.stream(session_id) as stream:
        assert beta.sessions.update(session_id, budget=cents(101)).budget.max_list_cost.amount == "101"
        idle = next(event for event in stream if event.type == IDLE)
    assert idle.stop_reason.type == "end_turn"
    assert beta.sessions.update(session_id, budget=None).budget is None
    client.check(session_id, "session.updated", "session.usage", IDLE)


def mcp_servers(client: Client) -> None:
    def session(url: str) -> str:
        server = {"type": "url", "name": "real", "url": url}
        toolset = {"type": "mcp_toolset", "mcp_server_name": "real"}
        made = client.beta.agents.create(name="m", model="claude-opus-5-5", mcp_servers=[server], tools=[toolset])
        return str(client.beta.sessions.create(agent=made.id, environment_id=client.environment).id)

    session_id = session("stdio:real")
    for verdict in ("allow", "deny"):
        (use,) = of(client.turn(session_id, message("add with mcp")), "agent.mcp_tool_use")
        assert (use.name, use.mcp_server_name) == ("add", "real")
        answer = {"type": "user.tool_confirmation", "tool_use_id": use.id, "result": verdict}
        (result,) = of(client.turn(session_id, answer), "agent.mcp_tool_result")
        assert (result.mcp_tool_use_id, result.is_error) == (use.id, verdict == "deny")
    client.check(session_id, "agent.mcp_tool_use", "agent.mcp_tool_result", "user.tool_confirmation")
    base_url = client.named["base_url"]
    for kind, url in (("connection", "http://127.0.0.1:9/mcp"), ("authentication", f"{base_url}/v1/agents")):
        session_id = session(url)
        (problem,) = of(client.turn(session_id, message("say: On.")), "session.error")
        assert (problem.error.type, problem.error.mcp_server_name) == (f"mcp_{kind}_failed_error", "real")
        client.check(session_id, "session.error")


def errors(client: Client) -> None:
    anthropic = client.anthropic
    missing = refused(lambda: client.beta.agents.retrieve("agent_none"), anthropic.NotFoundError)
    broken = refused(lambda: client.beta.sessions.list(page="x"), anthropic.BadRequestError)
    for error, wire_type in ((missing, "not_found_error"), (broken, "invalid_request_error")):
        assert error.body["error"]["type"] == wire_type
        assert error.request_id == error.body["request_id"]
    wrong = anthropic.Anthropic(**{**client.named, "api_key": "sk-wrong"}, max_retries=0)
    assert "Authentication failed" in str(refused(wrong.beta.agents.list, anthropic.AuthenticationError))


def threads(client: Client) -> None:
    """A coordinator, a child that asks, and the endpoints of threads."""
    beta = client.beta
    helper = beta.agents.create(name="helper", model="claude-opus-5-5", tools=[WEATHER])
    team = {"type": "coordinator", "agents": [helper.id, {"type": "advisor", "model": "claude-opus-5-5"}]}
    lead = beta.agents.create(name="lead", model="claude-opus-5-5", multiagent=team)
    session_id = beta.sessions.create(agent=lead.id, environment_id=client.environment).id
    events = client.turn(session_id, message("delegate: ask the client"))
    (use,) = of(events, "agent.custom_tool_use")
    primary, child = beta.sessions.threads.list(session_id)
    assert (use.session_thread_id, child.parent_thread_id) == (child.id, primary.id)
    answer = {"type": "user.custom_tool_result", "custom_tool_use_id": use.id, "content": message("sunny")["content"]}
    client.turn(session_id, answer)
    client.check(session_id, "session.thread_created", "agent.thread_message_sent", "agent.thread_message_received")
    own = [event.type for event in beta.sessions.threads.events.list(child.id, session_id=session_id)]
    assert own[-2:] == ["agent.thread_message_sent", "session.thread_status_idle"]
    client.turn(session_id, message("advise"))
    advisor = list(beta.sessions.threads.list(session_id))[-1]
    assert (advisor.agent.type, advisor.status) == ("advisor", "terminated")
    with beta.sessions.threads.events.stream(advisor.id, session_id=session_id) as stream:
        assert list(stream) == [], "it is over"
    assert beta.sessions.threads.archive(child.id, session_id=session_id).status == "terminated"
    assert beta.sessions.threads.retrieve(primary.id, session_id=session_id).status == "idle"


def outcomes(client: Client) -> None:
    session_id = client.session(BUILTINS)
    define = {"type": "user.define_outcome", "description": "reach it later",
              "rubric": {"type": "text", "content": "It rhymes."}}  # fmt: skip
    events = client.turn(session_id, define)
    assert [end.result for end in of(events, "span.outcome_evaluation_end")] == ["needs_revision", "satisfied"]
    client.check(session_id, "user.define_outcome", "span.outcome_evaluation_start", "span.outcome_evaluation_end")
    (shown,) = client.beta.sessions.retrieve(session_id).outcome_evaluations
    assert (shown.result, shown.iteration) == ("satisfied", 1)


SCENARIOS = {
    play.__name__: play
    for play in (
        agents, agent_parts, environments, sessions, files, repositories, skills, vaults, models, a_turn, previews,
        built_in_tools, web_tools, custom_tools,
        self_hosted, interrupts, errors_of_the_model, compaction, budgets, mcp_servers,
        threads, outcomes,
        ends, asynchronously, errors,
    )
}  # fmt: skip


def main(base_url: str, key: str) -> None:
    client = Client(base_url, key)
    print(json.dumps({"name": "sdk", "error": None, "version": client.anthropic.__version__}), flush=True)
    for name, play in SCENARIOS.items():
        error = None
        # A hang is a failure too: the process ends, and the reader sees which scenario is missing.
        watch = threading.Timer(SILENCE * 2, sys.exit)
        watch.daemon = True
        watch.start()
        try:
            play(client)
        except Exception:
            error = traceback.format_exc()
        watch.cancel()
        print(json.dumps({"name": name, "error": error}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
