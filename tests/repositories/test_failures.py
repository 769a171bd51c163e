"""What can't be had is told apart, left out, and tried again; and what is cut off is made whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from failures.client import Api, message, types
from githost import GitHost, Repository
from repositories.words import TOKEN, failed, given, run, tried
from running import Server

Break = Callable[[Repository], Any]


def unauthorised(repository: Repository) -> None:
    repository.tokens = {"another"}


def status(code: int) -> Break:
    return lambda repository: setattr(repository, "status", code)


@pytest.mark.parametrize(
    ("broken", "more", "kind"),
    [
        (lambda repository: setattr(repository, "tokens", {TOKEN}), {}, "authentication"),
        (unauthorised, {"authorization_token": "wrong"}, "authentication"),
        (status(403), {"authorization_token": TOKEN}, "forbidden"),
        (status(404), {}, "not_found"),
        (status(302), {"authorization_token": TOKEN}, "clone"),
        (status(503), {}, "clone"),
        (lambda _: None, {"checkout": {"type": "branch", "name": "no-such"}}, "checkout"),
        (lambda _: None, {"checkout": {"type": "commit", "sha": "ab" * 20}}, "checkout"),
    ],
    ids=["no token", "wrong token", "forbidden", "missing", "redirect", "broken", "no branch", "no commit"],
)
def test_each_failure_by_its_name(api: Api, host: GitHost, broken: Break, more: dict[str, Any], kind: str) -> None:
    repository = host.repository()
    repository.commit({"a.txt": b"one\n"})
    broken(repository)
    session = api.session(resources=[given(host, **more), given(host, mount_path="/twice", **more)])
    events = api.turn(session, "run: ls -A /workspace /twice")
    got = types(events)
    assert got.index("session.status_running") < got.index("session.error") < got.index("span.model_request_start")
    for error in failed(api, session):
        assert error["type"] == f"repository_{kind}_error"
        assert error["repository_url"] == host.url("owner/repo")
        assert error["retry_status"] == {"type": "retrying"}
        assert TOKEN not in error["message"]
    assert len(failed(api, session)) == 2, "each repository is told of once a wake"
    assert tried(api, session, "ls -A /workspace /twice") == ["/twice:", "", "/workspace:"]
    assert len(failed(api, session)) == 4, "the next wake has tried again"


def test_a_host_that_does_not_answer(api: Api, host: GitHost, server: Server) -> None:
    host.repository().commit({"a.txt": b"one\n"})
    session = api.session(resources=[given(host)])
    host._server.server_close()
    host._server.shutdown()
    tried(api, session, "true")
    (error,) = failed(api, session)
    assert error["type"] == "repository_clone_error"
    assert "could not be reached" in error["message"]


def test_a_repository_that_works_again_is_there_in_the_next_wake(api: Api, host: GitHost) -> None:
    host.repository().commit({"a.txt": b"one\n"})
    host.repositories["owner/repo"].status = 500
    session = api.session(resources=[given(host)])
    assert tried(api, session, "cat repo/a.txt")[0].startswith("cat:")
    host.repositories["owner/repo"].status = None
    assert tried(api, session, "cat repo/a.txt") == ["one"]
    assert len(failed(api, session)) == 1


def test_what_the_agent_has_put_in_the_way_stays(api: Api, host: GitHost) -> None:
    host.repository(tokens={"later"}).commit({"a.txt": b"one\n"})
    session = api.session(resources=[given(host, authorization_token="bad")])
    tried(api, session, "mkdir repo; echo mine > repo/mine")
    (resource,) = api.get(f"/v1/sessions/{session}")["resources"]
    api.post(f"/v1/sessions/{session}/resources/{resource['id']}", {"authorization_token": "later"})
    assert tried(api, session, "cat repo/mine") == ["mine"]
    assert failed(api, session)[-1]["message"] == "/workspace/repo is not empty."
    tried(api, session, "rm -r repo")
    assert tried(api, session, "cat repo/a.txt") == ["one"]


def test_a_clone_that_was_cut_off_is_made_again(api: Api, host: GitHost) -> None:
    """As a killed sandbox leaves it: with the mark that only a clone has."""
    host.repository().commit({"a.txt": b"one\n"})
    host.repositories["owner/repo"].status = 500
    session = api.session(resources=[given(host, mount_path="/repo")])
    half = "git init -q && git config hostler.incomplete true && mkdir -p deep/er && touch deep/er/left .hidden"
    tried(api, session, f"cd /repo && {half}")
    host.repositories["owner/repo"].status = None
    assert tried(api, session, "ls -A /repo; git -C /repo config --get hostler.incomplete") == [
        ".git",
        "a.txt",
        "[exit code 1]",
    ]
    assert len(failed(api, session)) == 1


def test_a_rotated_token_counts_at_once(api: Api, host: GitHost) -> None:
    repository = host.repository(tokens={"old"})
    repository.commit({"a.txt": b"one\n"})
    session = api.session(resources=[given(host, authorization_token="old")])
    assert run(api, session, "cat repo/a.txt") == ["one"]
    repository.tokens = {"new"}
    assert "rejected the authorization_token" in " ".join(run(api, session, "git -C repo fetch 2>&1"))
    (resource,) = api.get(f"/v1/sessions/{session}")["resources"]
    rotated = api.post(f"/v1/sessions/{session}/resources/{resource['id']}", {"authorization_token": "new"})
    assert rotated == {**resource, "updated_at": rotated["updated_at"]}
    assert run(api, session, "git -C repo fetch && git -C repo push -q origin HEAD:b && echo ok") == ["ok"]
    assert repository.tip("b") == repository.tip("main")


def test_kill_9_in_mid_clone(api: Api, host: GitHost, server: Server) -> None:
    host.repository(tokens={TOKEN}).commit({"a.txt": b"one\n"})
    session = api.session(resources=[given(host, authorization_token=TOKEN)])
    host.hold = threading.Event()
    api.send(session, message("run: cat repo/a.txt"))
    assert host.holding.wait(20)
    server.kill()
    host.hold.set()
    server.start()
    api.settle(session)
    found = [event for event in api.events(session) if event["type"] == "agent.tool_result"]
    assert [event["content"][0]["text"].strip() for event in found] == ["one"]
    assert failed(api, session) == []


def test_an_interrupt_in_mid_clone(api: Api, host: GitHost) -> None:
    host.repository().commit({"a.txt": b"one\n"})
    session = api.session(resources=[given(host)])
    host.hold = threading.Event()
    api.send(session, message("run: cat repo/a.txt"))
    assert host.holding.wait(20)
    api.send(session, {"type": "user.interrupt"})
    api.settle(session)
    host.hold.set()
    assert run(api, session, "cat repo/a.txt")[0] == "one"


def test_a_repository_too_large(start: Callable[..., Server], host: GitHost) -> None:
    host.repository().commit({"big": os.urandom(3_000_000)})
    with Api(start(config=host.config + "repository_mb = 1\n")) as api:
        session = api.session(resources=[given(host)])
        tried(api, session, "true")
        (error,) = failed(api, session)
        assert error["message"] == "The repository is larger than this server's 1 MB."


def test_a_server_without_git(start: Callable[..., Server], host: GitHost) -> None:
    host.repository().commit({"a": b""})
    with Api(start(config=host.config, environ={"PATH": "/nonexistent"})) as api:
        session = api.session(resources=[given(host)])
        assert tried(api, session, "echo on") == ["on"]
        (error,) = failed(api, session)
        assert "no git program" in error["message"]
