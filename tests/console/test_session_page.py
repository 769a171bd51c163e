"""The session page over HTTP: everything that the public API shows, nothing twice, nothing lost, nothing that runs."""

from __future__ import annotations

import itertools
import re
from typing import Any, get_args

import httpx2
import pytest
from content import HOSTILE, LONG, request, result, session_events, text, use
from markup import elements, strange
from markup import text as words
from rig import Console
from streams import Frame, frames

from hostler.console import timeline
from hostler.ids import new_id
from hostler.log.entries import Draft
from hostler.wire.events import SessionEvent
from serving import ok


def shown(page: str) -> list[str]:
    """The ids of the events that a page shows, in its order."""
    return [
        element.attributes["id"] for element in elements(page) if element.attributes.get("id", "").startswith("sevt_")
    ]


def listed(server: Console, session: str) -> list[str]:
    found = ok(server.client.get(f"/v1/sessions/{session}/events", params={"limit": 1000}))["data"]
    return [event["id"] for event in found]


def place(page: str) -> str:
    found = re.search(r'data-after="(\d+)"', page)
    assert found is not None
    return found[1]


def rows_of(found: list[Frame]) -> list[str]:
    return [frame.data["id"] for frame in found if frame.name == "row"]


def test_the_timeline_has_what_the_api_lists(server: Console, user: httpx2.Client, session: str) -> None:
    server.append(session, *session_events())
    page = user.get(f"/console/sessions/{session}").text
    assert sorted(shown(page)) == sorted(listed(server, session))
    assert strange(page) == []
    said = words(page)
    for expected in (
        "audit-handover", "claude-opus-5-5", "1 834 in + 5 502 cached · 262 out", "ls -la /mnt/session",
        "drwxr-xr-x 3 agent agent", "ModuleNotFoundError: docx", "ntropii · ntro_task_get", "The model is overloaded.",
        "貸借対照表は一致しています。", "its turn is done",
    ):  # fmt: skip
        assert expected in said, expected
    assert HOSTILE in said  # as text


def test_a_result_stands_in_its_call_with_the_time_it_took(server: Console, user: httpx2.Client, session: str) -> None:
    call = use("bash", {"command": "make"})
    (call_id,) = server.append(session, call)
    (result_id,) = server.append(session, result(call, "done"))
    page = user.get(f"/console/sessions/{session}").text
    inside = page[page.index(f'data-slot="{call_id}"') :]
    assert f'id="{result_id}"' in inside
    assert re.search(r'class="took">[\d.]+ m?s<', inside)
    assert "loose" not in page


def test_long_output_is_cut_and_there_in_full(server: Console, user: httpx2.Client, session: str) -> None:
    call = use("bash", {"command": "cat x"})
    _, result_id = server.append(session, call, result(call, LONG))
    page = user.get(f"/console/sessions/{session}").text
    assert "0399" not in page
    assert "Show all (21 276 more characters)" in words(page)
    full = user.get(f"/console/sessions/{session}/events/{result_id}").text
    assert "0399" in full
    assert strange(full) == []
    assert len(page) < 10_000


@pytest.mark.parametrize("name", ["none", "%00", "sevt_x%2Fy", "..%2F..", "%FF"])
def test_what_is_not_there(server: Console, user: httpx2.Client, session: str, name: str) -> None:
    other = server.session()
    (foreign,) = server.append(other, text("agent.message", "of another session"))
    for path in (f"{session}/events/{name}", f"{session}/events/{foreign}", f"{session}/files/{name}", name,
                 f"{name}/stream", f"{session}?thread={name}"):  # fmt: skip
        assert user.get(f"/console/sessions/{path}").status_code == 404, path


def test_notes_of_the_harness_stay_inside(server: Console, user: httpx2.Client, session: str) -> None:
    (note,) = server.append(session, Draft(type="hostler.model_message", fields={"content": "private thought"}))
    assert "private thought" not in user.get(f"/console/sessions/{session}").text
    assert user.get(f"/console/sessions/{session}/events/{note}").status_code == 404


def test_every_event_type_has_a_row_of_its_own() -> None:
    types = {str(kind.__struct_config__.tag) for kind in get_args(SessionEvent)}
    assert types == set(timeline._BUILD)


