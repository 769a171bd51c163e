"""The pages in a real browser: they fill while they are open, forms work by clicking, and all of it can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromium import Page
from content import (
    HOSTILE,
    LONG,
    TABLE,
    request,
    result,
    review,
    rows,
    session_events,
    table_gate,
    text,
    upload_gate,
    view,
)
from content import use as call
from rig import AGENT, Console

from hostler.log.entries import Draft
from hostler.runbooks.invoking.rows import Question
from serving import ok

Look = Callable[..., Page]
ROWS = "[...document.querySelectorAll('#rows > li')].map(each => each.id)"


def has(words: str) -> str:
    return f"document.body.innerText.includes({json.dumps(words)})"


def live(page: Page) -> Page:
    page.wait("document.querySelector('#live').textContent === 'live'")
    return page


# -- the session page --


def test_the_timeline_fills_while_it_is_open(server: Console, look: Look, session: str) -> None:
    server.append(session, text("user.message", "Begin."))
    page = live(look(f"/console/sessions/{session}"))
    title = page.js("document.title")
    build = call("bash", {"command": "make all"})
    written = server.append(session, *request(900), build)
    page.wait(f"!!document.getElementById('{build.id}')")
    server.append(session, result(build, "It is built."), text("agent.message", f"Done. {HOSTILE}"))
    page.wait(has("Done. <img"))
    # The result went into its call, with the time that it took; so did the end of the model's request.
    assert page.js(f"document.querySelector('[data-slot=\"{build.id}\"]').textContent.includes('It is built.')")
    assert page.js(f"!!document.querySelector('[data-state=\"{build.id}\"] .took')")
    assert page.js(f"document.querySelector('[data-slot=\"{written[0]}\"]').textContent.includes('900 in')")
    page.click(f"[id='{build.id}'] summary")
    page.wait(has("It is built."))
    assert page.js("document.title") == title  # nothing that an agent wrote has run


def test_text_is_seen_while_it_is_written(server: Console, look: Look, session: str) -> None:
    page = live(look(f"/console/sessions/{session}"))
    message = text("agent.message", "Hello there.")
    hub, preview = server.log.hub, _preview(message.id)

    async def write() -> None:
        hub.start_preview(session, (None,), preview[0], preview[1])
        hub.preview(session, message.id, preview[2])

    server.call(write())
    page.wait(has("Hello th"))
    assert page.js("document.querySelectorAll('.row.preview').length") == 1
    server.append(session, message)
    page.wait(has("Hello there."))
    assert page.js("document.querySelectorAll('.row.preview').length") == 0
    assert page.js(ROWS) == [message.id]


def _preview(event_id: str) -> tuple[Any, bytes, bytes]:
    from hostler.wire.base import encode
    from hostler.wire.events import Delta, DeltaText, EventDelta, EventStart, Preview

    event = Preview(type="agent.message", id=event_id)
    delta = EventDelta(event_id=event_id, delta=Delta(index=0, content=DeltaText(text="Hello th")))
    return event, encode(EventStart(event=event)), encode(delta)


def test_a_page_that_was_away_misses_nothing_and_doubles_nothing(server: Console, look: Look, session: str) -> None:
    page = live(look(f"/console/sessions/{session}"))
    seen = server.append(session, text("agent.message", "one"))
    page.wait(f"{ROWS}.length === 1")
    _visible(page, "hidden")
    seen += server.append(session, text("agent.message", "two"), text("agent.message", "three"))
    _visible(page, "visible")
    page.wait(f"{ROWS}.length === 3")
    seen += server.append(session, text("agent.message", "four"))
    page.wait(f"{ROWS}.length === 4")
    assert page.js(ROWS) == seen


def _visible(page: Page, state: str) -> None:
    page.js(
        f"Object.defineProperty(document, 'visibilityState', {{value: '{state}', configurable: true}});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def test_a_waiting_message_moves_up_when_it_is_taken(server: Console, look: Look, session: str) -> None:
    body = {"events": [{"type": "user.message", "content": [{"type": "text", "text": "Please wait."}]}]}
    (sent,) = ok(server.client.post(f"/v1/sessions/{session}/events", json=body))["data"]
    page = live(look(f"/console/sessions/{session}"))
    assert page.js("document.querySelector('#queued').textContent.includes('Please wait.')")
    server.consume(session, sent["id"])
    page.wait(f"{ROWS}.length === 1")
    assert page.js("document.querySelector('#queued').children.length") == 0
    assert page.js(ROWS) == [sent["id"]]


def test_show_all_and_earlier_events(server: Console, look: Look, session: str) -> None:
    first = server.append(session, *(text("agent.message", f"number {each}") for each in range(310)))
    cat = call("bash", {"command": "cat ledger"})
    server.append(session, cat, result(cat, LONG))
    page = live(look(f"/console/sessions/{session}"))
    page.click(f"[id='{cat.id}'] summary")
    assert not page.js(has("0399"))
    page.click(f"[id='{cat.id}'] a.more")
    page.wait(has("0399"))
    assert not page.js(f"!!document.getElementById('{first[0]}')")
    page.click("#earlier a")
    page.wait(f"!!document.getElementById('{first[0]}')")
    assert page.js(ROWS) == [*first, cat.id]
    assert page.js("location.search") == ""


# -- the task page --


def test_a_task_goes_on_without_a_reload(server: Console, look: Look, session: str) -> None:
    task = server.task(view(5))
    page = live(look(f"/console/tasks/{task}"))
    page.js("window.same = true")
    server.tells(server.agent_run(task, session), session, ("text", "I am drafting."), ("tool", "bash: ls"))
    page.click("#tab-reasoning")
    page.wait(has("I am drafting."))
    page.wait(f"!!document.querySelector('a[href=\"/console/sessions/{session}\"]')")
    server.shows(task, view(6, review(payload={"total": 4})))
    page.wait("!!document.querySelector('#comment')")
    assert page.js("document.querySelector('.ladder .waiting .title').textContent") == "Review"
    server.ends(task, name="x", result={"document_ref": "the end"})
    page.wait(has("the end"))
    page.wait("document.querySelector('#live').textContent === 'ended'")
    assert page.js("document.querySelectorAll('#lines > li').length") == 2
    assert page.js("window.same")


@pytest.mark.parametrize(("button", "verb"), [("approve", "approved"), ("reject", "rejected")])
def test_decide_by_clicking(server: Console, look: Look, button: str, verb: str) -> None:
    task = server.task(view(6, review(payload={"total": 4})))
    page = live(look(f"/console/tasks/{task}", 390))
    page.js("window.same = true")
    page.type("#comment", "Looks right to me — Łukasz")
    server.shows(task, view(6, review(payload={"total": 5})))  # a new gate takes what was typed with it
    page.wait(has("5"))
    page.wait("document.querySelector('#comment').value === ''")
    page.type("#comment", "Looks right to me — Łukasz")
    page.click(f"button[value={button}]")
    page.wait(has(f"{verb.title()}. The task goes on when it has taken that."))
    assert server.said(task) == [{"type": verb, "comments": "Looks right to me — Łukasz", "acted_by": "test"}]
    assert page.js("window.same")


def test_what_is_being_typed_stays_when_checks_go_on(server: Console, look: Look) -> None:
    gate = table_gate()
    task = server.task(view(6, gate))
    page = live(look(f"/console/tasks/{task}"))
    page.type("#comment", "half a sent")
    gate["checks"] = {**gate["checks"], "summary": "All of them passing"}
    server.updates(task, view(6, gate))
    page.wait(has("All of them passing"))
    assert page.js("document.activeElement.id") == "comment"
    page.call("Input.insertText", text="ence")
    assert page.js("document.querySelector('#comment').value") == "half a sentence"


def test_a_gate_that_is_gone_says_so(server: Console, look: Look) -> None:
    task = server.task(view(6, review(payload={"total": 4})))
    page = live(look(f"/console/tasks/{task}"))
    page.js("document.querySelector('input[name=gate]').value += '9'")
    page.click("button[value=approve]")
    page.wait("!!document.querySelector('[role=alert]')")
    assert "gate" in page.js("document.querySelector('[role=alert]').textContent")
    assert page.js("document.querySelector('button[value=approve]').disabled") is False
    page.errors.clear()  # a browser notes each refused request


def test_edit_and_reject_rows_by_clicking(server: Console, look: Look) -> None:
    task = server.task(view(6, table_gate()))
    page = live(look(f"/console/tasks/{task}"))
    page.click("a[aria-label='Edit row r1']")
    page.wait("document.activeElement.name === 'field.account_code'")
    page.type("input[name='field.description']", "Legal fees (net)")
    server.updates(task, view(6, {**table_gate(), "reason": "Another reason"}))
    page.click("tr[data-editing] button[value=edit]")
    page.wait("!document.querySelector('[data-editing]')")
    edit = {"action": "edit_cell", "row_id": "r1", "field": "description", "value": "Legal fees (net)"}
    assert server.said(task) == [{"kind": "row_action", "payload": edit}]
    page.click("button[aria-label='Reject row r2']")
    page.wait("!document.querySelector('[aria-busy]')")
    assert server.said(task)[1:] == [{"kind": "row_action", "payload": {"action": "reject_row", "row_id": "r2"}}]
    changed = table_gate()
    changed["payload"]["rows"][1]["description"] = "Legal fees (net)"
    server.updates(task, view(6, changed))
    page.wait(has("Legal fees (net)"))


def test_hand_in_a_file_by_clicking(server: Console, look: Look, file: Path) -> None:
    task = server.task()
    gate = upload_gate()
    gate["args"] |= {"signal_task_id": task, "signal_name": "document_submitted"}
    server.shows(task, view(2, gate))
    page = live(look(f"/console/tasks/{task}"))
    page.choose_file("input[type=file]", file)
    server.updates(task, view(2, {**gate, "reason": "It is still needed."}))
    page.wait(has("It is still needed."))
    assert page.js("document.querySelector('input[type=file]').files[0].name") == file.name
    page.click("form[enctype] button")
    page.wait(has("Handed in. The task goes on when it has taken that."))
    page.click("#tab-documents")
    page.wait(has(file.name))
    (told,) = server.said(task)
    assert told["filename"] == file.name


def test_answer_an_agent_by_clicking(server: Console, look: Look, session: str) -> None:
    task = server.task(view(5))
    run = server.agent_run(task, session)
    server.asks(run, Question(event_id="sevt_1", asked="confirmation", name="bash", input={"command": "make"}))
    page = live(look(f"/console/tasks/{task}"))
    page.click("button[value=approve]")
    page.wait(f"!{has('asks to use a tool')}")
    assert [(reply.event_id, reply.allow) for _, _, reply in server.replies[-1:]] == [("sevt_1", True)]


def test_everything_can_be_reached_with_the_keyboard(server: Console, look: Look) -> None:
    page = live(look(f"/console/tasks/{server.task(view(6, table_gate(1)))}"))
    order = []
    for _ in range(14):
        page.key("Tab")
        order.append(page.js("(e => e.id || e.getAttribute('aria-label') || e.innerText)(document.activeElement)"))
    assert order[0] == "To the content"
    places = [order.index(name) for name in ("Sign out", "Edit row r0", "comment", "Approve", "tab-steps")]
    assert places == sorted(places)
    page.key("ArrowRight")
    assert page.js("document.activeElement.id") == "tab-reasoning"
    assert page.js("document.querySelector('#reasoning').hidden") is False


def test_a_signed_link_opens_its_page_and_leaves_the_address(server: Console, look: Look) -> None:
    task = server.task(view(6, review(payload={"x": 1})))
    page = look(server.access.sign(f"/console/tasks/{task}"), key=None)
    page.wait(f"location.pathname + location.search === '/console/tasks/{task}'")
    live(page)
    page.click("button[value=approve]")
    page.wait(has("The task goes on when it has taken that."))
    assert page.js("document.cookie") == ""


# -- to look at --

CONTRAST = """(() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = parts(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0.9) return c; }
    return [255, 255, 255]; };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode()); ) {
    const e = node.parentElement;
    if (!node.data.trim() || !e.checkVisibility() || e.closest(':disabled')) continue;
    const [a, b] = [light(parts(getComputedStyle(e).color)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${e.className || e.tagName}: ${node.data.trim().slice(0, 40)}`);
  }
  return poor;
})()"""


@pytest.fixture(scope="module")
def scenes(server: Console) -> dict[str, str]:
    """Pages with all kinds of content on them."""
    session = server.session()
    server.append(session, *session_events(), Draft(type="agent.thinking"))
    table = server.task(view(6, table_gate(8)), title="NAV pack, " + "Donaudampfschifffahrtsgesellschaft" * 3)
    server.tells(server.agent_run(table, session), session, ("text", "word " * 200), ("tool", "x" * 900))
    server.document(table, "a" * 120 + ".docx", b"x", source=f"agent_output:{AGENT}")
    upload = server.task(view(2, upload_gate()))
    failed = server.task(view(3))
    server.ends(failed, error={"type": "ActivityError", "message": "x" * 400, "trace": LONG})
    preview = {"sections": rows(3), "deep": {"a": {"b": {"c": "x" * 300}}}}
    report = server.task(view(6, review("REPORT_PREVIEW", preview)))
    wide = {"component": "DATA_TABLE", "config": TABLE}
    done = server.task(view(8, s5={"display_hint": wide, "payload": {"rows": rows(30)}, "completed_at": "now"}))
    server.ends(done, name="x", result={"text": "x" * 500})
    return {
        "session": f"/console/sessions/{session}", "table": f"/console/tasks/{table}",
        "edit": f"/console/tasks/{table}?edit=expenserow.rows/r1", "upload": f"/console/tasks/{upload}",
        "failed": f"/console/tasks/{failed}", "report": f"/console/tasks/{report}", "done": f"/console/tasks/{done}",
        "home": "/console", "missing": "/console/tasks/none",
    }  # fmt: skip


@pytest.mark.parametrize("width", [390, 1440])
def test_pages_can_be_read_by_day_and_by_night(look: Look, scenes: dict[str, str], width: int) -> None:
    page = look("/console", width)
    for name, path in scenes.items():
        page.goto(page.js("location.origin") + path)
        page.js("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        page.js("document.querySelectorAll('.panel').forEach((each) => (each.hidden = false))")
        assert page.js("document.documentElement.scrollWidth - innerWidth") <= 0, name
        for dark in (False, True):
            page.looks(dark=dark)
            assert page.js(CONTRAST) == [], (name, dark)
        assert page.js("document.querySelectorAll('h1').length") == 1, name
        unnamed = "input:not([type=hidden]), textarea"
        fields = f"[...document.querySelectorAll('{unnamed}')]"
        assert page.js(f"{fields}.filter((each) => !each.labels.length && !each.ariaLabel).length") == 0, name
    page.errors = [each for each in page.errors if "404" not in each]
