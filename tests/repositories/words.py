"""Short words for the tests of this folder."""

from __future__ import annotations

from failures.client import Api, Json, errors, results
from githost import GitHost

TOKEN = "ghp_canary_4f1c"


def given(host: GitHost, name: str = "owner/repo", **more: object) -> Json:
    """A repository resource as a client asks for it."""
    return {"type": "github_repository", "url": host.url(name), **more}


def tried(api: Api, session: str, command: str) -> list[str]:
    """The lines that a command prints; the turn may have had errors."""
    (found,) = results(api.turn(session, f"run: {command}"))
    text = str(found["content"][0]["text"]).rstrip("\n")
    return [] if text == "(no output)" else text.split("\n")


def run(api: Api, session: str, command: str) -> list[str]:
    """The lines that a command prints, in a turn without errors."""
    lines = tried(api, session, command)
    assert errors(api.events(session)) == []
    return lines


def failed(api: Api, session: str) -> list[Json]:
    """The errors of a session's events so far."""
    return [event["error"] for event in api.events(session) if event["type"] == "session.error"]