def test_an_event_of_an_unknown_shape_is_shown_as_it_is(server: Console, user: httpx2.Client, session: str) -> None:
    """Another version's, or a type that is not here yet: never an error."""
    odd: list[Draft] = [Draft(type=kind, fields={}) for kind in timeline._BUILD if kind != "session.deleted"]
    odd += [Draft(type=kind, fields=_wrong()) for kind in timeline._BUILD if kind != "session.deleted"]
    odd.append(Draft(type="workflow_run.created", fields={"workflow": HOSTILE}))
    server.append(session, *odd)
    page = user.get(f"/console/sessions/{session}")
    assert page.status_code == 200
    assert strange(page.text) == []
    assert "workflow_run.created" in page.text
    assert set(shown(page.text)) == set(listed(server, session))


def _wrong() -> dict[str, Any]:
    names = ("content", "input", "name", "stop_reason", "error", "usage", "model_usage", "rubric", "agent_name",
             "session_thread_id", "tool_use_id", "iteration", "description")  # fmt: skip
    values = itertools.cycle([None, 5, HOSTILE, [HOSTILE, 7], {"type": HOSTILE}, [[1]]])
    return {name: next(values) for name in names}


# -- live --


def test_the_stream_goes_on_where_the_page_ended(server: Console, user: httpx2.Client, session: str) -> None:
    server.append(session, *session_events()[:6])
    page = user.get(f"/console/sessions/{session}").text
    late = server.append(session, text("agent.message", "between page and stream"))
    with_previews: list[Frame] = []
    for frame in frames(user, f"/console/sessions/{session}/stream", params={"after": place(page)}):
        with_previews.append(frame)
        if rows_of(with_previews) == late:
            live = server.append(session, *request(10), text("agent.message", f"live {HOSTILE}"))
        if len(rows_of(with_previews)) == 4:
            break
    assert with_previews[0].name == "begin"
    assert rows_of(with_previews) == [*late, *live]
    for frame in with_previews:
        if frame.name == "row":
            assert strange(frame.data["html"]) == []
    assert [*shown(page), *late, *live] == listed(server, session)


def test_a_cut_stream_loses_nothing_and_doubles_nothing(server: Console, user: httpx2.Client, session: str) -> None:
    """Cut after every frame: what was seen in all is what is listed, once each."""
    url, seen, last = f"/console/sessions/{session}/stream", [], "0"
    written: list[str] = []
    for number in range(12):
        written += server.append(session, text("agent.message", str(number)), *request(number + 1))
        for frame in frames(user, url, headers={"last-event-id": last}):
            if frame.name == "row":
                seen.append(frame.data["id"])
                last = frame.place or last
                break
    for frame in frames(user, url, headers={"last-event-id": last}):
        if frame.name == "row":
            seen.append(frame.data["id"])
        if len(seen) == len(written):
            break
    assert seen == written == listed(server, session)


def test_the_stream_shows_what_the_public_stream_gives(server: Console, user: httpx2.Client, session: str) -> None:
    public = server.client.stream("GET", f"/v1/sessions/{session}/events/stream", timeout=20)
    with public as answer:
        ours = frames(user, f"/console/sessions/{session}/stream")
        assert next(ours).name == "begin"
        written = server.append(session, *session_events())
        server.append(session, Draft(type="session.status_terminated"))
        theirs = [line[7:] for line in answer.iter_lines() if line.startswith("event: ") and line != "event: ping"]
        found = list(ours)
    assert found[-1].name == "end"
    assert len(rows_of(found)) == len(theirs) == len(written) + 1
    types = [re.search(r'data-type="([^"]+)"', frame.data["html"]) for frame in found if frame.name == "row"]
    assert [each[1] for each in types if each] == theirs


def test_a_message_waits_and_is_then_taken_up(server: Console, user: httpx2.Client, session: str) -> None:
    body = {"events": [{"type": "user.message", "content": [{"type": "text", "text": "later"}]}]}
    (sent,) = ok(server.client.post(f"/v1/sessions/{session}/events", json=body))["data"]
    page = user.get(f"/console/sessions/{session}").text
    assert f'id="{sent["id"]}" class="row message user queued"' in page
    first = next(frame for frame in frames(user, f"/console/sessions/{session}/stream") if frame.name == "row")
    assert (first.data["id"], first.data["queued"]) == (sent["id"], True)


def test_the_head_follows(server: Console, user: httpx2.Client, session: str) -> None:
    stream = frames(user, f"/console/sessions/{session}/stream")
    assert next(stream).name == "begin"
    server.append(session, Draft(type="session.status_running"), status="running")
    sections = next(frame for frame in stream if frame.name == "sections")
    assert 'class="badge running"' in sections.data["html"]["head"]


