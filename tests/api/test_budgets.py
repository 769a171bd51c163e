"""Budgets: who may have one, how it changes, and what a session at its limit accepts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx2
import msgspec
import pytest

from databases import Databases
from hostler import clock
from hostler.harness.ledger import Ledger
from hostler.ids import new_id
from hostler.log.entries import Draft
from serving import Server, ok, refused

Json = dict[str, Any]


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


def cents(amount: Any, **more: Any) -> Json:
    return {"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD", **more}}


@pytest.fixture
def capped(http: httpx2.Client, agent: Json, environment: Json) -> Json:
    """A session that may cost a dollar."""
    body = {"agent": agent["id"], "environment_id": environment["id"], "budget": cents("100")}
    return ok(http.post("/v1/sessions", json=body))


def message(text: str = "hi") -> Json:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def spend(server: Server, session: Json, dollars: str, **columns: Any) -> None:
    """As the harness leaves a session that has cost so much."""
    stop = {"stop_reason": {"type": "budget_reached" if columns.get("paused") else "end_turn"}}
    usage = msgspec.json.encode(Ledger(requests=1, cost=Decimal(dollars)))
    idle = Draft(type="session.status_idle", fields=stop)
    server.append(session["id"], idle, **{"usage": usage, "wake_at": None, **columns})


def reason(response: httpx2.Response) -> str:
    refused(response)
    found: str = response.json()["error"]["details"]["reason"]
    return found


def send(http: httpx2.Client, session: Json, *events: Json) -> httpx2.Response:
    return http.post(f"/v1/sessions/{session['id']}/events", json={"events": list(events)})


def test_a_budget_is_shown_as_it_was_given(http: httpx2.Client, capped: Json) -> None:
    assert capped["budget"] == cents("100")
    assert ok(http.get(f"/v1/sessions/{capped['id']}"))["budget"] == cents("100")
    assert ok(http.get("/v1/sessions"))["data"][0]["budget"] == cents("100")


@pytest.mark.parametrize(
    ("budget", "place"),
    [
        (cents("0"), "budget.max_list_cost.amount"),
        (cents("007"), "budget.max_list_cost.amount"),
        (cents("-5"), "budget.max_list_cost.amount"),
        (cents("1.5"), "budget.max_list_cost.amount"),
        (cents("1e3"), "budget.max_list_cost.amount"),
        (cents(" 1"), "budget.max_list_cost.amount"),
        (cents("1\n"), "budget.max_list_cost.amount"),
        (cents("٣"), "budget.max_list_cost.amount"),
        (cents(""), "budget.max_list_cost.amount"),
        (cents("1" * 19), "budget.max_list_cost.amount"),
        (cents(5), "budget.max_list_cost.amount"),
        (cents("1", currency="EUR"), "budget.max_list_cost.currency"),
        (cents("1", unit="cents"), "budget.max_list_cost.unit"),
        ({"type": "limit"}, "budget.max_list_cost"),
        ({"type": "soft", "max_list_cost": {"amount": "1", "currency": "USD"}}, "budget"),
        ("100", "budget"),
    ],
)
def test_amounts_are_whole_cents(
    http: httpx2.Client, agent: Json, environment: Json, capped: Json, budget: Any, place: str
) -> None:
    body = {"agent": agent["id"], "environment_id": environment["id"], "budget": budget}
    assert place in refused(http.post("/v1/sessions", json=body))
    assert place in refused(http.post(f"/v1/sessions/{capped['id']}", json={"budget": budget}))
    assert len(ok(http.get("/v1/sessions"))["data"]) == 1


def test_every_model_needs_a_price(http: httpx2.Client, agent: Json, environment: Json, capped: Json) -> None:
    unpriced = {"type": "agent_with_overrides", "id": agent["id"], "model": "house-model"}
    body = {"agent": unpriced, "environment_id": environment["id"], "budget": cents("100")}
    answer = http.post("/v1/sessions", json=body)
    assert reason(answer) == "model_not_budgetable"
    assert "house-model" in refused(answer)
    assert len(ok(http.get("/v1/sessions"))["data"]) == 1
    del body["budget"]
    ok(http.post("/v1/sessions", json=body))


def test_a_budget_can_not_be_added_later(http: httpx2.Client, session: Json, capped: Json) -> None:
    url = f"/v1/sessions/{session['id']}"
    assert reason(http.post(url, json={"budget": cents("100")})) == "budget_create_only"
    assert ok(http.post(url, json={"budget": None}))["budget"] is None
    assert ok(http.get(f"{url}/events"))["data"] == []
    url = f"/v1/sessions/{capped['id']}"
    assert ok(http.post(url, json={"budget": None}))["budget"] is None
    assert reason(http.post(url, json={"budget": cents("100")})) == "budget_create_only", "nor back again"
    (updated,) = ok(http.get(f"{url}/events"))["data"]
    assert set(updated) == {"id", "type", "processed_at", "budget"}
    assert updated["budget"] is None


def test_it_is_replaced_by_anything_above_what_was_consumed(server: Server, http: httpx2.Client, capped: Json) -> None:
    url = f"/v1/sessions/{capped['id']}"
    spend(server, capped, "0.5000000001")
    for amount in ("1", "49", "50"):
        answer = http.post(url, json={"budget": cents(amount), "title": "never"})
        assert reason(answer) == "budget_not_raised"
        assert "budget.max_list_cost must be greater than the session's consumed list cost" in refused(answer)
    for amount in ("51", "1000", "60"):
        assert ok(http.post(url, json={"budget": cents(amount)}))["budget"] == cents(amount)
    ok(http.post(url, json={"budget": cents("60"), "title": "t"}))
    updates = ok(http.get(f"{url}/events?types[]=session.updated"))["data"]
    assert [event.get("budget") for event in updates] == [cents("51"), cents("1000"), cents("60"), None]
    assert "budget" not in updates[-1], "only what changed"
    assert server.woken == [], "nothing was stopped by it"


def test_it_may_change_while_the_session_runs(server: Server, http: httpx2.Client, capped: Json) -> None:
    """And running time counts until now."""
    url = f"/v1/sessions/{capped['id']}"
    running = {"status": "running", "running_since": clock.now() - 3_600_000_000}
    server.append(capped["id"], Draft(type="session.status_running"), **running)
    assert reason(http.post(url, json={"budget": cents("8")})) == "budget_not_raised"
    assert ok(http.post(url, json={"budget": cents("9")}))["budget"] == cents("9")
    assert ok(http.post(url, json={"budget": None}))["budget"] is None
    server.append(capped["id"], Draft(type="session.status_rescheduled"), status="rescheduling", running_since=None)
    assert reason(http.post(url, json={"budget": cents("9")})) == "budget_create_only"


def test_an_ended_session_keeps_its_budget(http: httpx2.Client, capped: Json) -> None:
    url = f"/v1/sessions/{capped['id']}"
    ok(http.post(f"{url}/archive"))
    assert "archived" in refused(http.post(url, json={"budget": cents("200")}))
    assert "archived" in refused(http.post(url, json={"budget": None}))
    assert ok(http.get(url))["budget"] == cents("100")


REFUSED: list[list[Json]] = [
    [message()],
    [message(), {"type": "system.message", "content": [{"type": "text", "text": "x"}]}],
    [{"type": "user.interrupt"}, message()],
]


@pytest.mark.parametrize("paused", [0, 1])
def test_at_the_limit_only_answers_and_interrupts_are_accepted(
    server: Server, http: httpx2.Client, capped: Json, paused: int
) -> None:
    spend(server, capped, "1", paused=paused)
    before = ok(http.get(f"/v1/sessions/{capped['id']}/events"))["data"]
    for events in REFUSED:
        answer = send(http, capped, *events)
        assert reason(answer) == "budget_reached"
        listed = "user.tool_confirmation, user.tool_result, user.custom_tool_result, or user.interrupt"
        assert listed in refused(answer)
    assert ok(http.get(f"/v1/sessions/{capped['id']}/events"))["data"] == before
    assert server.woken == []


def test_below_the_limit_everything_is_accepted(server: Server, http: httpx2.Client, capped: Json) -> None:
    spend(server, capped, "0.9999999")
    ok(send(http, capped, message()))
    assert server.woken == [capped["id"]]


def test_a_running_session_past_its_limit_takes_no_message(server: Server, http: httpx2.Client, capped: Json) -> None:
    usage = msgspec.json.encode(Ledger(requests=1, cost=Decimal("0.99")))
    running = {"status": "running", "running_since": clock.now() - 3_600_000_000, "usage": usage}
    server.append(capped["id"], Draft(type="session.status_running"), **running)
    assert reason(send(http, capped, message())) == "budget_reached"
    ok(send(http, capped, {"type": "user.interrupt"}))


def test_answers_are_taken_at_the_limit(server: Server, http: httpx2.Client, capped: Json) -> None:
    (use,) = server.append(capped["id"], Draft(type="agent.custom_tool_use", fields={"name": "n", "input": {}}))
    spend(server, capped, "2", pending=msgspec.json.encode([use]))
    answer = {"type": "user.custom_tool_result", "custom_tool_use_id": use, "content": []}
    told = {"type": "system.message", "content": [{"type": "text", "text": "x"}]}
    assert reason(send(http, capped, answer, told)) == "budget_reached"
    assert server.woken == []
    (echo,) = ok(send(http, capped, answer))["data"]
    assert echo["processed_at"] is not None
    assert server.woken == [capped["id"]]


def test_an_interrupt_of_a_paused_session_is_not_recorded(server: Server, http: httpx2.Client, capped: Json) -> None:
    spend(server, capped, "1", paused=1)
    before = ok(http.get(f"/v1/sessions/{capped['id']}/events"))["data"]
    (echo,) = ok(send(http, capped, {"type": "user.interrupt"}))["data"]
    assert (echo["type"], echo["id"][:5], echo["processed_at"] is None) == ("user.interrupt", "sevt_", False)
    assert ok(http.get(f"/v1/sessions/{capped['id']}/events"))["data"] == before
    assert (server.woken, ok(http.get(f"/v1/sessions/{capped['id']}"))["status"]) == ([], "idle")


@pytest.mark.parametrize("budget", [cents("101"), None], ids=["raised", "removed"])
def test_a_session_that_it_stopped_goes_on(server: Server, http: httpx2.Client, capped: Json, budget: Any) -> None:
    url = f"/v1/sessions/{capped['id']}"
    spend(server, capped, "1", paused=1)
    assert reason(http.post(url, json={"budget": cents("100")})) == "budget_not_raised"
    assert server.woken == []
    ok(http.post(url, json={"title": "t"}))
    assert (server.woken, ok(http.get(url))["status"]) == ([], "idle")
    changed = ok(http.post(url, json={"budget": budget}))
    assert (changed["status"], changed["budget"]) == ("running", budget)
    assert server.woken == [capped["id"]]
    ok(send(http, capped, {"type": "user.interrupt"}))
    assert ok(http.get(f"{url}/events"))["data"][-1]["type"] == "user.interrupt", "now it stops something"


def test_a_paused_session_can_be_ended(server: Server, http: httpx2.Client, capped: Json) -> None:
    spend(server, capped, "1", paused=1)
    assert ok(http.post(f"/v1/sessions/{capped['id']}/archive"))["status"] == "terminated"
    ok(http.delete(f"/v1/sessions/{capped['id']}"))


def test_what_can_not_be_measured_can_only_lose_its_budget(server: Server, http: httpx2.Client, capped: Json) -> None:
    """The model's price was there when the session began."""
    usage = msgspec.json.encode(Ledger(requests=1, unpriced=True))
    idle = Draft(type="session.status_idle", fields={"stop_reason": {"type": "budget_reached"}})
    server.append(capped["id"], idle, usage=usage, paused=1)
    url = f"/v1/sessions/{capped['id']}"
    assert reason(http.post(url, json={"budget": cents("5000")})) == "budget_not_raised"
    assert reason(send(http, capped, message())) == "budget_reached"
    assert "list_cost" not in ok(http.get(url))["usage"]
    assert ok(http.post(url, json={"budget": None}))["status"] == "running"


def test_the_models_of_a_roster_count(http: httpx2.Client, environment: Json) -> None:
    """A tool's schema may call something a model, too: that is none."""
    schema = {"type": "object", "properties": {"model": {"type": "string"}}}
    tools = [{"type": "custom", "name": "t", "description": "d", "input_schema": schema}]

    def agent(model: str, **fields: Any) -> Json:
        return ok(http.post("/v1/agents", json={"name": "a", "model": model, "tools": tools, **fields}))

    def create(*members: Any) -> httpx2.Response:
        coordinator = agent("claude-opus-5-5", multiagent={"type": "coordinator", "agents": list(members)})
        body = {"agent": coordinator["id"], "environment_id": environment["id"], "budget": cents("100")}
        return http.post("/v1/sessions", json=body)

    known, unknown = agent("claude-haiku-5-5")["id"], agent("house-model")["id"]
    ok(create(known, {"type": "advisor", "model": "claude-opus-5"}))
    assert reason(create(known, unknown)) == "model_not_budgetable"
    assert reason(create(known, {"type": "advisor", "model": "house-advisor"})) == "model_not_budgetable"
    assert "house-advisor" in refused(create(known, {"type": "advisor", "model": "house-advisor"}))
