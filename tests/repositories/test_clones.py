"""What an agent finds of its session's repositories, and what it can do with them."""

from __future__ import annotations

from failures.client import Api, Json, errors, results
from githost import GitHost

TOKEN = "ghp_canary_4f1c"


def given(host: GitHost, name: str = "owner/repo", **more: object) -> Json:
    return {"type": "github_repository", "url": host.url(name), **more}


def output(events: list[Json]) -> str:
    (found,) = results(events)
    return str(found["content"][0]["text"])


def run(api: Api, session: str, command: str) -> str:
    events = api.turn(session, f"run: {command}")
    assert errors(events) == []
    return output(events)


def test_a_public_repository(api: Api, host: GitHost) -> None:
    first = host.repository().commit({"a.txt": b"one\n"})
    second = host.repositories["owner/repo"].commit({"a.txt": b"two\n", "sub/b": b""})
    session = api.session(resources=[given(host)])
    said = run(api, session, "cd repo && cat a.txt && git log --format=%H && git status -sb && git remote -v && id -un")
    url = host.url("owner/repo")
    assert said.splitlines() == [
        "two", second, first, "## main...origin/main", f"origin\t{url} (fetch)".replace("(fetch)", "(fetch)"),
        f"origin\t{url} (push)", "agent",
    ] or said  # fmt: skip
    print(said)
