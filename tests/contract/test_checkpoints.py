"""Forks and imported sessions, seen through the official SDK with strict validation: sessions like any other, whatever
has happened in them."""

from __future__ import annotations

from typing import Any

import pytest

from contract.scenarios import SCENARIOS
from contract.world import BUILTINS, IDLE, World, unknown_fields

PLAYED = [
    "messages", "interrupts", "confirmations", "custom tools", "mcp tools", "compaction", "refusal", "updates",
    "budgets", "web", "archival", "delegation", "advice", "an outcome",
]  # fmt: skip


def seen(world: World, session_id: str) -> tuple[Any, ...]:
    """All that the SDK shows of a session's history, on the session and on each of its threads."""
    listed = world.listed(session_id)
    shown = world.beta.sessions.retrieve(session_id)
    assert unknown_fields(listed) == unknown_fields(shown) == []
    threads = list(world.beta.sessions.threads.list(session_id))
    assert unknown_fields(threads) == []
    own = [list(world.beta.sessions.threads.events.list(each.id, session_id=session_id)) for each in threads]
    return listed, own, [(each.id, each.parent_thread_id, each.agent) for each in threads], shown.outcome_evaluations


def stops(listed: list[Any]) -> list[Any]:
    """Why the turns ended."""
    return [event.stop_reason for event in listed if event.type == IDLE]


def played(world: World, name: str) -> str:
    play, _ = SCENARIOS[name]
    session_id, _ = play(world)
    return str(session_id)


@pytest.mark.parametrize("name", PLAYED)
def test_a_fork_shows_the_same_history(world: World, name: str) -> None:
    session_id = played(world, name)
    answer = world.http.post(f"/v1/sessions/{session_id}/fork", json={})
    assert answer.status_code == 200, answer.text
    fork = answer.json()["id"]
    old, new = seen(world, session_id), seen(world, fork)
    ended = name == "archival"  # the fork goes on from its last turn, and is not archived
    assert new[0] == (old[0][: len(new[0])] if ended else old[0])
    assert ended or new == old
    assert world.beta.sessions.retrieve(fork).status == "idle"
    world.beta.sessions.delete(session_id)
    if name != "budgets" and not any(getattr(each, "event_ids", None) for each in stops(new[0])[-1:]):
        assert world.turn(fork, "hello")[-1].type == IDLE
    assert seen(world, fork)[0][: len(new[0])] == new[0]


@pytest.mark.parametrize("name", PLAYED)
def test_an_imported_session_shows_the_same_history(world: World, name: str) -> None:
    session_id = played(world, name)
    before, shown = seen(world, session_id), world.beta.sessions.retrieve(session_id)
    archive = world.http.get(f"/v1/sessions/{session_id}/export")
    assert archive.status_code == 200, archive.text
    world.beta.sessions.delete(session_id)
    taken = world.http.post("/v1/sessions/import", content=archive.content)
    assert taken.status_code == 200, taken.text
    assert seen(world, session_id) == before
    after = world.beta.sessions.retrieve(session_id)
    assert (after.usage, after.status, after.agent, after.budget) == (
        shown.usage, shown.status, shown.agent, shown.budget,
    )  # fmt: skip


def test_skills_come_along(world: World, async_world: World) -> None:
    """A custom skill that is deleted, and was never on the other server, is still in a session that has it."""
    text = "---\nname: poet\ndescription: Writes poems.\n---\nRhyme.\n"
    skill = world.http.post("/v1/skills", files={"files[]": ("poet/SKILL.md", text.encode())}).json()
    agent = world.agent(BUILTINS, skills=[{"type": "custom", "skill_id": skill["id"]}])
    session_id = world.session(agent=agent.id)
    fork = world.http.post(f"/v1/sessions/{session_id}/fork", json={}).json()["id"]
    archive = world.http.get(f"/v1/sessions/{fork}/export").content
    for each in (session_id, fork):
        world.beta.sessions.delete(each)
    for version in world.http.get(f"/v1/skills/{skill['id']}/versions").json()["data"]:
        world.http.delete(f"/v1/skills/{skill['id']}/versions/{version['id']}")
    assert world.http.post("/v1/sessions/import", content=archive).status_code == 200
    assert [each.skill_id for each in async_world.beta.sessions.retrieve(fork).agent.skills] == [skill["id"]]
