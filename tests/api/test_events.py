"""Sending and listing events: whole requests, the gate while a session waits, answers, paging."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from databases import Databases
from hostler.ids import new_id
from hostler.log.entries import Draft
from serving import Server, ok, refused

Json = dict[str, Any]


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


def text(value: str = "hi") -> Json:
    return {"type": "text", "text": value}


def message(value: str = "hi") -> Json:
    return {"type": "user.message", "content": [text(value)]}


def system() -> Json:
    return {"type": "system.message", "content": [text("note")]}


def send(http: httpx2.Client, session: Json, *events: Json) -> httpx2.Response:
    return http.post(f"/v1/sessions/{session['id']}/events", json={"events": list(events)})


def listed(http: httpx2.Client, session: Json, **query: Any) -> list[Json]:
    found: list[Json] = ok(http.get(f"/v1/sessions/{session['id']}/events", params=query))["data"]
    return found


def uses(server: Server, session: Json) -> list[str]:
    """Let the agent call a custom tool, a gated tool and a free tool, then wait for the first two."""
    from hostler.ids import new_id

    ids = [new_id("sevt") for _ in range(3)]
    call = {"input": {}}
    server.append(
        session["id"],
        Draft(type="agent.custom_tool_use", id=ids[0], fields={"name": "t", **call}),
        Draft(type="agent.tool_use", id=ids[1], fields={"name": "bash", **call, "evaluated_permission": "ask"}),
        Draft(type="agent.tool_use", id=ids[2], fields={"name": "bash", **call, "evaluated_permission": "allow"}),
        pending=f'["{ids[0]}","{ids[1]}"]'.encode(),
    )
    return ids


def test_messages_are_queued_and_echoed(server: Server, http: httpx2.Client, session: Json) -> None:
    body = ok(send(http, session, message("a"), message("b"), system()))
    assert [event["type"] for event in body["data"]] == ["user.message", "user.message", "system.message"]
    assert {event["processed_at"] for event in body["data"]} == {None}
    assert listed(http, session) == body["data"]
    assert server.woken == [session["id"]]
    assert ok(http.get(f"/v1/sessions/{session['id']}"))["status"] == "running"


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({"type": "user.message", "content": []}, "events.1.content"),
        ({"type": "user.message", "content": [text(" ")]}, "events.1.content.0.text"),
        ({"type": "user.message", "content": [{"type": "redacted"}]}, "events.1.content.0: redacted"),
        ({"type": "user.message", "content": "hi"}, "events.1.content"),
        ({"type": "user.message", "content": [{"type": "video"}]}, "events.1.content.0.type"),
        ({"type": "user.message", "content": [text()], "id": "x"}, "events.1.id: Extra"),
        (
            {
                "type": "user.message",
                "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "??"}}],
            },
            "events.1.content.0.source.data: not valid base64",
        ),
        (
            {"type": "user.message", "content": [{"type": "document", "source": {"type": "file", "file_id": "no"}}]},
            "events.1.content.0.source.file_id: file no was not found",
        ),
        ({"type": "agent.message", "content": []}, "events.1.type"),
        ({"type": "user.tool_result", "tool_use_id": "x"}, "self_hosted"),
        (
            {"type": "user.define_outcome", "description": "d", "rubric": {"type": "file", "file_id": "file_no"}},
            "events.1.rubric.file_id: file file_no was not found",
        ),
        ({"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_no"}, "events[1]: sevt_no is not"),
        ({"type": "user.tool_confirmation", "tool_use_id": "sevt_no", "result": "allow"}, "sevt_no is not"),
        (
            {"type": "user.tool_confirmation", "tool_use_id": "x", "result": "allow", "deny_message": "m"},
            "deny_message",
        ),
        ({"type": "user.interrupt", "session_thread_id": "sthr_no"}, "sthr_no"),
    ],
)
def test_one_bad_event_refuses_the_whole_request(
    server: Server, http: httpx2.Client, session: Json, event: Json, says: str
) -> None:
    assert says in refused(send(http, session, message(), event))
    assert listed(http, session) == []
    assert server.woken == []


def test_where_a_system_message_may_stand(http: httpx2.Client, session: Json, environment: Json) -> None:
    refused(send(http, session, system()))
    refused(send(http, session, system(), message()))
    refused(send(http, session, {"type": "user.interrupt"}, system()))
    old = ok(http.post("/v1/agents", json={"name": "o", "model": "claude-haiku-4-5"}))
    other = ok(http.post("/v1/sessions", json={"agent": old["id"], "environment_id": environment["id"]}))
    response = send(http, other, message(), system())
    assert response.json()["error"]["details"]["error_code"] == "model_does_not_support_mid_conversation_system"


def test_a_waiting_session_takes_answers_only(server: Server, http: httpx2.Client, session: Json) -> None:
    custom, gated, free = uses(server, session)
    assert refused(send(http, session, message())) == (
        f"Invalid user.message event at events[0]: waiting on responses to events [{custom}, {gated}]; only "
        "user.tool_confirmation, user.custom_tool_result, user.tool_result, or user.interrupt may be sent"
    )
    answer = {"type": "user.custom_tool_result", "custom_tool_use_id": custom, "content": [text("42")]}
    (echo,) = ok(send(http, session, answer))["data"]
    assert echo["processed_at"] is not None
    assert f"[{gated}]" in refused(send(http, session, message()))
    assert "does not wait" in refused(
        send(http, session, {"type": "user.tool_confirmation", "tool_use_id": free, "result": "allow"})
    )
    (again,) = ok(send(http, session, {**answer, "content": [text("43")]}))["data"]
    assert again == echo
    confirm = {"type": "user.tool_confirmation", "tool_use_id": gated, "result": "deny", "deny_message": "no"}
    answered, queued = ok(send(http, session, confirm, message("next")))["data"]
    assert (answered["deny_message"], queued["processed_at"]) == ("no", None)
    types = [event["type"] for event in listed(http, session)]
    assert types[3:] == ["user.custom_tool_result", "user.tool_confirmation", "user.message"]


def test_an_interrupt_lifts_the_wait(server: Server, http: httpx2.Client, session: Json) -> None:
    custom, *_ = uses(server, session)
    ok(send(http, session, {"type": "user.interrupt"}, message("do this instead")))
    ok(send(http, session, message("and that")))
    server.append(
        session["id"],
        Draft(
            type="user.custom_tool_result",
            fields={"custom_tool_use_id": custom, "content": [], "is_error": True},
            answers=custom,
        ),
    )
    (late,) = ok(send(http, session, {"type": "user.custom_tool_result", "custom_tool_use_id": custom}))["data"]
    assert late["is_error"] is True


def test_twelve_answers_at_once_and_one_twice_in_a_request(server: Server, http: httpx2.Client, session: Json) -> None:
    drafts = [Draft(type="agent.custom_tool_use", fields={"name": "t", "input": {}}) for _ in range(12)]
    server.append(session["id"], *drafts)
    answers = [{"type": "user.custom_tool_result", "custom_tool_use_id": draft.id} for draft in drafts]
    echoes = ok(send(http, session, *answers, answers[0]))["data"]
    assert len({echo["id"] for echo in echoes}) == 12
    assert echoes[12] == echoes[0]


def test_at_most_a_thousand_events_wait(http: httpx2.Client, session: Json) -> None:
    ok(send(http, session, *[message(str(n)) for n in range(1000)]))
    refused(send(http, session, message()), 429)
    assert len(listed(http, session)) == 1000


def test_list_filters_and_pages(server: Server, http: httpx2.Client, session: Json) -> None:
    for n in range(7):
        content = {"content": [text(str(n))]}
        server.append(session["id"], Draft(type="agent.message", fields=content), Draft(type="agent.thinking"))
    ok(send(http, session, message("queued")))
    everything = listed(http, session)
    assert len(everything) == 15
    assert everything[-1]["processed_at"] is None
    stamps = [event["processed_at"] for event in everything[:-1]]
    assert stamps == sorted(set(stamps))
    url = f"/v1/sessions/{session['id']}/events"
    for order in ("asc", "desc"):
        seen: list[Json] = []
        page: str | None = None
        while page is not None or not seen:
            found = ok(http.get(url, params={"limit": 4, "order": order, **({"page": page} if page else {})}))
            seen += found["data"]
            page = found["next_page"]
        assert seen == (everything if order == "asc" else everything[::-1])
    assert {event["type"] for event in listed(http, session, **{"types[]": "agent.message"})} == {"agent.message"}
    assert len(listed(http, session, types=["agent.message", "agent.thinking"])) == 14
    middle = everything[6]["processed_at"]
    assert listed(http, session, **{"created_at[gt]": middle}) == everything[7:-1]
    assert listed(http, session, **{"created_at[lte]": middle}) == everything[:7]
    refused(http.get(url, params={"types[]": "event_delta"}))
    refused(http.get(url, params={"limit": 1001}))
    refused(http.get(url, params={"page": "page_zzz"}))
    refused(http.get("/v1/sessions/sesn_no/events"), 404)
    refused(send(http, {"id": "sesn_no"}, message()), 404)


def test_of_many_answers_at_once_one_counts(server: Server, http: httpx2.Client, session: Json) -> None:
    call = Draft(type="agent.custom_tool_use", fields={"name": "t", "input": {}})
    server.append(session["id"], call)

    def answer(n: int) -> str:
        event = {"type": "user.custom_tool_result", "custom_tool_use_id": call.id, "content": [text(str(n))]}
        return str(ok(send(http, session, event))["data"][0]["id"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(answer, range(32)))) == 1
    assert len(listed(http, session)) == 2
