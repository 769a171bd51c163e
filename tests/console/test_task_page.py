"""The task page over HTTP: where a task stands, its gate in every form, and what people send from it."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from content import HOSTILE, review, rows, table_gate, upload_gate, uploads_gate, view
from markup import elements, fields, strange
from markup import text as words
from rig import AGENT, Console
from streams import frames

from hostler.console import views
from hostler.errors import InvalidRequest, Unavailable
from hostler.runbooks.invoking.rows import Question


def page_of(user: httpx2.Client, task: str, query: str = "") -> str:
    answer = user.get(f"/console/tasks/{task}{query}")
    assert answer.status_code == 200, answer.text
    assert strange(answer.text) == []
    return answer.text


def send(user: httpx2.Client, task: str, verb: str, **data: Any) -> httpx2.Response:
    """A form of the page as it is now, filled in."""
    action = f"/console/tasks/{task}/{verb}"
    return user.post(action, data={**fields(page_of(user, task), action), **data})


def message(answer: httpx2.Response) -> str:
    return words(answer.text)


# -- what it shows --


def test_steps_are_a_ladder(server: Console, user: httpx2.Client) -> None:
    page = page_of(user, server.task(view(6, review(payload={"x": 1}))))
    ladder = page[page.index('class="ladder"') : page.index("</ol>")]
    steps = [element.attributes["class"] for element in elements(ladder) if element.name == "li"]
    assert steps == ["completed"] * 6 + ["waiting", "pending"]
    assert "Open period done · 09:12:44" in words(page)
    assert "Agreed with Ms. Łukasiewicz" in words(page)
    assert HOSTILE in words(page)


def test_a_task_that_has_shown_nothing_yet(server: Console, user: httpx2.Client) -> None:
    page = page_of(user, server.task())
    assert "This runbook names no steps." in page
    assert "No agent has said anything yet." in page


def test_a_failure_says_why(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(3))
    server.ends(task, error={"type": "ActivityError", "message": f"refused {HOSTILE}", "trace": "Traceback: x"})
    page = page_of(user, task)
    assert f"Failed: ActivityError refused {HOSTILE}" in words(page)
    assert "Traceback: x" in page
    assert 'class="failed"' in page
    assert "data-stream" not in page


def test_a_cancelled_task_says_so(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(3))
    server.ends(task, error={"type": "Cancelled", "message": "Cancelled by somebody."})
    page = page_of(user, task)
    assert "cancelled" in words(page)
    assert "Failed" not in words(page)


def test_a_result(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(8))
    server.ends(task, name="x", result={"files": [{"filename": "a.docx", "size": 12}], "note": HOSTILE})
    page = page_of(user, task)
    assert "a.docx" in words(page)
    assert HOSTILE in words(page)


def test_children_and_runs_are_links(server: Console, user: httpx2.Client, session: str) -> None:
    action = {"kind": "drill_down", "reason": "awaits", "children": []}
    task = server.task()
    child = server.task(view(1), task_id=f"{task}:s1:document-ingest:bank/1 ü", parent_id=task, title="document-ingest")
    action["children"] = [{"task_id": child, "step_id": "s1", "slug": "document-ingest"}]
    server.shows(task, view(1, action))
    server.agent_run(task, session)
    server.agent_run(task, "sesn_elsewhere", base_url="https://elsewhere.example")
    page = page_of(user, task)
    path = f"/console/tasks/{task}:s1:document-ingest:bank%2F1%20%C3%BC"
    links = [element.attributes.get("href") for element in elements(page) if element.name == "a"]
    assert links.count(path) == 2
    assert f"/console/sessions/{session}" in links
    assert "sesn_elsewhere on another server" in words(page)
    assert "elsewhere.example" not in page
    assert user.get(path).status_code == 200
    assert "the task that started it" in user.get(path).text


def test_lines_of_agents(server: Console, user: httpx2.Client, session: str) -> None:
    task = server.task(view(5))
    run = server.agent_run(task, session)
    server.tells(run, session, ("text", f"I say {HOSTILE}"), ("tool", "bash: ls"), ("text", "x" * 5000))
    said = words(page_of(user, task))
    assert f"audit-handover I say {HOSTILE}" in said
    assert "bash: ls" in said


def test_documents_are_for_keeping_not_for_showing(server: Console, user: httpx2.Client) -> None:
    task, other = server.task(view(5)), server.task(view(5))
    body = b"<script>alert(1)</script>"
    made = server.document(task, "Bilanz - Oktober.html", body, source=f"agent_output:{AGENT}")
    foreign = server.document(other, "x.txt", b"x", source="upload")
    loose = server.document(None, "x.txt", b"x", source="upload")
    page = page_of(user, task)
    assert "Bilanz - Oktober.html audit-handover 25 B" in words(page)
    answer = user.get(f"/console/tasks/{task}/documents/{made}")
    assert answer.content == body
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith('attachment; filename="Bilanz - Oktober.html"; filename*=')
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    for wrong in (foreign, loose, "none", "00000000-0000-4000-8000-000000000000", "%00"):
        assert user.get(f"/console/tasks/{task}/documents/{wrong}").status_code == 404


def test_a_data_plane_that_is_away_costs_the_list_alone(
    server: Console, user: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("The database is away.")

    monkeypatch.setattr(server.data, "documents", away)
    page = page_of(user, server.task(view(6, review(payload={"x": 1}))))
    assert "can't be listed now: The database is away." in words(page)
    assert "Approve" in page


# -- gates --


def test_approve_with_a_comment(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(6, review(payload={"total": 12.5}, approve_label="Post journals")))
    assert "Post journals" in page_of(user, task)
    answer = send(user, task, "decision", do="approve", comment=" Fine. ")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/tasks/{task}")
    assert server.said(task) == [{"type": "approved", "comments": "Fine.", "acted_by": "test"}]
    page = page_of(user, task)
    assert "Approved. The task goes on when it has taken that." in words(page)
    assert 'name="comment"' not in page


def test_reject(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(6, review(payload={"x": 1})))
    assert send(user, task, "decision", do="reject", comment="No: " + HOSTILE).status_code == 303
    assert server.said(task) == [{"type": "rejected", "comments": "No: " + HOSTILE, "acted_by": "test"}]


def test_an_old_page_answers_no_new_gate(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(6, review(payload={"x": 1})))
    old = fields(page_of(user, task), f"/console/tasks/{task}/decision")
    server.shows(task, view(7, review(payload={"x": 2})))
    answer = user.post(f"/console/tasks/{task}/decision", data={**old, "do": "approve"})
    assert answer.status_code == 409
    assert server.said(task) == []
    assert user.post(f"/console/tasks/{task}/decision", data={"do": "approve"}).status_code == 400
    assert user.post(f"/console/tasks/{task}/decision", data={**old, "do": "dance"}).status_code == 400


def test_two_people_who_differ(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(6, review(payload={"x": 1})))
    form = fields(page_of(user, task), f"/console/tasks/{task}/decision")
    first = user.post(f"/console/tasks/{task}/decision", data={**form, "do": "approve"})
    second = user.post(f"/console/tasks/{task}/decision", data={**form, "do": "reject"})
    assert (first.status_code, second.status_code) == (303, 409)
    assert "has been approved already" in message(second)


def test_the_script_is_told_in_json(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(6))
    headers = {"accept": "application/json", "x-hostler": "1"}
    answer = user.post(f"/console/tasks/{task}/decision", data={"do": "approve", "gate": "x@1"}, headers=headers)
    assert (answer.status_code, list(answer.json())) == (409, ["message"])


def test_edit_a_row(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(6, table_gate()))
    page = page_of(user, task, "?edit=expenserow.rows/r1")
    assert "data-editing" in page
    inputs = {each.attributes["name"]: each.attributes["value"] for each in elements(page)
              if each.attributes.get("name", "").startswith("field.")}  # fmt: skip
    assert inputs == {
        "field.account_code": "4010", "field.description": "Légal fees — Müller & Søn", "field.amount": "1335.5",
        "field.posted": "false",
    }  # fmt: skip
    form = _row_form(page, "r1")
    changed = {**inputs, "field.amount": "1 400,000.25".replace(" ", ""), "field.posted": "True"}
    answer = user.post(f"/console/tasks/{task}/rows", data={**form, **changed, "do": "edit"})
    assert answer.status_code == 303
    edit = {"action": "edit_cell", "row_id": "r1"}
    assert server.said(task) == [
        {"kind": "row_action", "payload": {**edit, "field": "amount", "value": 1400000.25}},
        {"kind": "row_action", "payload": {**edit, "field": "posted", "value": True}},
    ]


def _row_form(page: str, row: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for element in elements(page):
        if element.name == "form":
            found = {}
        elif element.name == "input" and element.attributes.get("type") == "hidden":
            found[element.attributes["name"]] = element.attributes["value"]
        elif element.name == "button" and found.get("row") == row:
            return found
    raise AssertionError(f"no form of row {row}")


def test_reject_a_row(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(6, table_gate()))
    form = _row_form(page_of(user, task), "r3")
    assert user.post(f"/console/tasks/{task}/rows", data={**form, "do": "reject"}).status_code == 303
    assert server.said(task) == [{"kind": "row_action", "payload": {"action": "reject_row", "row_id": "r3"}}]


def test_a_row_that_has_changed_is_looked_at_again(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(6, table_gate()))
    form = _row_form(page_of(user, task), "r1")
    other = table_gate()
    other["payload"]["rows"][1]["amount"] = 7
    server.shows(task, view(6, other))
    assert user.post(f"/console/tasks/{task}/rows", data={**form, "do": "reject"}).status_code == 409
    form = _row_form(page_of(user, task), "r1")
    wrong = [{"row": "r99"}, {"table": "x"}, {"seen": "x"}, {"gate": "x@1"}]
    for each in wrong:
        answer = user.post(f"/console/tasks/{task}/rows", data={**form, "do": "reject", **each})
        assert answer.status_code == 409, each
    for each in ({"field.amount": "much"}, {"field.posted": "perhaps"}):
        answer = user.post(f"/console/tasks/{task}/rows", data={**form, "do": "edit", **each})
        assert answer.status_code == 400, each
    fixed = user.post(f"/console/tasks/{task}/rows", data={**form, "do": "edit", "field.currency": "USD"})
    assert fixed.status_code == 303  # a column that is not editable: nothing is sent
    assert server.said(task) == []


def test_rows_known_by_numbers_keep_them(server: Console, user: httpx2.Client) -> None:
    """A runbook looks its rows up by their own ids, not by texts of them."""
    gate = review("DATA_TABLE", [{"id": 7, "n": 1}, {"n": None}, "plain"], columns=["id", "n"])
    task = server.task(view(6, gate))
    for row in ("7", "1", "2"):
        form = _row_form(page_of(user, task), row)
        assert user.post(f"/console/tasks/{task}/rows", data={**form, "do": "reject"}).status_code == 303
    assert [each["payload"]["row_id"] for each in server.said(task)] == [7, 1, 2]


def test_hand_in_a_file(server: Console, user: httpx2.Client) -> None:
    gate = upload_gate()
    task = server.task()
    gate["args"] |= {"signal_task_id": task, "signal_name": "document_submitted"}
    server.shows(task, view(2, gate))
    page = page_of(user, task)
    assert 'accept="text/csv,.xlsx"' in page
    assert "At most 50 MB." in page
    form = fields(page, f"/console/tasks/{task}/file")
    body = b"account,debit\n" * 1000
    answer = user.post(
        f"/console/tasks/{task}/file", data=form, files={"file": ("C:\\Daten\\Salden - Okt.csv", body, "text/csv")}
    )
    assert answer.status_code == 303, answer.text
    (told,) = server.said(task)
    assert (told["filename"], told["source"]) == ("Salden - Okt.csv", "xero-trial-balance")
    assert user.get(f"/console/tasks/{task}/documents/{told['document_ref']}").content == body


def test_hand_in_one_of_several(server: Console, user: httpx2.Client) -> None:
    task = server.task()
    child = server.task(view(0), task_id=f"{task}:s1:document-ingest:gl", parent_id=task)
    server.task(view(0), task_id=f"{task}:s1:document-ingest:bank", parent_id=task)
    server.shows(task, view(1, uploads_gate(task)))
    page = page_of(user, task)
    assert "Rent roll completed" in words(page)
    answer = user.post(
        f"/console/tasks/{task}/file", data={"source": "gl"}, files={"file": ("gl.pdf", b"x", "application/pdf")}
    )
    assert answer.status_code == 303, answer.text
    assert [each["source"] for each in server.said(child)] == ["gl"]


def test_files_that_are_refused(server: Console, user: httpx2.Client) -> None:
    task = server.task()
    gate = upload_gate()
    gate["args"] |= {"signal_task_id": task, "signal_name": "document_submitted"}
    server.shows(task, view(2, gate))
    url = f"/console/tasks/{task}/file"
    form = fields(page_of(user, task), url)
    answers = [
        user.post(url, data=form, files={"file": ("big", b"x" * 5_000_001)}),
        user.post(url, data=form, files={"file": ("empty", b"")}),
        user.post(url, data=form),
        user.post(url, data={**form, "gate": "x@9"}, files={"file": ("a", b"x")}),
        user.post(url, content=b"--x\r\nbroken", headers={"content-type": "multipart/form-data; boundary=x"}),
        user.post(url, content=b"x", headers={"content-type": "text/plain"}),
        user.post(url, data=form, files=[("file", ("a", b"x")), ("file", ("b", b"x"))]),
    ]
    assert [answer.status_code for answer in answers] == [413, 400, 400, 409, 400, 400, 400]
    assert server.said(task) == []


def test_cancel(server: Console, user: httpx2.Client) -> None:
    task = server.task(view(6, review(payload={"x": 1})))
    assert user.post(f"/console/tasks/{task}/cancel").status_code == 303
    page = page_of(user, task)
    assert "Cancel the task" not in page
    assert 'name="comment"' not in page


def test_an_agents_question_is_answered(server: Console, user: httpx2.Client, session: str) -> None:
    task = server.task(view(5))
    run = server.agent_run(task, session)
    asked = Question(event_id="sevt_1", asked="confirmation", name="bash", input={"command": HOSTILE})
    result = Question(event_id="sevt_2", asked="result", name="fetch_rate", input={"pair": "GBPUSD"})
    server.asks(run, asked, result)
    page = page_of(user, task)
    assert "audit-handover asks to use a tool: bash" in words(page)
    assert HOSTILE in words(page)
    gates = [each.attributes["value"] for each in elements(page) if each.attributes.get("name") == "gate"]
    url = f"/console/tasks/{task}/decision"
    assert user.post(url, data={"gate": gates[0], "do": "reject", "comment": "Too risky"}).status_code == 303
    assert user.post(url, data={"gate": gates[1], "do": "approve", "comment": ""}).status_code == 400
    assert user.post(url, data={"gate": gates[1], "do": "approve", "comment": "1.27"}).status_code == 303
    replies = [(reply.event_id, reply.allow, reply.text) for _, _, reply in server.replies[-2:]]
    assert replies == [("sevt_1", False, "Too risky"), ("sevt_2", True, "1.27")]


# -- whatever a runbook writes --

ODD: list[Any] = [
    None, 5, "text", [], {}, [1, 2], [[1]], {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": [1]}}}}}}}},
    [{"a": 1}, {"b": [1, {"c": HOSTILE}]}], {HOSTILE: HOSTILE}, {"items": 1, "get": 2, "keys": [], "values": {}},
    "x" * 5000, True, -1.5, [{"id": None, "status": None}], {"rows": [{"id": {"x": 1}, "status": ["a"]}]},
    {"rows": "no list"}, [{}] * 600, {"error": {"type": 1}},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda value: repr(value)[:30])
def test_any_payload_is_shown(server: Console, user: httpx2.Client, odd: Any) -> None:
    task = server.task(view(1))
    for component in ("APPROVAL_FORM", "DATA_TABLE", "SUMMARY", "REPORT_PREVIEW", "FILE_UPLOAD", "LOADING", HOSTILE):
        seen = {"display_hint": {"component": component, "config": {}}, "payload": odd, "completed_at": "x",
                "decision": odd}  # fmt: skip
        server.shows(task, view(7, review(component, odd), s1=seen))
        page = page_of(user, task)
        assert 'name="comment"' in page


@pytest.mark.parametrize("odd", ODD, ids=lambda value: repr(value)[:30])
def test_any_view_is_shown(server: Console, user: httpx2.Client, odd: Any) -> None:
    task = server.task(view(1), context={"odd": odd})
    views = [
        {"current_steps": odd, "current_pending_action": odd, "step_snapshots": odd, "current_ui_state": odd},
        view(1, {"kind": odd, "reason": odd, "display_hint": odd, "payload": odd, "checks": odd, "feedback": odd}),
        view(1, {"kind": "submit_file", "args": odd, "display_hint": {"component": odd, "config": odd}}),
        view(1, {"kind": "submit_files", "display_hint": {"config": {"expected": odd, "title": odd}}}),
        view(1, {"kind": "submit_files", "display_hint": {"config": {"expected": [{"args": odd, "title": odd}]}}}),
        view(1, {"kind": "drill_down", "children": odd}),
        view(1, {**review("DATA_TABLE", {"rows": rows(2)}, columns=odd, datasets=odd), "checks": {"items": odd}}),
        view(1, {**review("DATA_TABLE", odd, datasets=[{"columns": odd, "data_key": odd}]), "feedback": {"a": odd}}),
    ]
    for each in views:
        if isinstance(each, dict):
            server.shows(task, each)
            page_of(user, task)


# -- live --


def test_the_page_is_told_what_changes(server: Console, user: httpx2.Client, session: str) -> None:
    task = server.task(view(5))
    stream = frames(user, f"/console/tasks/{task}/stream", params={"after": "0"})
    assert next(stream).name == "begin"
    first = next(stream)
    assert set(first.data["html"]) == set(first.data["digests"])
    server.shows(task, view(6, review(payload={"x": HOSTILE})))
    sections = next(frame for frame in stream if frame.name == "sections")
    assert {"ladder", "gate"} <= set(sections.data["html"])
    assert "documents" not in sections.data["html"]
    assert strange(sections.data["html"]["gate"]) == []
    assert sections.data["holds"]["gate"].startswith(f"{task}@")
    server.tells(server.agent_run(task, session), session, ("text", "one"), ("text", "two"))
    lines = next(frame for frame in stream if frame.name == "lines")
    assert (lines.place, "one" in lines.data["html"]) == ("2", True)
    server.ends(task, name="x", result=None)
    left = list(stream)
    assert left[-1].name == "end"
    again = [frame.name for frame in frames(user, f"/console/tasks/{task}/stream", headers={"last-event-id": "1"})]
    assert again == ["begin", "sections", "lines", "end"]


def test_the_page_says_what_it_shows_already(server: Console, user: httpx2.Client) -> None:
    """So that a section which hasn't changed since is not put in again: what is open stays open."""
    task = server.task(view(5))
    page = page_of(user, task)
    digests = {each.attributes["data-section"]: each.attributes["data-digest"] for each in elements(page)
               if "data-section" in each.attributes}  # fmt: skip
    stream = frames(user, f"/console/tasks/{task}/stream")
    sent = next(frame for frame in stream if frame.name == "sections")
    assert sent.data["digests"] == digests


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "9" * 30, "-" + "9" * 5000, "1 2 x", "²"])
def test_a_cell_for_a_number_takes_nothing_that_json_has_not(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Total: Input should be a number"):
        views.cell(views.Column(key="total", label="Total", kind="currency"), 1.5, text)
