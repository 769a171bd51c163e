"""Repository resources over HTTP: what may be asked for, what is shown, and that a token is only ever taken in."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import httpx2
import pytest

from databases import Databases
from hostler.ids import new_id
from serving import ok, refused

Json = dict[str, Any]
URL = "https://github.com/owner/repo"
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


def create(http: httpx2.Client, agent: Json, environment: Json, *resources: Json) -> httpx2.Response:
    body = {"agent": agent["id"], "environment_id": environment["id"], "resources": list(resources)}
    return http.post("/v1/sessions", json=body)


def repository(**fields: Any) -> Json:
    return {"type": "github_repository", "url": URL, **fields}


def test_a_repository_is_shown_without_its_token(http: httpx2.Client, agent: Json, environment: Json) -> None:
    asked = repository(
        authorization_token="ghp_canary", checkout={"type": "branch", "name": "main"}, mount_path="/repo"
    )
    session = ok(create(http, agent, environment, asked, repository(url="https://github.com/owner/two.git")))
    first, second = session["resources"]
    assert set(first) == {"id", "type", "url", "mount_path", "checkout", "created_at", "updated_at"}
    assert (first["url"], first["mount_path"], first["checkout"]) == (URL, "/repo", asked["checkout"])
    assert first["id"].startswith("sesrsc_")
    assert (second["url"], second["mount_path"]) == ("https://github.com/owner/two.git", "/workspace/two")
    assert second["checkout"] is None
    url = f"/v1/sessions/{session['id']}/resources"
    listed = ok(http.get(url))
    assert listed["data"] == session["resources"]
    assert ok(http.get(f"{url}/{first['id']}")) == first
    assert ok(http.get(f"/v1/sessions/{session['id']}"))["resources"] == session["resources"]


def test_a_token_is_rotated(http: httpx2.Client, agent: Json, environment: Json) -> None:
    session = ok(create(http, agent, environment, repository(checkout={"type": "commit", "sha": SHA.upper()})))
    (made,) = session["resources"]
    assert made["checkout"] == {"type": "commit", "sha": SHA}
    url = f"/v1/sessions/{session['id']}/resources/{made['id']}"
    rotated = ok(http.post(url, json={"authorization_token": "ghp_canary"}))
    assert rotated == {**made, "updated_at": rotated["updated_at"]}
    assert rotated["updated_at"] > made["updated_at"]
    for token in ("", "a b", "a\nb", "\u00e9", "x" * 4097, None):
        assert "authorization_token" in refused(http.post(url, json={"authorization_token": token}))
    assert "url: Extra inputs" in refused(http.post(url, json={"authorization_token": "t", "url": URL}))
    refused(http.post(url + "x", json={"authorization_token": "t"}), 404)
    ok(http.post(f"/v1/sessions/{session['id']}/archive"))
    assert "archived" in refused(http.post(url, json={"authorization_token": "t"}))


def test_it_stays_for_the_sessions_life(http: httpx2.Client, agent: Json, environment: Json) -> None:
    session = ok(create(http, agent, environment, repository()))
    url = f"/v1/sessions/{session['id']}/resources"
    assert "only files can be added" in refused(http.post(url, json=repository(url=f"{URL}2")))
    assert "only files can be deleted" in refused(http.delete(f"{url}/{session['resources'][0]['id']}"))
    file = ok(http.post("/v1/files", files={"file": ("a", b"x")}))["id"]
    inside = {"type": "file", "file_id": file, "mount_path": "/workspace/repo/a"}
    assert "overlaps another resource (/workspace/repo)" in refused(http.post(url, json=inside))
    assert ok(http.delete(f"/v1/sessions/{session['id']}"))["type"] == "session_deleted"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://github.com/owner/repo", "not allowed"),
        ("https://gitlab.com/owner/repo", "https://github.com"),
        ("https://github.com:443/owner/repo", "not allowed"),
        ("https://git.example.com/owner/repo", "not allowed"),
        ("https://user:hunter2@github.com/owner/repo", "authorization_token"),
        ("https://ghp_x@github.com/owner/repo", "authorization_token"),
        ("git@github.com:owner/repo", "not allowed"),
        ("ssh://github.com/owner/repo", "not allowed"),
        ("file:///etc", "not allowed"),
        ("ext::sh -c id", "plain URL"),
        ("-u", "not allowed"),
        ("https://github.com/owner", "one repository"),
        ("https://github.com/owner/repo/", "one repository"),
        ("https://github.com/owner/repo/tree/main", "one repository"),
        ("https://github.com/owner/..", "one repository"),
        ("https://github.com/../repo", "one repository"),
        ("https://github.com/-o/repo", "one repository"),
        ("https://github.com/owner/.git", "one repository"),
        ("https://github.com//repo", "one repository"),
        ("https://github.com/owner/repo?x=1", "plain URL"),
        ("https://github.com/owner/repo#x", "plain URL"),
        ("https://github.com/owner/re%2fpo", "plain URL"),
        ("https://github.com/owner/re po", "plain URL"),
        ("https://github.com/owner/r\u00e9po", "plain URL"),
        ("https://github.com\\@evil.example/o/r", "plain URL"),
        ("https://[::1/o/r", "URL"),
        ("", "url"),
    ],
)
def test_urls_that_are_refused(http: httpx2.Client, agent: Json, environment: Json, url: str, says: str) -> None:
    message = refused(create(http, agent, environment, repository(url=url)))
    assert message.startswith("resources.0.url"), message
    assert says in message
    assert "hunter2" not in message


def test_urls_that_are_taken(http: httpx2.Client, agent: Json, environment: Json) -> None:
    urls = ["HTTPS://GitHub.com/Owner/.github", "https://git.example.com:8443/a/b/c.git", "http://127.0.0.1:3000/repo"]
    made = ok(create(http, agent, environment, *(repository(url=url) for url in urls)))["resources"]
    assert [resource["url"] for resource in made] == [
        "https://github.com/Owner/.github",
        "https://git.example.com:8443/a/b/c.git",
        "http://127.0.0.1:3000/repo",
    ]
    assert [resource["mount_path"] for resource in made] == ["/workspace/.github", "/workspace/c", "/workspace/repo"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/", "normalised"),
        ("/etc/x", "/etc"),
        ("/usr", "/usr"),
        ("/proc/self", "/proc"),
        ("/srv/x", "system"),
        ("/var", "system"),
        ("/uploads/x", "system"),
        ("/mnt", "another use"),
        ("/mnt/session/uploads/r", "another use"),
        ("/mnt/session/outputs", "another use"),
        ("/mnt/memory/x", "another use"),
        ("/home", "another use"),
        ("/home/agent", "another use"),
        ("/tmp", "another use"),
        ("/repo/../etc", ".."),
        ("../x", ".."),
        ("/a\tb", "control characters"),
        ("/" + "x" * 256, "255 bytes"),
        ("", "mount_path"),
    ],
)
def test_mount_paths_that_are_refused(
    http: httpx2.Client, agent: Json, environment: Json, path: str, says: str
) -> None:
    message = refused(create(http, agent, environment, repository(mount_path=path)))
    assert message.startswith("resources.0.mount_path"), message
    assert says in message


@pytest.mark.parametrize(
    "checkout",
    [
        {"type": "commit", "sha": "abc"},
        {"type": "commit", "sha": f"{SHA}\n"},
        {"type": "commit", "sha": SHA, "name": "x"},
        {"type": "branch"},
        {"type": "branch", "name": "--upload-pack=x"},
        {"type": "branch", "name": "a..b"},
        {"type": "branch", "name": "a\u0001"},
        {"type": "branch", "name": "x" * 256},
        {"type": "tag", "name": "v1"},
        "main",
    ],
)
def test_checkouts_that_are_refused(http: httpx2.Client, agent: Json, environment: Json, checkout: Any) -> None:
    assert "resources.0.checkout" in refused(create(http, agent, environment, repository(checkout=checkout)))


def test_all_or_nothing_and_no_overlap(http: httpx2.Client, agent: Json, environment: Json) -> None:
    for path in ("/workspace/repo", "/workspace/repo/sub", "/workspace"):
        refusal = refused(create(http, agent, environment, repository(), repository(mount_path=path)))
        assert "resources.1.mount_path: mount_path overlaps" in refusal
    assert ok(http.get("/v1/sessions"))["data"] == []
    many = [repository(mount_path=f"/r{number}") for number in range(21)]
    assert "at most 20 repositories" in refused(create(http, agent, environment, *many))


def test_tokens_are_stored_sealed_and_dropped_with_the_session(
    http: httpx2.Client, agent: Json, environment: Json, tmp_path: Path, database_url: str | None
) -> None:
    if database_url is not None:
        return  # the file is SQLite's; the statements are the same
    session = ok(create(http, agent, environment, repository(authorization_token="ghp_canary_77")))
    for file in tmp_path.rglob("*.db*"):
        assert b"ghp_canary_77" not in file.read_bytes()

    def secrets() -> list[Any]:
        with sqlite3.connect(tmp_path / "hostler.db") as db:
            return [row[0] for row in db.execute("SELECT secret FROM resources")]

    (sealed,) = secrets()
    assert len(sealed) > 20
    ok(http.post(f"/v1/sessions/{session['id']}/archive"))
    assert secrets() == [None]
