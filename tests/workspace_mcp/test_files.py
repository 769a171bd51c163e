"""Documents and records of a task over MCP: handed in once, listed, read, and nobody else's."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from databases import Databases
from hostler.ids import new_id
from running import Server
from workspace_mcp.mcp_world import SCRIPT, Caller, Office

FORM = "application/x-www-form-urlencoded"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On either database, with the tenants' data on the same kind."""
    folder = tmp_path_factory.mktemp("files")
    database, environ = None, {}
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        database = Databases(folder, url).url(new_id("t").lower())
        environ = {"HOSTLER_DATA_PLANE": url.replace("/postgres?", f"/{new_id('d').lower()}_{{tenant}}?")}
    with Server(folder / "data", scripted=SCRIPT, database=database, environ=environ) as started:
        yield started


def test_an_agent_hands_in_documents_once(server: Server, boss: Caller, office: Office) -> None:
    agent = office.agent("clerk")
    task_id = agent.held()
    caller = Caller(server.base_url, agent.key)
    assert caller.call("ntro_task_list_files")["items"] == []
    first = caller.call("ntro_task_file_ingest", filename="note.md", text="# Ünicode\n", content_type="text/markdown")
    again = caller.call("ntro_task_file_ingest", filename="note.md", text="# Ünicode\n", content_type="text/markdown")
    assert first == again
    assert (first["source"], first["task_id"]) == (f"agent_output:{agent.id}", task_id)
    coded = base64.b64encode(PNG).decode()
    image = caller.call("ntro_task_file_ingest", filename="dot.png", content_base64=coded, content_type="image/png")
    blob = caller.call("ntro_task_file_ingest", filename="a.bin", content_base64=coded)
    listed = boss.call("ntro_task_list_files", task_id=task_id, source_prefix="agent_output:")["items"]
    assert {each["filename"] for each in listed} == {"note.md", "dot.png", "a.bin"}
    assert boss.call("ntro_task_list_files", task_id=task_id, source_prefix="bank")["items"] == []

    text = caller.raw("ntro_task_file_get", document_ref=first["document_ref"])
    assert text.structured_content["size_bytes"] == len("# Ünicode\n".encode())
    assert text.content[1].text == "# Ünicode\n"
    shown = caller.raw("ntro_task_file_get", document_ref=image["document_ref"]).content[1]
    assert (shown.type, base64.b64decode(shown.data)) == ("image", PNG)
    attached = caller.raw("ntro_task_file_get", document_ref=blob["document_ref"]).content[1]
    assert base64.b64decode(attached.resource.blob) == PNG
    plain = caller.raw("ntro_task_file_get", document_ref=blob["document_ref"], encoding="base64").content[1]
    assert base64.b64decode(plain.text) == PNG


def test_what_can_not_be_handed_in_or_read(server: Server, boss: Caller, office: Office, other: Office) -> None:
    agent, stranger = office.agent("clerk"), other.agent("clerk")
    agent.held()
    foreign = stranger.held()
    caller, theirs = Caller(server.base_url, agent.key), Caller(server.base_url, stranger.key)
    assert "one of the two" in caller.refused("ntro_task_file_ingest", filename="a")
    assert "one of the two" in caller.refused("ntro_task_file_ingest", filename="a", text="a", content_base64="YQ==")
    assert "base64" in caller.refused("ntro_task_file_ingest", filename="a", content_base64="*")
    assert "empty" in caller.refused("ntro_task_file_ingest", filename="a", text="")
    assert "filename" in caller.refused("ntro_task_file_ingest", filename="../a", text="a")
    assert "source" in caller.refused("ntro_task_file_ingest", filename="a", text="a", source="bank")
    assert "not found" in caller.refused("ntro_task_file_ingest", filename="a", text="a", task_id=foreign)
    kept = theirs.call("ntro_task_file_ingest", filename="secret.txt", text="theirs")["document_ref"]
    assert "no document" in caller.refused("ntro_task_file_get", document_ref=kept)
    assert "no document" in caller.refused("ntro_task_file_get", document_ref="nonsense")
    assert "not found" in caller.refused("ntro_task_file_get", document_ref=kept, task_id=foreign)
    second = agent.held("hold again")
    mine = caller.call("ntro_task_file_ingest", filename="a", text="a", task_id=second)["document_ref"]
    first = next(task for task in caller.call("ntro_whoami")["tasks"] if task != second)
    assert "no document" in caller.refused("ntro_task_file_get", document_ref=mine, task_id=first)


def test_a_large_document_is_got_elsewhere(server: Server, office: Office) -> None:
    agent = office.agent("clerk")
    task_id = agent.held()
    caller = Caller(server.base_url, agent.key)
    ref = caller.call("ntro_task_file_ingest", filename="big.txt", text="x" * 1_100_000)["document_ref"]
    said = caller.refused("ntro_task_file_get", document_ref=ref)
    assert "1100000 bytes" in said
    assert f"{server.base_url}/console/tasks/{task_id}" in said


def test_a_person_hands_in_at_the_gate(boss: Caller, office: Office) -> None:
    task_id = office.start("collect")
    office.until(task_id, "submit_file")
    handed = boss.call(
        "ntro_task_file_ingest",
        task_id=task_id,
        filename="bank.csv",
        text="a,b\n",
        content_type="text/csv",
        source="bank",
    )
    assert handed["task_id"] == task_id
    office.until(task_id, "done")
    found = boss.call("ntro_task_get", task_id=task_id)["result"]
    assert (found["filename"], found["source"]) == ("bank.csv", "bank")
    (listed,) = boss.call("ntro_task_list_files", task_id=task_id)["items"]
    assert listed["document_ref"] == found["document_ref"]
    assert "is over" in boss.refused("ntro_task_file_ingest", task_id=task_id, filename="b", text="b")


def test_records_are_kept_once(server: Server, office: Office) -> None:
    agent = office.agent("clerk")
    task_id = agent.held()
    caller = Caller(server.base_url, agent.key)
    record: dict[str, Any] = {"kind": "variance", "data": {"account": "1000", "by": 1.5}, "source_ref": {"page": 2}}
    first = caller.call("ntro_task_data_ingest", **record)
    again = caller.call("ntro_task_data_ingest", **{**record, "data": {"by": 1.5, "account": "1000"}})
    assert (first["created"], again["created"], first["task_id"]) == (True, False, task_id)
    assert first["id"] == again["id"]
    assert caller.call("ntro_task_data_ingest", **{**record, "kind": "other"})["created"]


def test_an_agents_own_steps_are_lines_of_its_task(server: Server, office: Office) -> None:
    agent = office.agent("clerk")
    task_id = agent.held()
    caller = Caller(server.base_url, agent.key)
    steps = [{"id": "read", "title": "Read"}, {"id": "write", "title": "Write", "icon": "Pen"}]
    for _ in range(2):  # sent again, it is one line
        assert caller.call("ntro_steps_define", steps=steps) == {"task_id": task_id, "line": "Steps: Read → Write"}
    caller.call("ntro_steps_progress", step_id="read", status="completed", payload={"pages": 2})
    assert "Invalid" in caller.refused("ntro_steps_progress", step_id="read", status="done")
    signed_in = office.firm.http.post(
        "/console/sign-in",
        data={"key": server.key, "next": ""},
        headers={"content-type": FORM, "sec-fetch-site": "same-origin"},
    )
    assert signed_in.status_code == 303, signed_in.text
    page = office.firm.http.get(f"/console/tasks/{task_id}").text
    assert page.count("Steps: Read → Write") == 1
    assert "read: completed" in page
