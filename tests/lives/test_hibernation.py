"""A sandbox becomes a snapshot and comes back, on request and by itself, through restarts, kills and damage."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from failures.client import SECONDS, Api, Json, errors, message, results
from running import Server

MOUNTED = "/mnt/session/uploads/data/in.txt"
QUICK = "[harness]\ncheckpoint_seconds = 0\nhibernate_seconds = 0.3\n"


def output(events: list[Json]) -> str:
    """What the one command of a turn printed."""
    (result,) = results(events)
    return str(result["content"][0]["text"]) if result["content"] else ""


def until(look: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not look():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def directory(server: Server, session: str) -> Path:
    return server.data_dir / "sandboxes" / session


def snapshots(server: Server, session: str) -> list[Path]:
    folder = server.data_dir / "snapshots" / session
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_on_request(api: Api, server: Server) -> None:
    session = api.session()
    refused = api.http.post(f"/v1/sessions/{session}/hibernate")
    assert refused.status_code == 400
    assert "no sandbox" in refused.json()["error"]["message"]
    api.turn(session, "run: echo kept > file; export KEPT=yes; cd /tmp")
    made = api.post(f"/v1/sessions/{session}/hibernate")
    assert made["type"] == "session_checkpoint"
    assert made["hibernated"]
    assert made["event_id"] == api.events(session)[-1]["id"]
    assert not directory(server, session).exists()
    assert api.post(f"/v1/sessions/{session}/hibernate") == made
    assert made in api.get(f"/v1/sessions/{session}/checkpoints")["data"]
    assert output(api.turn(session, "run: cat /workspace/file; echo $KEPT $PWD")) == "kept\nyes /tmp"
    assert not any(each["hibernated"] for each in api.get(f"/v1/sessions/{session}/checkpoints")["data"])
    assert errors(api.events(session)) == []


def test_by_itself_and_after_a_restart(start: Callable[..., Server]) -> None:
    server = start(config=QUICK)
    with Api(server) as api:
        session = api.session()
        api.turn(session, "run: echo kept > file")
        until(lambda: not directory(server, session).exists(), "it was not hibernated")
        server.restart()
        assert len(snapshots(server, session)) == 1
        assert output(api.turn(session, "run: cat file")) == "kept"


def test_after_a_turn(api: Api, server: Server) -> None:
    session = api.session()
    api.turn(session, "run: echo one > file")
    until(lambda: api.get(f"/v1/sessions/{session}/checkpoints")["data"], "nothing was written down")
    api.turn(session, "say: nothing happens to the files")
    (made,) = api.get(f"/v1/sessions/{session}/checkpoints")["data"]
    assert not made["hibernated"]
    assert directory(server, session).exists()
    assert [path.name for path in snapshots(server, session)] == [f"{made['id']}.tar.zst"]


def test_a_running_session_is_refused(api: Api) -> None:
    session = api.session()
    for event in api.stream(session, lambda: api.send(session, message("run: sleep 600"))):
        if event["type"] == "agent.tool_use":
            break
    refused = api.http.post(f"/v1/sessions/{session}/hibernate")
    assert refused.status_code == 400
    assert "running" in refused.json()["error"]["message"]
    api.send(session, {"type": "user.interrupt"})


def test_nothing_is_left_of_a_deleted_session(api: Api, server: Server) -> None:
    for verb in ("delete", "archive"):
        session = api.session()
        api.turn(session, "run: echo kept > file")
        api.post(f"/v1/sessions/{session}/hibernate")
        assert snapshots(server, session)
        if verb == "delete":
            assert api.http.delete(f"/v1/sessions/{session}").status_code == 200
        else:
            api.post(f"/v1/sessions/{session}/archive")
            assert api.http.post(f"/v1/sessions/{session}/hibernate").status_code == 400
        until(lambda session=session: not snapshots(server, session), "snapshots are left")


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_snapshot_is_told_and_replaced(api: Api, server: Server, damage: str) -> None:
    session = api.session()
    api.turn(session, "run: head -c 100000 /dev/urandom > file")
    made = api.post(f"/v1/sessions/{session}/hibernate")
    path = server.data_dir / "snapshots" / session / f"{made['id']}.tar.zst"
    whole = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(whole[:5000] if damage == "cut" else whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    events = api.turn(session, "run: ls -A; echo fresh")
    assert output(events) == "fresh"
    assert errors(events) == [("unknown_error", "retrying")]
    (told,) = [event["error"]["message"] for event in events if event["type"] == "session.error"]
    assert "damaged" in told
    again = api.turn(session, "run: echo more > file; cat file")
    assert output(again) == "more"
    assert errors(again) == []


def test_retention_ends_a_sandbox_and_keeps_the_history(start: Callable[..., Server]) -> None:
    server = start(config="[harness]\ncheckpoint_seconds = 0.2\nretention_days = 0.00003\n")
    with Api(server) as api:
        file = api.http.post("/v1/files", files={"file": ("in.txt", b"input")}).json()
        resources = [{"type": "file", "file_id": file["id"], "mount_path": "/data/in.txt"}]
        session = api.session(resources=resources)
        api.turn(session, f"run: echo scratch > file; cat {MOUNTED}")
        before = api.events(session)
        until(lambda: not directory(server, session).exists(), "it has not expired")
        until(lambda: not snapshots(server, session), "its snapshots stayed")
        assert api.events(session) == before
        events = api.turn(session, f"run: ls -A; cat {MOUNTED}")
        assert output(events) == "input"
        assert errors(events) == [("unknown_error", "retrying")]
        assert api.events(session)[: len(before)] == before


def test_a_crash_leaves_one_truth(start: Callable[..., Server]) -> None:
    """Whatever of directory and snapshot a killed server has left beside the truth, it is neither used nor kept."""
    server = start()
    with Api(server) as api:
        session = api.session()
        api.turn(session, "run: echo kept > file")
        made = api.post(f"/v1/sessions/{session}/hibernate")
        server.kill()
        leftover = directory(server, session)
        (leftover / "files" / "workspace").mkdir(parents=True)
        (leftover / "files" / "workspace" / "file").write_text("old")
        half = server.data_dir / "snapshots" / session / "ckpt_x.tar.zst.0.part"
        half.write_text("half")
        server.start()
        until(lambda: not half.exists() and not leftover.exists(), "what was left over stayed")
        assert output(api.turn(session, "run: cat file")) == "kept"
        assert made["id"] in {each["id"] for each in api.get(f"/v1/sessions/{session}/checkpoints")["data"]}
