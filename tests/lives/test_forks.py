"""Forks: the history up to an event, the files as they were then, and two lives from there on."""

from __future__ import annotations

from failures.client import Api, Json, message
from lives.test_hibernation import MOUNTED, output, until


def fork(api: Api, session: str, **body: object) -> Json:
    return api.post(f"/v1/sessions/{session}/fork", body)


def test_of_the_present(api: Api) -> None:
    session = api.session(title="first", metadata={"a": "b"})
    api.turn(session, "run: echo one > file; export KEPT=yes")
    made = fork(api, session)
    other = made["id"]
    assert other != session
    assert (made["title"], made["metadata"], made["status"]) == ("first", {"a": "b"}, "idle")
    assert made["forked_from"]["session_id"] == session
    assert made["forked_from"]["event_id"] == api.events(session)[-1]["id"]
    assert made["forked_from"]["checkpoint"]["session_id"] == session
    assert api.events(other) == api.events(session)
    assert output(api.turn(other, "run: cat file; echo $KEPT; echo two > file")) == "one\nyes"
    assert output(api.turn(session, "run: cat file")) == "one"
    assert output(api.turn(other, "run: cat file")) == "two"
    shown = api.get(f"/v1/sessions/{other}")
    assert "forked_from" not in shown
    assert api.http.delete(f"/v1/sessions/{session}").status_code == 200
    assert output(api.turn(other, "run: cat file")) == "two"


def test_of_an_earlier_turn_with_its_files(api: Api) -> None:
    session = api.session()
    ends = []
    for word in ("one", "two", "three"):
        api.turn(session, f"run: echo {word} > file")
        ends.append(api.events(session)[-1]["id"])
        known = ends[-1]
        until(
            lambda known=known: (
                api.get(f"/v1/sessions/{session}/checkpoints")["data"][:1]
                and api.get(f"/v1/sessions/{session}/checkpoints")["data"][0]["event_id"] == known
            ),
            "no checkpoint",
        )
    for end, word in zip(ends, ("one", "two", "three"), strict=True):
        made = fork(api, session, event_id=end, title=word)
        assert made["title"] == word
        assert made["forked_from"]["checkpoint"]["event_id"] == end
        events = api.events(made["id"])
        assert events[-1]["id"] == end
        assert output(api.turn(made["id"], "run: cat file")) == word


def test_inside_a_turn_is_refused_with_the_ways_out(api: Api) -> None:
    session = api.session()
    api.turn(session, "say: first")
    api.turn(session, "say: second")
    events = api.events(session)
    ends = [event["id"] for event in events if event["type"] == "session.status_idle"]
    inside = [event for event in events if event["type"] == "user.message"][1]
    refused = api.http.post(f"/v1/sessions/{session}/fork", json={"event_id": inside["id"]})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["details"] == {"error_code": "fork_inside_turn", "before": ends[0], "after": ends[1]}
    said = next(event for event in events if event["type"] == "agent.message")
    made = fork(api, session, event_id=said["id"])  # the turn's last word means its end
    assert made["forked_from"]["event_id"] == ends[0]
    for body in ({"event_id": "sevt_none"}, {"event_id": ""}, {"unknown": 1}, {"metadata": {"a": 1}}):
        assert api.http.post(f"/v1/sessions/{session}/fork", json=body).status_code in (400, 404), body


def test_of_a_session_that_never_ran_and_of_an_archived_one(api: Api) -> None:
    session = api.session()
    made = fork(api, session)
    assert made["forked_from"] == {"session_id": session, "event_id": None, "checkpoint": None}
    api.turn(made["id"], "say: hello")
    api.turn(session, "say: bye")
    end = api.events(session)[-1]["id"]
    api.post(f"/v1/sessions/{session}/archive")
    again = fork(api, session, event_id=end)
    assert (again["status"], again["archived_at"]) == ("idle", None)
    api.turn(again["id"], "say: again")


def test_with_files_outputs_and_the_agent_as_then(api: Api) -> None:
    file = api.http.post("/v1/files", files={"file": ("in.txt", b"input")}).json()
    resources = [{"type": "file", "file_id": file["id"], "mount_path": "/data/in.txt"}]
    session = api.session(resources=resources)
    api.turn(session, f"run: cp {MOUNTED} /mnt/session/outputs/out.txt")
    end = api.events(session)[-1]["id"]
    api.post(f"/v1/sessions/{session}", {"agent": {"tools": []}})
    made = fork(api, session, event_id=end)
    assert made["agent"]["tools"] != []
    assert fork(api, session)["agent"]["tools"] == []
    (mounted,) = made["resources"]
    assert mounted["mount_path"] == MOUNTED
    assert mounted["id"] != api.get(f"/v1/sessions/{session}")["resources"][0]["id"]
    outputs = [each for each in api.get("/v1/files", scope_id=made["id"])["data"] if each["downloadable"]]
    assert [each["filename"] for each in outputs] == ["out.txt"]
    assert output(api.turn(made["id"], f"run: cat {MOUNTED} /mnt/session/outputs/out.txt")) == "inputinput"
    assert len([e for e in api.get("/v1/files", scope_id=made["id"])["data"] if e["downloadable"]]) == 1


def test_of_a_session_that_waits_for_a_client(api: Api) -> None:
    ask = {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}
    session = api.session(api.agent(tools=[ask]))
    events = api.turn(session, "run: echo hi")
    (use,) = events[-1]["stop_reason"]["event_ids"]
    made = fork(api, session)["id"]
    for each, verdict in ((session, "deny"), (made, "allow")):
        confirm = {"type": "user.tool_confirmation", "tool_use_id": use, "result": verdict}
        for event in api.stream(each, lambda each=each, confirm=confirm: api.send(each, confirm)):
            if event["type"] == "session.status_idle":
                break
    refused = [e for e in api.events(session) if e["type"] == "agent.tool_result"]
    allowed = [e for e in api.events(made) if e["type"] == "agent.tool_result"]
    assert refused[0]["is_error"]
    assert output(api.events(made)) == "hi", allowed


def test_while_the_old_one_runs(api: Api) -> None:
    session = api.session()
    api.turn(session, "run: echo one > file")
    end = api.events(session)[-1]["id"]
    until(lambda: api.get(f"/v1/sessions/{session}/checkpoints")["data"], "no checkpoint")
    for event in api.stream(session, lambda: api.send(session, message("run: echo two > file; sleep 600"))):
        if event["type"] == "agent.tool_use":
            break
    made = fork(api, session)
    assert made["forked_from"]["event_id"] == end
    assert output(api.turn(made["id"], "run: cat file")) == "one"
    api.send(session, {"type": "user.interrupt"})


def test_of_a_self_hosted_session(api: Api) -> None:
    """Nobody would answer a call in the fork that waits for a worker in the old session."""
    body = {"name": "own", "config": {"type": "self_hosted"}}
    session = api.session(environment_id=api.post("/v1/environments", body)["id"])
    api.turn(session, "say: hello")
    end = api.events(session)[-1]["id"]
    assert fork(api, session)["forked_from"]["event_id"] == end
    api.turn(session, "run: echo hi")
    refused = api.http.post(f"/v1/sessions/{session}/fork", json={})
    assert refused.status_code == 400
    assert "worker" in refused.json()["error"]["message"]
    made = fork(api, session, event_id=end)
    assert api.events(made["id"])[-1]["id"] == end
    for path in ("export", "hibernate"):
        answer = api.http.request("GET" if path == "export" else "POST", f"/v1/sessions/{session}/{path}")
        assert answer.status_code == 400, answer.text