def test_the_stream_of_a_deleted_session_ends(server: Console, user: httpx2.Client, session: str) -> None:
    stream = frames(user, f"/console/sessions/{session}/stream")
    assert next(stream).name == "begin"
    ok(server.client.delete(f"/v1/sessions/{session}"))
    assert "end" in [frame.name for frame in stream]
    assert user.get(f"/console/sessions/{session}").status_code == 404


def test_a_stream_of_what_is_over_ends(server: Console, user: httpx2.Client, session: str) -> None:
    server.append(session, text("agent.message", "bye"))
    ok(server.client.post(f"/v1/sessions/{session}/archive"))
    found = list(frames(user, f"/console/sessions/{session}/stream"))
    assert [frame.name for frame in found][0 :: len(found) - 1] == ["begin", "end"]
    assert rows_of(found) == listed(server, session)


# -- long ones, threads, files --


def test_a_long_session_is_cut_and_goes_back(server: Console, user: httpx2.Client, session: str) -> None:
    for _ in range(7):
        server.append(session, *(text("agent.message", str(number)) for number in range(100)))
    url, seen = f"/console/sessions/{session}", []
    while url:
        page = user.get(url).text
        seen = shown(page) + seen
        found = re.search(r'href="(\?before=\d+)"', page)
        url = f"/console/sessions/{session}{found[1]}" if found else ""
    assert seen == listed(server, session)
    assert "To the newest events" in page
    assert "data-stream" not in page


@pytest.mark.parametrize("query", ["before=x", "before=-1", f"before={'9' * 30}", "after=%00", "ticket=x"])
def test_odd_queries(server: Console, user: httpx2.Client, session: str, query: str) -> None:
    assert user.get(f"/console/sessions/{session}?{query}").status_code in (200, 303)


def test_a_thread_has_its_own_timeline(server: Console, user: httpx2.Client, session: str) -> None:
    (thread,) = [each["id"] for each in ok(server.client.get(f"/v1/sessions/{session}/threads"))["data"]]
    (seen,) = server.append(session, text("agent.message", "in the primary thread"))
    page = user.get(f"/console/sessions/{session}?thread={thread}").text
    assert seen in shown(page)
    assert f"/stream?thread={thread}" in page


def test_files_are_for_keeping_not_for_showing(server: Console, user: httpx2.Client, session: str) -> None:
    body = b"<script>alert(1)</script>"
    made = ok(server.client.post("/v1/files", files={"file": ("a.html", body, "text/html")}))
    _output(server, session, made["id"])
    page = user.get(f"/console/sessions/{session}").text
    assert f'href="/console/sessions/{session}/files/{made["id"]}" download' in page
    answer = user.get(f"/console/sessions/{session}/files/{made['id']}")
    assert answer.content == body
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename=\"a.html\"; filename*=UTF-8''a.html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    other = server.session()
    assert user.get(f"/console/sessions/{other}/files/{made['id']}").status_code == 404


def _output(server: Console, session: str, file_id: str) -> None:
    """As if the session had written it."""
    from sqlalchemy import update

    from hostler.store.tables import files

    change = update(files).where(files.c.id == file_id).values(session_id=session, downloadable=1)
    server.call(server._write(change))


def test_the_name_of_a_file_can_not_break_out() -> None:
    from hostler.console.downloads import headers

    said = headers('Bücher"; filename="x.exe\r\nset-cookie: a=b/../\\c.pdf')["content-disposition"]
    assert "\r" not in said
    assert said.count('"') == 2
    assert "B%C3%BCcher" in said
    assert headers("")["content-disposition"] == "attachment; filename=\"unnamed\"; filename*=UTF-8''unnamed"


def test_a_row_whose_call_is_on_an_earlier_page_stands_alone(
    server: Console, user: httpx2.Client, session: str
) -> None:
    call = use("bash", {"command": "sleep 1"})
    server.append(session, call)
    after = place(user.get(f"/console/sessions/{session}").text)
    server.append(session, result(call, "slept"))
    found = next(
        frame for frame in frames(user, f"/console/sessions/{session}/stream", params={"after": after})
        if frame.name == "row"
    )  # fmt: skip
    assert found.data["into"] == call.id
    assert "row loose" in found.data["html"]
    assert "took" in found.data["html"]


def test_ids_in_rows_are_events_ids() -> None:
    """What the script looks rows up by."""
    assert new_id("sevt").startswith("sevt_")
