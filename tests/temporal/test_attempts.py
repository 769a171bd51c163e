"""`invoke` in a Temporal activity: one session and one row for each file, however often the activity is tried."""

from __future__ import annotations

from attempting import Activities


def test_files_come_back_once_however_often_the_activity_is_tried(activities: Activities, agent: str) -> None:
    first = activities.run(agent, "two files, please", "w-files")["result"]
    assert (first["status"], first["output_text"]) == ("completed", "Two.")
    assert [file["filename"] for file in first["output_files"]] == ["one.txt", "two.txt"]
    again = activities.run(agent, "two files, please", "w-files", number=2)["result"]
    assert again["session_id"] == first["session_id"]
    assert again["output_files"] == first["output_files"]
    rows = activities.rows("w-files")
    assert [(row["filename"], row["data_bytes"]) for row in rows] == [("one.txt", b"1\n"), ("two.txt", b"2\n")]
    assert [str(row["id"]) for row in rows] == [file["document_ref"] for file in first["output_files"]]
    assert {row["source"] for row in rows} == {f"agent_output:{agent}"}
    assert len(activities.workspace.sessions("w-files")) == 1


def test_an_activity_may_call_more_than_once(activities: Activities, agent: str) -> None:
    """Each call is a session of its own, and finds it again."""
    first = activities.run(agent, "no file", "w-twice", twice=True)["result"]
    assert [each["output_text"] for each in first] == ["I made nothing.", "I made nothing."]
    again = activities.run(agent, "no file", "w-twice", twice=True, number=2)["result"]
    sessions = [each["session_id"] for each in first]
    assert [each["session_id"] for each in again] == sessions
    assert {each["id"] for each in activities.workspace.sessions("w-twice")} == set(sessions)


def test_a_worker_that_is_killed_leaves_a_session_that_the_next_goes_on_with(
    activities: Activities, asker: str
) -> None:
    with activities.attempt(asker, "ask", "w-killed") as running:
        session_id = running.until_it_waits()["session_id"]
        running.kill()
    with activities.attempt(asker, "ask", "w-killed", number=2) as running:
        assert running.until_it_waits() == {
            "session_id": session_id,
            "last": "idle: requires_action",
            "waits_for": ["bash"],
        }
        activities.answer(session_id)
        result = running.end()["result"]
    assert (result["status"], result["session_id"], result["output_text"]) == ("completed", session_id, "It said 1")
    assert [session["id"] for session in activities.workspace.sessions("w-killed")] == [session_id]
    assert len(activities.workspace.events(session_id, "user.message")) == 1


def test_a_deadline_interrupts_and_archives_and_keeps_what_was_written(activities: Activities, agent: str) -> None:
    result = activities.run(agent, "slow", "w-slow", seconds=3.0)["result"]
    assert result["error"] == "The agent was not done after 3 seconds, and was interrupted."
    assert [row["filename"] for row in activities.rows("w-slow")] == ["half.txt"]
    (session,) = activities.workspace.sessions("w-slow")
    assert session["archived_at"] is not None


def test_a_question_that_nobody_answers(activities: Activities, asker: str) -> None:
    result = activities.run(asker, "ask", "w-asked", seconds=4.0)["result"]
    assert result["status"] == "failed"
    assert result["error"] == "The agent waited for an answer to bash, and had none after 4 seconds."
    (session,) = activities.workspace.sessions("w-asked")
    assert (session["id"], session["archived_at"] is not None) == (result["session_id"], True)


def test_a_workflow_that_is_cancelled_ends_the_session(activities: Activities, asker: str) -> None:
    said = activities.run(asker, "ask", "w-cancelled", cancel="cancel_requested")
    assert said == {"error": {"type": "CancelledError"}}
    (session,) = activities.workspace.sessions("w-cancelled")
    assert session["archived_at"] is not None


def test_a_worker_that_is_stopped_leaves_the_session_alone(activities: Activities, asker: str) -> None:
    said = activities.run(asker, "ask", "w-stopped", cancel="worker_shutdown")
    assert said == {"error": {"type": "CancelledError"}}
    (session,) = activities.workspace.sessions("w-stopped")
    assert session["archived_at"] is None


def test_what_no_other_attempt_would_mend(activities: Activities, agent: str) -> None:
    unknown = activities.run("00000000-0000-4000-8000-000000000000", "no file", "w-no")["error"]
    assert (unknown["type"], unknown["non_retryable"]) == ("Refused", True)
    assert "was not found" in unknown["message"], unknown
    other = activities.run(agent, "no file", "w-no", tenant_slug="another")["error"]
    assert other["message"] == "this worker is of tenant byng: it can't call an agent for another"
    bare = activities.run(agent, "no file", "w-no", env={"ANTHROPIC_API_KEY": ""})["error"]
    assert bare["message"] == "ANTHROPIC_API_KEY is not set in this worker's environment"
    assert activities.workspace.sessions("w-no") == []
