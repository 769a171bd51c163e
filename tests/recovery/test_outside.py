"""kill -9 around what reaches beyond the server: calls of MCP servers, fetched pages, skills, repositories, sessions
that begin by themselves. What has an effect outside happens at most once, and the model is told when nobody knows."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from job import LOST, Event, Job, check_log
from mortal import Mortal

from githost import GitHost
from mcptools.processes import Process
from web.site import Site

TOOLSET = {"type": "agent_toolset_20260401"}
UNKNOWN = "outcome is unknown"
SCRIPT: dict[str, Any] = {
    "rules": [
        {
            "when": {"system_contains": "You evaluate the work of an agent"},
            "turns": [{"tools": [{"name": "verdict", "input": {"result": "satisfied", "explanation": "Good."}}]}],
            "counts_from": "never",
        },
        {
            "when": {"user_text_matches": r"^fetch (\S+)$"},
            "turns": [
                {"tools": [{"name": "web_fetch", "input": {"url": "{{1}}"}}]},
                {"text": "Read: {{last_tool_result}}"},
            ],
        },
        {
            "when": {"user_text_matches": r"<outcome>"},
            "turns": [
                {"tools": [{"name": "bash", "input": {"command": "echo a >> count; touch begun; sleep 0.3"}}]},
                {"tools": [{"name": "bash", "input": {"command": "tr '\\n' ' ' < count"}}]},
                {"text": "{{last_tool_result}}"},
            ],
        },
        {
            "when": {"user_text_matches": r"^run: (.*)$"},
            "turns": [{"tools": [{"name": "bash", "input": {"command": "{{1}}"}}]}, {"text": "{{last_tool_result}}"}],
        },
    ],
    "otherwise": {"text": "You said: {{last_user_text}}"},
}
for name, given in (("add", {"a": 1, "b": 2}), ("wait", {"seconds": 20})):
    rule = {"tools": [{"name": f"mcp__real__{name}", "input": given}]}
    said = {"user_text_equals": f"mcp {name}"}
    SCRIPT["rules"].insert(0, {"when": said, "turns": [rule, {"text": "{{last_tool_result}}"}]})


class Outside(NamedTuple):
    server: Mortal
    mcp: Process
    site: Site
    git: GitHost


@pytest.fixture(scope="module")
def long_lived_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "mcp").mkdir()
    with Process(folder / "mcp", "http") as mcp, Site() as site, GitHost(folder / "git") as git:
        config = f'[web]\nallow_private_hosts = ["{site.host}"]\n{git.config}'
        server = Mortal(folder, harness="retry_base = 0.2", config=config, scripted=SCRIPT)
        yield Outside(server, mcp, site, git)
        server.close()


@pytest.fixture
def outside(long_lived_outside: Outside) -> Outside:
    long_lived_outside.server.ensure()
    return long_lived_outside


SERVED = [
    "before:append:hostler.tool_dispatched",
    "after:append:hostler.tool_dispatched",
    "before:served",
    "after:served",
    "before:append:RESULT",
    "committed:RESULT",
]


def mcp_job(outside: Outside, text: str) -> Job:
    policy = {"permission_policy": {"type": "always_allow"}}
    toolset = {"type": "mcp_toolset", "mcp_server_name": "real", "default_config": policy}
    servers = [{"type": "url", "name": "real", "url": outside.mcp.url}]
    return Job(outside.server, text, {"tools": [toolset], "mcp_servers": servers})


def ended(job: Job, kind: str) -> Event:
    """The one answer of the one call of a session that has come to its end."""
    events = job.listed()
    check_log(job, events)
    assert [event["stop_reason"]["type"] for event in events if event["type"] == "session.status_idle"] == ["end_turn"]
    assert [event for event in events if event["type"] == "session.error"] == []
    (answer,) = [event for event in events if event["type"] == kind]
    (told,) = [event for event in events if event["type"] == "agent.message"]
    assert answer["is_error"] == (UNKNOWN in told["content"][0]["text"]), "the model knows what is known"
    return answer


@pytest.mark.parametrize("point", SERVED)
def test_a_call_of_an_mcp_server(outside: Outside, point: str) -> None:
    before = outside.mcp.noted().count("add 1 2")
    job = mcp_job(outside, "mcp add")
    outside.server.order(job.id, point.replace("RESULT", "agent.mcp_tool_result"))
    job.run()
    answer = ended(job, "agent.mcp_tool_result")
    made = outside.mcp.noted().count("add 1 2") - before
    sure = point.startswith("committed") or point == SERVED[0]
    assert answer["is_error"] == (not sure)
    assert made == (0 if point in SERVED[1:3] else 1), "at most once"


def test_a_call_that_an_mcp_server_is_at(outside: Outside) -> None:
    before = outside.mcp.noted().count("wait began")
    job = mcp_job(outside, "mcp wait")
    with job.following() as stream:
        assert stream is not None
        job.say(job.text)
        outside.mcp.until_noted("wait began")
        outside.server.kill()
    job.lost = True
    job.finish()
    assert ended(job, "agent.mcp_tool_result")["is_error"]
    assert outside.mcp.noted().count("wait began") - before == 1


@pytest.mark.parametrize("point", SERVED)
def test_a_fetched_page(outside: Outside, point: str) -> None:
    path = f"/{SERVED.index(point)}"
    job = Job(outside.server, f"fetch {outside.site.url}{path}", {"tools": [TOOLSET]})
    outside.server.order(job.id, point.replace("RESULT", "agent.tool_result"))
    job.run()
    answer = ended(job, "agent.tool_result")
    assert answer["is_error"] == (not (point.startswith("committed") or point == SERVED[0]))
    assert outside.site.requests.count(path) == (0 if point in SERVED[1:3] else 1)


@pytest.mark.parametrize(
    "point", ["before:provision", "after:start", "after:provision", "before:tool", "after:tool", "committed:RESULT"]
)
def test_a_skill(outside: Outside, point: str) -> None:
    front = b"---\nname: adding\ndescription: Adds.\n---\nThe answer is 42.\n"
    made = outside.server.client.post("/v1/skills", files=[("files[]", ("adding/SKILL.md", front))])
    assert made.status_code == 200, made.text
    skill = {"type": "custom", "skill_id": made.json()["id"]}
    job = Job(outside.server, "run: tail -n 1 /mnt/skills/adding/SKILL.md", {"tools": [TOOLSET], "skills": [skill]})
    outside.server.order(job.id, point.replace("RESULT", "agent.tool_result"))
    job.run()
    assert ended(job, "agent.tool_result")["content"][0]["text"].strip() == "The answer is 42."


@pytest.mark.parametrize(
    "point",
    [
        "before:provision",
        "after:meet",
        "before:tool",  # which is the clone
        "after:tool",
        "before:append:hostler.repository_ready",
        "after:append:hostler.repository_ready",
        "before:tool 2",
    ],
)
def test_a_repository(outside: Outside, point: str) -> None:
    """Cloned, whatever happens; what the agent has done in it is not done twice."""
    name = f"o/{point.replace(':', '-').replace(' ', '-')}"
    outside.git.repository(name, tokens={"t0ken"}).commit({"a.txt": b"one\n"})
    resource = {"type": "github_repository", "url": outside.git.url(name), "authorization_token": "t0ken"}
    text = "run: cd /repo && echo two >> a.txt && cat a.txt && git status -s"
    job = Job(outside.server, text, {"tools": [TOOLSET]}, resources=[{**resource, "mount_path": "/repo"}])
    outside.server.order(job.id, point)
    job.run()
    assert ended(job, "agent.tool_result")["content"][0]["text"].split() == ["one", "two", "M", "a.txt"]


def test_a_repository_whose_host_is_slow(outside: Outside) -> None:
    """Killed while the pack comes, and once more."""
    outside.git.repository("o/slow").commit({"a.txt": b"one\n"})
    resource = {"type": "github_repository", "url": outside.git.url("o/slow"), "mount_path": "/repo"}
    job = Job(outside.server, "run: cat /repo/a.txt", {"tools": [TOOLSET]}, resources=[resource])
    outside.git.hold = threading.Event()
    with job.following() as stream:
        assert stream is not None
        job.say(job.text)
        assert outside.git.holding.wait(20)
        outside.server.kill()
    outside.git.holding.clear()
    outside.server.start()
    assert outside.git.holding.wait(20), "it goes on by itself"
    outside.server.kill()
    outside.git.hold.set()
    outside.git.hold = None
    job.lost = True
    job.finish()
    assert ended(job, "agent.tool_result")["content"][0]["text"].strip() == "one"


@pytest.mark.parametrize(
    "point",
    [
        "before:append:session.status_running",
        "committed:session.status_running",
        "during:tool",
        "before:evaluation",
        "end:evaluation",
        "committed:span.outcome_evaluation_end",
    ],
)
def test_a_session_that_begins_by_itself(outside: Outside, point: str) -> None:
    """Nobody sends it anything after it was created, and it may die before its creator has heard of it."""
    rubric = {"type": "text", "content": "It is done."}
    outcome = {"type": "user.define_outcome", "description": "a poem", "rubric": rubric}
    before = sessions(outside)
    outside.server.order("*", point)
    with contextlib.suppress(LOST):
        Job(outside.server, "", {"tools": [TOOLSET]}, initial_events=[outcome])
    outside.server.wait_killed()
    outside.server.start()
    (made,) = sessions(outside) - before
    job = Initiated(outside.server, made)
    job.finish()
    events = job.listed()
    check_log(job, events)
    assert [event["stop_reason"]["type"] for event in events if event["type"] == "session.status_idle"] == ["end_turn"]
    (told,) = [event for event in events if event["type"] == "agent.message"]
    assert told["content"][0]["text"].split() == ["a"]
    (verdict,) = job.retrieve()["outcome_evaluations"]
    assert verdict["result"] == "satisfied"
    assert [event["type"] for event in events].count("span.outcome_evaluation_end") == 1


class Initiated(Job):
    """A session that is there already."""

    begins_with = "user.define_outcome"

    def __init__(self, server: Mortal, session_id: str) -> None:
        self.server, self.id, self.text = server, session_id, ""
        self.acknowledged, self.lost, self.progress = {}, False, []


def sessions(outside: Outside) -> set[str]:
    answer = outside.server.client.get("/v1/sessions", params={"limit": 100})
    return {session["id"] for session in answer.json()["data"]}
