"""Repository resources and their errors through the strict official SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from contract.world import BUILTINS, World, only, unknown_fields
from githost import GitHost, Repository

TOKEN = "ghp_contract"


@pytest.fixture(scope="module")
def repository(git_host: GitHost) -> Iterator[Repository]:
    made = git_host.repository("contract/repo", tokens={TOKEN})
    made.commit({"a.txt": b"one\n"})
    yield made
    del git_host.repositories["contract/repo"]


def given(host: GitHost, **more: Any) -> dict[str, Any]:
    url = host.url("contract/repo")
    return {"type": "github_repository", "url": url, "authorization_token": TOKEN, **more}


def test_a_repository_of_a_session(either: World, git_host: GitHost, repository: Repository) -> None:
    asked = given(git_host, mount_path="/repo", checkout={"type": "commit", "sha": repository.tip()})
    session_id = either.session(BUILTINS, resources=[asked])
    session = either.beta.sessions.retrieve(session_id)
    (made,) = session.resources
    assert (made.type, made.url, made.mount_path) == ("github_repository", asked["url"], "/repo")
    assert made.checkout.to_dict() == asked["checkout"]
    assert unknown_fields(session) == []
    resources = either.beta.sessions.resources
    assert list(resources.list(session_id)) == [made]
    assert resources.retrieve(made.id, session_id=session_id) == made
    either.turn(session_id, "run: cat /repo/a.txt")
    assert either.last_text(session_id).strip().endswith("one")
    rotated = resources.update(made.id, session_id=session_id, authorization_token="ghp_another")
    assert rotated.to_dict() == {**made.to_dict(), "updated_at": rotated.to_dict()["updated_at"]}
    with pytest.raises(anthropic.BadRequestError, match="stays for its session's life"):
        resources.delete(made.id, session_id=session_id)


@pytest.mark.parametrize(
    ("kind", "more", "status"),
    [
        ("authentication", {"authorization_token": "ghp_wrong"}, None),
        ("forbidden", {}, 403),
        ("not_found", {}, 404),
        ("checkout", {"checkout": {"type": "branch", "name": "none"}}, None),
        ("clone", {}, 500),
    ],
)
def test_each_error(
    either: World, git_host: GitHost, repository: Repository, kind: str, more: dict[str, Any], status: int | None
) -> None:
    repository.status = status
    try:
        session_id = either.session(BUILTINS, resources=[given(git_host, **more)])
        events = either.turn(session_id, "say: I go on")
    finally:
        repository.status = None
    (problem,) = only(events, "session.error")
    assert problem.error.type == f"repository_{kind}_error"
    assert problem.error.repository_url == git_host.url("contract/repo")
    assert problem.error.retry_status.type == "retrying"
    assert problem.error.message
    kinds = [event.type for event in events]
    assert kinds.index("session.status_running") < kinds.index("session.error") < kinds.index("agent.message")
    assert unknown_fields(events) == []
    listed = either.listed(session_id)
    assert [event.to_dict() for event in events if event.processed_at] == [event.to_dict() for event in listed]
