"""Several threads in one session, where a test must choose the moment: mail, questions, interrupts, archives, failures
and budgets that cross each other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from company import Company, Json, employ, script, sending, when
from stage import SESSION, FakeSandbox

from hostler.errors import InvalidRequest
from hostler.harness import supervisor as supervising
from hostler.harness.state import MAIL
from hostler.log.append import NewInput

DONE = {"text": "Over."}
DIG = when("dig", {"text": "Gold."})
SEND = when("start", sending("dig"), {"text": "Sent."})
HEARD = when('from="worker"', DONE)
ASK = when("dig", {"tools": [{"name": "lookup", "input": {"of": "child"}}]}, {"text": "Known: {{last_tool_result}}"})
BASH = {"tools": [{"name": "bash", "input": {"command": "x"}}]}


def answer(event_id: str, text: str = "42") -> Json:
    content = [{"type": "text", "text": text}]
    return {"type": "user.custom_tool_result", "custom_tool_use_id": event_id, "content": content}


def interrupt(thread_id: str | None = None) -> Json:
    return {"type": "user.interrupt", **({"session_thread_id": thread_id} if thread_id else {})}


def test_a_task_is_delegated_and_its_answer_comes_back(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        idle = await company.idle()
        assert idle["stop_reason"] == {"type": "end_turn"}
        child = await company.child()
        types = await company.types()
        assert types.count("session.status_running") == types.count("session.status_idle") == 1
        assert types.index("session.thread_status_running") < types.index("session.thread_created")
        assert types[-3:] == ["session.thread_status_idle", "session.usage", "session.status_idle"]
        own = await company.types(child)
        assert own[:3] == ["session.thread_status_running", "agent.thread_message_received", "span.model_request_start"]
        assert own[-2:] == ["agent.thread_message_sent", "session.thread_status_idle"]
        assert await company.last() == "Over."
        rows = await company.rows()
        assert [row["parent_id"] for row in rows] == [None, "sthr_1"]
        assert all(row["active_us"] > 0 for row in rows)
        assert "ant__" not in str(await company.of_thread(None)), "the coordinator's own tools are not shown"

    employ(tmp_path, work, script(SEND, DIG, HEARD))


def test_many_threads_work_side_by_side(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        for index in range(8):
            company.model.close(f"dig {index}")
        await company.say("start")
        for index in range(8):
            await company.model.reached(f"dig {index}")  # all of them, before any has answered
        for index in reversed(range(8)):
            company.model.open(f"dig {index}")
        await company.idle()
        reports = [event for event in await company.of_thread(None) if event["type"] == "agent.thread_message_received"]
        assert len(reports) == 8

    employ(tmp_path, work, script(when("start", sending(*(f"dig {n}" for n in range(8))), DONE), DIG, HEARD))


def test_more_than_the_limit_is_refused_and_a_closed_thread_makes_room(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        await company.idle()
        assert len(await company.rows()) == 26
        results = str(company.model.requests[-1].messages)
        assert results.count("There are 25 threads already") == 1

    many = [f"dig {n}" for n in range(26)]
    employ(tmp_path, work, script(when("start", sending(*many), {"text": "Sent."}), DIG, HEARD))


def test_a_question_of_a_child_is_answered_on_the_session_while_the_coordinator_is_idle(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        idle = await company.idle()
        use = await company.asked()
        assert idle["stop_reason"] == {"type": "requires_action", "event_ids": [use]}
        copies = [event for event in await company.of_thread(None) if event["id"] == use]
        assert [copy["session_thread_id"] for copy in copies] == [await company.child()]
        with pytest.raises(InvalidRequest, match="waiting on responses"):
            await company.say("more")
        (echo,) = await company.send(answer(use))
        assert echo["session_thread_id"] == await company.child()
        assert await company.send(answer(use, "43")) == [echo], "the first answer counts"
        idle = await company.idle(2)
        assert idle["stop_reason"] == {"type": "end_turn"}
        assert await company.last(await company.child()) == "Known: 42"
        assert await company.last() == "Over."

    employ(tmp_path, work, script(SEND, ASK, HEARD))


def test_a_question_of_a_child_is_answered_while_the_coordinator_runs(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        company.model.close("Sent to worker")  # what the tool's result says
        await company.say("start")
        await company.model.reached("Sent to worker")
        await company.send(answer(await company.asked()))
        await company.until(lambda log: [e for e in log if e.type == MAIL and e.thread_id == "sthr_1"])
        company.model.open("Sent to worker")
        idle = await company.idle()
        assert idle["stop_reason"] == {"type": "end_turn"}
        assert (await company.types()).count("session.status_idle") == 1

    employ(tmp_path, work, script(SEND, ASK, HEARD))


def test_questions_of_two_children_are_listed_together_and_answered_one_by_one(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        idle = await company.idle()
        uses = idle["stop_reason"]["event_ids"]
        assert len(uses) == 2
        await company.send(answer(uses[0]))
        idle = await company.idle(2)
        assert idle["stop_reason"] == {"type": "requires_action", "event_ids": uses[1:]}
        await company.send(answer(uses[1]))
        idle = await company.idle(3)
        assert idle["stop_reason"] == {"type": "end_turn"}

    employ(tmp_path, work, script(when("start", sending("dig 1", "dig 2"), {"text": "Sent."}), ASK, HEARD))


def test_an_interrupt_of_all_stops_every_thread_and_nobody_is_asked_again(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        company.stage.backend.prepare = held
        company.model.close("dig 1")
        await company.say("start")
        await company.model.reached("dig 1")
        await company.stage.backend.working()  # the other one
        before = len(company.model.requests)
        await company.send(interrupt())
        idle = await company.idle()
        assert idle["stop_reason"] == {"type": "end_turn"}
        assert len(company.model.requests) == before
        (shown,) = [event for event in await company.of_thread(None) if event["type"] == "user.interrupt"]
        assert shown["processed_at"] is not None

    rules = script(
        when("start", sending("dig 1", "hew"), {"text": "Sent."}), DIG, when("hew", BASH, {"text": "Wood."}), HEARD
    )
    employ(tmp_path, work, rules)


def held(sandbox: FakeSandbox) -> None:
    sandbox.hold = asyncio.Event()


def test_an_interrupt_of_one_thread_leaves_the_others_and_its_coordinator_hears_of_it(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        company.model.close("dig 1")
        company.model.close("dig 2")
        await company.say("start")
        await company.model.reached("dig 1")
        await company.model.reached("dig 2")
        first = await company.child()
        (echo,) = await company.send(interrupt(first))
        await company.until(lambda log: [e for e in log if e.type == "session.thread_status_idle"
                                         and e.thread_id == first])  # fmt: skip
        assert "session.status_idle" not in await company.types()
        company.model.open("dig 2")
        idle = await company.idle()
        assert idle["stop_reason"] == {"type": "end_turn"}
        (shown,) = [event for event in await company.of_thread(None) if event["type"] == "user.interrupt"]
        (own,) = [event for event in await company.of_thread(first) if event["type"] == "user.interrupt"]
        assert shown["id"] == own["id"] == echo["id"]
        assert "it was interrupted" in str(company.model.requests[-1].messages)

    employ(tmp_path, work, script(when("start", sending("dig 1", "dig 2"), {"text": "Sent."}), DIG, HEARD))


def test_an_interrupt_of_a_child_that_waits_answers_its_question_without_asking_its_model(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        use = (await company.idle())["stop_reason"]["event_ids"][0]
        child = await company.child()
        before = len([request for request in company.model.requests if request.session_id == child])
        await company.send(interrupt(child))
        idle = await company.idle(2)
        assert idle["stop_reason"] == {"type": "end_turn"}
        assert before == len([request for request in company.model.requests if request.session_id == child])
        result = [event for event in await company.of_thread(child) if event["type"] == "user.custom_tool_result"]
        assert (result[0]["custom_tool_use_id"], result[0]["is_error"]) == (use, True)
        before_late = await company.types(child)
        (late,) = await company.send(answer(use))
        assert late["id"] == result[0]["id"], "what has answered the call already"
        assert await company.types(child) == before_late

    employ(tmp_path, work, script(SEND, ASK, HEARD))


def test_a_thread_that_is_archived_while_mail_waits_for_it_does_not_leave_the_session_running(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        await company.idle()
        child = await company.child()
        archived = archive_before_opening(company, child)
        await company.say(f"again {child}")
        idle = await company.idle(2)
        assert archived == ["terminated"]
        assert idle["stop_reason"] == {"type": "end_turn"}
        assert await company.stage.column("queued") == 0
        assert "agent.thread_message_received" not in (await company.types(child))[6:]

    again = {"tools": [{"name": "ant__send_to_agent", "input": {"thread_id": "{{1}}", "message": "dig on"}}]}
    rules = script(
        {"when": {"user_text_matches": r"again (\w+)"}, "turns": [again, {"text": "Sent."}]}, SEND, DIG, HEARD
    )
    employ(tmp_path, work, rules)


def archive_before_opening(company: Company, child: str) -> list[str]:
    """Archive the child just before the commit in which it would begin to run, which comes once the coordinator has
    turned idle: until then it is told to look again."""
    append, done = company.stage.log.append, []

    async def wrapped(session_id: str, thread_id: str, items: Any, **more: Any) -> Any:
        types = [getattr(item, "type", "") for item in items]
        label = [getattr(item, "fields", {}).get("session_thread_id") for item in items]
        if child in label and "session.thread_status_running" in types and not done:
            done.append("")
            if (await company.rows())[0]["status"] == "running":
                done.clear()
                raise NewInput(session_id)
            done[0] = (await company.threads.archive(SESSION, child)).status
        return await append(session_id, thread_id, items, **more)

    company.stage.log.append = wrapped  # type: ignore[method-assign]
    return done


def test_a_message_is_not_sent_to_a_thread_that_was_archived_meanwhile(tmp_path: Path) -> None:
    """What the call says and what it does are decided on the same log."""

    async def work(company: Company) -> None:
        await company.say("start")
        await company.idle()
        child = await company.child()
        append, done = company.stage.log.append, []

        async def wrapped(session_id: str, thread_id: str, items: Any, **more: Any) -> Any:
            if not done and any(getattr(item, "type", "") == MAIL for item in items):
                done.append(True)
                await company.threads.archive(SESSION, child)
            return await append(session_id, thread_id, items, **more)

        company.stage.log.append = wrapped  # type: ignore[method-assign]
        await company.say(f"again {child}")
        await company.idle(2)
        assert done
        assert f"no open thread '{child}'" in str(company.model.requests[-1].messages)
        assert await company.stage.column("queued") == 0

    again = {"tools": [{"name": "ant__send_to_agent", "input": {"thread_id": "{{1}}", "message": "dig on"}}]}
    rules = script(
        {"when": {"user_text_matches": r"again (\w+)"}, "turns": [again, {"text": "Told."}]}, SEND, DIG, HEARD
    )
    employ(tmp_path, work, rules)


def test_a_child_whose_model_fails_gives_up_and_its_coordinator_is_told(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        idle = await company.idle()
        assert idle["stop_reason"] == {"type": "end_turn"}
        child = await company.child()
        stops = [event["stop_reason"]["type"] for event in await company.of_thread(child)
                 if event["type"] == "session.thread_status_idle"]  # fmt: skip
        assert stops == ["retries_exhausted"]
        errors = [event for event in await company.of_thread(None) if event["type"] == "session.error"]
        assert [error["error"]["retry_status"]["type"] for error in errors] == ["retrying", "exhausted"]
        assert "retries_exhausted" in str(company.model.requests[-1].messages)
        assert await company.last() == "Over."

    rules = script(SEND, when("dig", {"text": "Never.", "error": {"kind": "overloaded"}}), HEARD)
    employ(tmp_path, work, rules, model_attempts=2)


def test_a_child_that_pauses_between_attempts_does_not_stop_the_others(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        company.model.close("hew")
        await company.say("start")
        await company.model.reached("hew")
        await company.until(lambda log: [e for e in log if e.type == "session.thread_status_rescheduled"])
        assert "session.status_rescheduled" not in await company.types()
        company.model.open("hew")
        await company.idle()

    flaky = {"text": "Gold.", "error": {"kind": "overloaded", "times": 1}}
    rules = script(
        when("start", sending("dig", "hew"), {"text": "Sent."}), when("dig", flaky), when("hew", DONE), HEARD
    )
    employ(tmp_path, work, rules)


def test_the_session_pauses_with_its_last_thread(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        await company.idle()
        types = await company.types()
        if "session.status_rescheduled" in types:  # the coordinator may have been faster or not
            at = types.index("session.status_rescheduled")
            assert "session.status_running" in types[at:]
        assert types.count("session.thread_status_rescheduled") == 1

    flaky = {"text": "Gold.", "error": {"kind": "overloaded", "times": 1}}
    employ(tmp_path, work, script(SEND, when("dig", flaky), HEARD))


def test_a_thread_that_crashes_again_and_again_leaves_a_session_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising.clock, "now", faster(supervising.clock.now))

    async def work(company: Company) -> None:
        stream = company.model.stream

        def crashing(request: Any) -> Any:
            if "dig" in str(request.messages[-1]["content"]):
                raise RuntimeError("a defect")
            return stream(request)

        company.model.stream = crashing  # type: ignore[method-assign]
        await company.say("start")
        idle = await company.idle()
        assert idle["stop_reason"] == {"type": "retries_exhausted"}
        errors = [event for event in await company.of_thread(None) if event["type"] == "session.error"]
        assert len(errors) == 1
        company.model.stream = stream  # type: ignore[method-assign]
        await company.say("hello")
        await company.idle(2)
        assert await company.last() == "Else: hello"

    employ(tmp_path, work, script(SEND, DIG, HEARD))


def faster(now: Any) -> Any:
    """A clock on which the pauses after a crash are short."""
    begun = now()
    return lambda: begun + (now() - begun) * 20


def test_a_coordinator_and_a_child_that_talk_for_ever_are_stopped(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        idle = await company.idle()
        asked = [request for request in company.model.requests if request.session_id == SESSION]
        assert len(asked) <= 12
        assert idle["stop_reason"]["type"] in ("end_turn", "retries_exhausted")
        (error,) = [event for event in await company.of_thread(None) if event["type"] == "session.error"][:1]
        assert error["error"]["type"] == "tool_use_limit_reached_error"

    rules = script(SEND, DIG, when('from="worker"', sending("dig"), {"text": "And again."}))
    employ(tmp_path, work, rules, requests_per_turn=12)


def test_a_compaction_in_a_child_is_its_own(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        await company.idle()
        child = await company.child()
        assert "agent.thread_context_compacted" in await company.types(child)
        assert "agent.thread_context_compacted" not in await company.types()
        assert await company.last() == "Over."

    full = {"input_tokens": 190_000, "output_tokens": 1}
    big = {**BASH, "usage": full}
    rules = script(SEND, when("outgrow the context", {"text": "A summary."}), when("dig", big, {"text": "Gold."}),
                   when("summary", {"text": "Gold."}), HEARD)  # fmt: skip
    employ(tmp_path, work, rules)


def test_an_advisor_s_thread_is_over_when_it_is_written(tmp_path: Path) -> None:
    async def work(company: Company) -> None:
        await company.say("start")
        await company.idle()
        kinds = [event["type"] for event in await company.of_thread(None) if "thread" in event["type"]]
        created = kinds.index("session.thread_created")
        assert kinds[created : created + 5] == [
            "session.thread_created",
            "session.thread_status_running",
            "agent.thread_message_received",
            "session.thread_status_idle",
            "session.thread_status_terminated",
        ]
        rows = await company.rows()
        assert [(row["name"], row["status"]) for row in rows] == [
            ("a", "idle"), ("anthropic.advisor", "terminated"),
        ]  # fmt: skip
        (asked,) = [request for request in company.model.requests if request.model == "wise"]
        assert "What now?" in str(asked.messages)
        assert await company.last() == "Advised: Be careful."

    ask = {"tools": [{"name": "ant__ask_advisor", "input": {"question": "What now?"}}]}
    rules = script(
        when("The agent asks:", {"text": "Be careful."}), when("start", ask, {"text": "Advised: {{last_tool_result}}"})
    )
    employ(tmp_path, work, rules)
