"""The contract on PostgreSQL, and what the end of a process must not change, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from contract.scenarios import SCENARIOS, judge
from contract.teams import children, coordinator
from contract.world import BUILTINS, CONFIG, IDLE, SCRIPT, WEATHER, World, message, only, result, sync_world
from databases import Databases
from running import Server


@pytest.fixture(scope="module")
def postgres_world(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("postgres")
    database = Databases(folder, postgres_url).url("contract")
    with (
        Server(folder / "data", config=CONFIG, scripted=SCRIPT, database=database, preload=False) as server,
        sync_world(server) as world,
    ):
        yield world


@pytest.mark.parametrize("name", SCENARIOS)
def test_events_on_postgresql(postgres_world: World, name: str) -> None:
    judge(postgres_world, name)


def test_lists_on_postgresql(postgres_world: World) -> None:
    """Cursors, filters and both directions, where the statements differ from SQLite's."""
    world = postgres_world
    agent = world.agent()
    world.beta.agents.update(agent.id, system="two")
    assert [found.version for found in world.beta.agents.versions.list(agent.id, limit=1)] == [2, 1]
    made = [world.session(agent=agent.id) for _ in range(5)][::-1]
    one = world.beta.sessions.list(agent_id=agent.id, limit=2)
    two = world.beta.sessions.list(agent_id=agent.id, limit=2, page=one.next_page)
    back = world.beta.sessions.list(agent_id=agent.id, limit=2, page=two.prev_page)
    assert [[found.id for found in page.data] for page in (one, two, back)] == [made[:2], made[2:4], made[:2]]
    assert [found.id for found in world.beta.sessions.list(agent_id=agent.id, limit=2, order="asc")] == made[::-1]
    now = world.beta.sessions.retrieve(made[0]).created_at
    named = {"agent_id": agent.id, "statuses": ["idle"], "agent_version": 2}
    assert len(list(world.beta.sessions.list(**named, created_at_gte=now - timedelta(hours=1)))) == 5
    assert list(world.beta.sessions.list(**named, created_at_gt=now)) == []
    world.turn(made[0], "say: one")
    events = world.listed(made[0])
    assert world.listed(made[0], limit=2, order="desc") == events[::-1]
    assert world.listed(made[0], created_at_gt=events[3].processed_at) == events[4:]
    files = [world.beta.files.upload(file=(f"{number}.txt", b"x")).id for number in range(3)]
    assert [found.id for found in world.beta.files.list(limit=1)][:3] == files[::-1]
    team = coordinator(world)
    world.turn(team, "delegate: answer: one")
    (child,) = children(world, team)
    assert world.beta.sessions.threads.archive(child.id, session_id=team).status == "terminated"
    assert [found.id for found in world.beta.sessions.threads.list(team, limit=1)][1:] == [child.id]
    assert world.beta.sessions.archive(made[0]).status == "terminated"
    assert world.beta.sessions.delete(made[0]).type == "session_deleted"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_changes_nothing_that_was_told(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory, end: str
) -> None:
    """Everything reads the same after it, waiting sessions wait, and new work is done."""
    folder = tmp_path_factory.mktemp("restart")
    database = databases.url(f"restart_{end}")
    with Server(folder / "data", config=CONFIG, scripted=SCRIPT, database=database, preload=False) as server:
        with sync_world(server) as world:
            done, waiting = world.session(BUILTINS), world.session(WEATHER)
            world.turn(done, "run: echo kept > kept.txt && cp kept.txt /mnt/session/outputs")
            (use,) = only(world.turn(waiting, "weather in Oslo"), "agent.custom_tool_use")
            (echo,) = world.send(done, message("say: Accepted."))
            before = [world.raw(waiting), list(world.beta.sessions.list()), list(world.beta.files.list(scope_id=done))]
            first = world.raw(done)[:13]
            assert first[-1]["type"] == IDLE
        address = server.base_url
        getattr(server, end)()
        assert server.start().base_url == address
        with sync_world(server) as world:
            with world.stream(done) as stream:
                if world.beta.sessions.retrieve(done).status != "idle":
                    stream.until(IDLE)
            events = world.raw(done)
            assert events[:13] == first
            assert [event["processed_at"] is None for event in events if event["id"] == echo.id] == [False]
            assert world.last_text(done) == "Accepted."
            assert world.raw(waiting) == before[0]
            assert [found.id for found in world.beta.sessions.list()] == [found.id for found in before[1]]
            assert list(world.beta.files.list(scope_id=done)) == before[2]
            assert world.beta.files.download(before[2][0].id).read() == b"kept\n"
            world.turn(waiting, result(use.id, "sunny"))
            assert world.last_text(waiting) == "It is sunny."
            world.turn(done, "run: cat kept.txt")
            assert world.last_text(done) == "It said: kept"
