"""What the pages ask of the store, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from content import session_events, table_gate, view
from rig import OTHER, Console
from streams import frames

from databases import Databases
from hostler.ids import new_id


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str | None:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return Databases(Path(tmp_path_factory.mktemp("db")), url).url(new_id("d").lower())


def test_a_tenants_key_and_a_link(server: Console, session: str) -> None:
    written = server.append(session, *session_events())
    task = server.task(view(6, table_gate()))
    child = server.task(view(0), task_id=f"{task}:s1:100%_x:a", parent_id=task)
    theirs = server.task(view(1), tenant=OTHER)
    run = server.agent_run(child, session)
    server.tells(run, session, ("text", "a line"))
    with server.browser(server.tenant_key()) as client:
        for path in (f"tasks/{task}", f"sessions/{session}", f"sessions/{session}/events/{written[0]}", "", ""):
            assert client.get(f"/console/{path}").status_code == 200
        for path in (f"tasks/{theirs}", f"sessions/{server.session()}"):
            assert client.get(f"/console/{path}").status_code == 404
        names = []
        for frame in frames(client, f"/console/tasks/{child.replace('%', '%25')}/stream"):
            names.append(frame.name)
            if frame.name == "lines":
                break
        assert names == ["begin", "sections", "lines"]
        client.get("/console")
    with server.browser(None) as client:
        client.get(server.access.sign(f"/console/tasks/{task}"))
        assert client.get(f"/console/sessions/{session}").status_code == 200
        assert client.get(f"/console/sessions/{server.session()}").status_code == 404
