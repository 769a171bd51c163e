"""Outcomes: attempt, evaluation, revision; and what a client, a failure or a budget does in the middle of them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from company import Company, Json, employ, script, sending, when
from stage import AGENT, SESSION, FakeSandbox

from hostler import clock
from hostler.errors import InvalidRequest
from hostler.harness.grader import SYSTEM
from hostler.log.entries import Draft
from hostler.models.catalogue import Catalogue
from hostler.models.table import Price
from hostler.services.budgets import change
from hostler.services.session_rows import find_tx
from hostler.wire.usage import BudgetLimit, Ceiling

LONE = {**AGENT, "multiagent": {"type": "coordinator", "agents": []}}
GRADER = "You evaluate the work"
WORK = when("<outcome>", {"text": "I did it."})
REVISE = when("Revise your work", {"text": "I did it again."})
LAST = when("no further attempt", {"text": "That is all there is."})


def define(description: str = "a poem", **more: Any) -> Json:
    return {"type": "user.define_outcome", "description": description,
            "rubric": {"type": "text", "content": "it rhymes"}, **more}  # fmt: skip


def verdict(result: str, explanation: str = "because") -> Json:
    return {"tools": [{"name": "verdict", "input": {"result": result, "explanation": explanation}}]}


def graded(*turns: Json, **when: Any) -> Json:
    """What the grader answers: to a first look at a transcript, whatever it holds."""
    return {"when": {"system_contains": GRADER, **when}, "turns": list(turns), "counts_from": "never"}


async def outcomes(company: Company) -> list[Json]:
    column = await company.stage.column("outcomes")
    return [msgspec.json.decode(msgspec.json.encode(item)) for item in msgspec.json.decode(column)]


async def ends(company: Company) -> list[Json]:
    return [event for event in await company.of_thread(None) if event["type"] == "span.outcome_evaluation_end"]


def test_an_outcome_is_reached(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        (echo,) = await company.send(define())
        assert echo["processed_at"] is not None
        assert echo["outcome_id"].startswith("outc_")
        await company.idle()
        types = await company.types()
        start = types.index("span.outcome_evaluation_start")
        assert types[start + 1] == "span.outcome_evaluation_end"
        (end,) = await ends(company)
        assert (end["result"], end["iteration"], end["explanation"]) == ("satisfied", 0, "because")
        assert end["usage"]["input_tokens"] > 0
        (shown,) = await outcomes(company)
        assert (shown["result"], shown["outcome_id"]) == ("satisfied", echo["outcome_id"])
        assert shown["completed_at"] is not None

    employ(tmp_path, work, script(graded(verdict("satisfied")), WORK), agent=LONE)


def test_what_falls_short_is_revised(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.send(define())
        await company.idle()
        assert [end["result"] for end in await ends(company)] == ["needs_revision", "satisfied"]
        assert await company.last() == "I did it again."
        assert [end["iteration"] for end in await ends(company)] == [0, 1]
        assert (await company.types()).count("session.status_idle") == 1

    rules = script(graded(verdict("satisfied"), user_text_contains="I did it again."),
                   graded(verdict("needs_revision", "no rhyme")), REVISE, WORK)  # fmt: skip
    employ(tmp_path, work, rules, agent=LONE)


def test_the_last_iteration_leaves_one_more_message_and_no_evaluation(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.send(define(max_iterations=2))
        await company.idle()
        assert [end["result"] for end in await ends(company)] == ["needs_revision", "max_iterations_reached"]
        assert await company.last() == "That is all there is."
        assert (await outcomes(company))[0]["result"] == "max_iterations_reached"

    employ(tmp_path, work, script(graded(verdict("needs_revision")), LAST, REVISE, WORK), agent=LONE)


@pytest.mark.parametrize(
    "turn",
    [
        {"text": "Looks fine to me."},
        {"text": "[" * 5000},
        {"text": '{"result": "excellent", "explanation": "x"}'},
        {"tools": [{"name": "verdict", "input": {"result": "great"}}]},
        {"tools": [{"name": "bash", "input": {"command": "rm -rf /"}}]},
    ],
    ids=["prose", "brackets", "another word", "another verdict", "another tool"],
)
def test_a_grader_that_gives_no_verdict_has_failed(tmp_path: Path, turn: Json) -> None:
    async def work(company: Company) -> None:
        await company.send(define())
        idle = await company.idle()
        assert [end["result"] for end in await ends(company)] == ["failed"]
        assert idle["stop_reason"] == {"type": "end_turn"}
        assert company.stage.backend.made == [], "it can't run anything"
        assert len(company.model.requests) <= 25

    employ(tmp_path, work, script(graded(turn), WORK), agent=LONE)


def test_a_verdict_as_text_counts(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.send(define())
        await company.idle()
        assert [end["result"] for end in await ends(company)] == ["satisfied"]

    text = '```json\n{"result": "satisfied", "explanation": "x"}\n```'
    employ(tmp_path, work, script(graded({"text": text}), WORK), agent=LONE)


def test_a_grader_reads_files_and_its_spans_say_so(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.send(define())
        await company.idle()
        types = await company.types()
        assert types.count("span.outcome_evaluation_ongoing") == 1
        (sandbox,) = company.stage.backend.made
        assert len(sandbox.started) == 1
        assert "agent.tool_use" not in types
        names = {tool["name"] for tool in company.model.requests[-1].tools}
        assert names == {"glob", "grep", "read", "verdict"}

    look = {"tools": [{"name": "glob", "input": {"pattern": "*"}}]}
    rules = script({"when": {"system_contains": GRADER}, "turns": [look, verdict("satisfied")]}, WORK)
    employ(tmp_path, work, rules, agent=LONE)


def test_a_grader_s_model_that_fails_for_a_while_is_asked_again(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.send(define())
        await company.idle()
        assert [end["result"] for end in await ends(company)] == ["satisfied"]

    flaky = {**verdict("satisfied"), "error": {"kind": "overloaded", "times": 2}}
    employ(tmp_path, work, script(graded(flaky), WORK), agent=LONE)


def test_a_grader_s_model_that_fails_for_good_fails_the_outcome(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.send(define())
        await company.idle()
        (end,) = await ends(company)
        assert end["result"] == "failed"
        assert "could not evaluate" in end["explanation"]
        await company.send(define("another"))
        await company.idle(2)
        assert len(await outcomes(company)) == 2

    broken = {"text": "x", "error": {"kind": "billing"}}
    employ(tmp_path, work, script(graded(broken), WORK), agent=LONE)


def test_outcomes_one_after_the_other(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.send(define("one"))
        await company.idle()
        (first,) = await outcomes(company)
        await company.send(define("two"))
        await company.idle(2)
        found = await outcomes(company)
        assert [item["description"] for item in found] == ["one", "two"]
        assert [item["result"] for item in found] == ["satisfied"] * 2
        assert found[0]["outcome_id"] == first["outcome_id"]

    employ(tmp_path, work, script(graded(verdict("satisfied")), WORK), agent=LONE)


def test_a_second_one_is_refused_while_the_first_is_not_reached(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        company.model.close("<outcome>")
        await company.send(define())
        await company.model.reached("<outcome>")
        with pytest.raises(InvalidRequest, match="is still running"):
            await company.send(define("another"))
        with pytest.raises(InvalidRequest, match="is still"):
            await company.send(define("a"), define("b"))
        company.model.open("<outcome>")
        await company.idle()

    employ(tmp_path, work, script(graded(verdict("satisfied")), WORK), agent=LONE)


@pytest.mark.parametrize("gate", ["<outcome>", "<transcript>"], ids=["in the attempt", "in the evaluation"])
def test_an_interrupt_ends_the_outcome(tmp_path: Path, gate: str) -> None:
    async def work(company: Company) -> None:
        company.model.close(gate)
        await company.send(define())
        await company.model.reached(gate)
        if gate == "<transcript>":
            assert (await outcomes(company))[0]["result"] == "evaluating"
        company.model.gates.clear()  # what waits there goes on waiting
        await company.send({"type": "user.interrupt"})
        idle = await company.idle()
        assert idle["stop_reason"] == {"type": "end_turn"}
        (end,) = await ends(company)
        assert end["result"] == "interrupted"
        assert bool(end["outcome_evaluation_start_id"]) == (gate == "<transcript>")
        assert (await outcomes(company))[0]["result"] == "interrupted"
        await company.say("hello")
        await company.idle(2)
        assert len(await ends(company)) == 1

    employ(tmp_path, work, script(graded(verdict("satisfied")), WORK), agent=LONE)


@pytest.mark.parametrize(
    "turn", [{"text": "No.", "stop_reason": "refusal"}, {"error": {"kind": "billing"}, "text": "x"}]
)
def test_an_outcome_that_nobody_works_on_any_more_can_be_interrupted(tmp_path: Path, turn: Json) -> None:
    async def work(company: Company) -> None:
        await company.send(define())
        idle = await company.idle()
        assert idle["stop_reason"]["type"] in ("refusal", "retries_exhausted")
        with pytest.raises(InvalidRequest, match=r"user\.interrupt"):
            await company.send(define("another"))
        await company.send({"type": "user.interrupt"})
        await company.idle(2)
        assert (await outcomes(company))[0]["result"] == "interrupted"
        await company.send(define("another"))
        await company.idle(3)

    employ(tmp_path, work, script(when("<outcome>", turn)), agent=LONE)


def test_a_message_lets_such_an_outcome_go_on(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.send(define())
        await company.idle()
        await company.say("go on")
        await company.idle(2)
        assert [end["result"] for end in await ends(company)] == ["satisfied"]

    rules = script(graded(verdict("satisfied")), when("go on", {"text": "Done."}),
                   when("<outcome>", {"text": "No.", "stop_reason": "refusal"}))  # fmt: skip
    employ(tmp_path, work, rules, agent=LONE)


def test_an_interrupt_before_a_definition_makes_room_for_it(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        company.model.close("wait")
        await company.say("wait")
        await company.model.reached("wait")
        company.model.gates.clear()
        await company.send({"type": "user.interrupt"}, define())
        await company.idle()
        assert [end["result"] for end in await ends(company)] == ["satisfied"]

    employ(tmp_path, work, script(graded(verdict("satisfied")), WORK), agent=LONE)


def test_an_outcome_that_comes_while_a_message_is_made_stands_behind_it(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        company.model.close("wait")
        await company.say("wait")
        await company.model.reached("wait")
        await company.send(define())
        company.model.open("wait")
        await company.idle()
        attempt = next(request for request in company.model.requests if "<outcome>" in str(request.messages)
                       and "<transcript>" not in str(request.messages))  # fmt: skip
        assert [message["role"] for message in attempt.messages] == ["user", "assistant", "user"]
        assert "<outcome>" in str(attempt.messages[-1])
        assert [end["result"] for end in await ends(company)] == ["satisfied"]

    employ(tmp_path, work, script(graded(verdict("satisfied")), WORK), agent=LONE)


def test_an_outcome_that_comes_during_a_summary_is_not_lost(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        company.model.close("outgrow the context")
        await company.say("fill")
        await company.model.reached("outgrow the context")
        await company.send(define())
        company.model.open("outgrow the context")
        await company.idle()
        assert "it rhymes" in str([request for request in company.model.requests
                                   if GRADER not in str(request.system)][-1].messages)  # fmt: skip

    full = {"tools": [{"name": "bash", "input": {"command": "x"}}], "usage": {"input_tokens": 190_000}}
    rules = script(graded(verdict("satisfied")), when("outgrow the context", {"text": "A summary."}), WORK,
                   when("fill", full, {"text": "Full."}))  # fmt: skip
    employ(tmp_path, work, rules, agent=LONE)


def test_nothing_is_evaluated_while_a_child_works_or_waits(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.send(define())
        use = (await company.idle())["stop_reason"]["event_ids"][0]
        assert await ends(company) == []
        content = [{"type": "text", "text": "42"}]
        await company.send({"type": "user.custom_tool_result", "custom_tool_use_id": use, "content": content})
        await company.idle(2)
        assert [end["result"] for end in await ends(company)] == ["satisfied"]
        assert await company.last() == "All done."

    rules = script(graded(verdict("satisfied")), when('from="worker"', {"text": "All done."}),
                   when("<outcome>", sending("dig"), {"text": "Sent."}),
                   when("dig", {"tools": [{"name": "lookup"}]}, {"text": "Gold."}))  # fmt: skip
    employ(tmp_path, work, rules)


DOLLAR = {"input_tokens": 1000}  # at a price of 1000 dollars a million


@pytest.mark.parametrize("limit", [100, 200], ids=["before the evaluation", "in the evaluation"])
def test_a_budget_stops_an_evaluation_and_a_higher_one_lets_it_go_on(tmp_path: Path, limit: int) -> None:
    async def work(company: Company) -> None:
        prices = {"scripted": Price.of(Decimal(1000), Decimal(0))}
        catalogue = Catalogue(prices=prices)
        deps = company.supervisor._deps
        company.supervisor._deps = msgspec.structs.replace(deps, catalogue=catalogue)
        await company.stage.set(budget=msgspec.json.encode(budget(limit)))
        await company.send(define())
        idle = await company.idle()
        assert idle["stop_reason"] == {"type": "budget_reached"}
        assert len(company.model.requests) == limit // 100
        assert await ends(company) == []
        await raise_to(company, 1000, catalogue)
        idle = await company.idle(2)
        assert idle["stop_reason"] == {"type": "end_turn"}
        assert [end["result"] for end in await ends(company)] == ["satisfied"]

    look = {"tools": [{"name": "glob", "input": {"pattern": "*"}}], "usage": DOLLAR}
    rules = script({"when": {"system_contains": GRADER}, "turns": [look, {**verdict("satisfied"), "usage": DOLLAR}]},
                   when("<outcome>", {"text": "I did it.", "usage": DOLLAR}))  # fmt: skip
    employ(tmp_path, work, rules, agent=LONE)


def budget(cents: int) -> BudgetLimit:
    return BudgetLimit(max_list_cost=Ceiling(amount=str(cents), currency="USD"))


async def raise_to(company: Company, cents: int, catalogue: Catalogue) -> None:
    row = await company.stage.store.read(lambda: find_tx(SESSION))
    fields, columns = change(row, budget(cents), catalogue, clock.now())
    updated = Draft(type="session.updated", fields=fields)
    await company.stage.log.append(SESSION, "sthr_1", [updated], patch=columns)
    company.stage.dispatcher.wake(SESSION)


def test_a_dead_sandbox_is_not_the_grader_s_failure(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        def dying(sandbox: FakeSandbox) -> None:
            sandbox.dead = True

        company.stage.backend.prepare = dying
        await company.send(define())
        await company.idle()
        assert [end["result"] for end in await ends(company)] == ["satisfied"]

    look = {"tools": [{"name": "glob", "input": {"pattern": "*"}}]}
    rules = script({"when": {"system_contains": GRADER}, "turns": [look, verdict("satisfied")]}, WORK)
    employ(tmp_path, work, rules, agent=LONE)


def test_the_page_shows_the_grader_s_prompt() -> None:
    page = (Path(__file__).parents[3] / "docs" / "outcomes.md").read_text()
    assert SYSTEM.split() == page.split("```text\n")[1].split("```")[0].split()
