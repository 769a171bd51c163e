"""What an agent finds of its session's repositories, and what it can do with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from failures.client import Api, said
from githost import GitHost, git
from repositories.words import TOKEN, given, run
from running import Server


def test_a_public_repository_is_there_with_its_history(api: Api, host: GitHost) -> None:
    first = host.repository().commit({"a.txt": b"one\n"})
    second = host.repositories["owner/repo"].commit({"a.txt": b"two\n", "sub/b": b""})
    session = api.session(resources=[given(host)])
    said = run(api, session, "cd repo && cat a.txt && git log --format=%H && git status -sb && cat .git/config")
    assert said[:4] == ["two", second, first, "## main...origin/main"]
    assert f"\turl = {host.url('owner/repo')}" in said
    assert not any("hostler" in line for line in said), "the mark of a clone is gone"
    assert run(api, session, "touch new && ls -ln . | cut -d' ' -f3 | sort -u | tail -1; id -u") == [
        "1000",
        "1000",
    ]


@pytest.mark.parametrize(
    "path", ["/repo", "/workspace", "/workspace/deep/er", "relative", "/data/x y", "/home/agent/src", "/tmp/r"]
)
def test_where_it_is_mounted(api: Api, host: GitHost, path: str) -> None:
    host.repository().commit({"a.txt": b"one\n"})
    session = api.session(resources=[given(host, mount_path=path)])
    (made,) = api.get(f"/v1/sessions/{session}")["resources"]
    assert made["mount_path"] == (path if path.startswith("/") else f"/workspace/{path}")
    assert run(api, session, f"cd '{made['mount_path']}' && cat a.txt && echo 1 > new && git status -s") == [
        "one",
        "?? new",
    ]


def test_a_mount_of_its_own_stays_when_the_server_and_the_sandbox_restart(
    api: Api, host: GitHost, server: Server
) -> None:
    host.repository().commit({"a.txt": b"one\n"})
    session = api.session(resources=[given(host, mount_path="/repo")])
    run(api, session, "echo mine > /repo/mine")
    packs = host.packs()
    server.restart()
    assert run(api, session, "cat /repo/mine; cd /repo; git status -s") == ["mine", "?? mine"]
    assert host.packs() == packs, "it is not cloned twice"


def test_a_branch(api: Api, host: GitHost) -> None:
    repository = host.repository()
    repository.commit({"a.txt": b"main\n"})
    repository.commit({"a.txt": b"other\n"}, "feature/one")
    session = api.session(resources=[given(host, checkout={"type": "branch", "name": "feature/one"})])
    assert run(api, session, "cd repo && cat a.txt && git status -sb") == [
        "other",
        "## feature/one...origin/feature/one",
    ]


def test_a_commit_of_a_branch_and_one_that_no_branch_leads_to(api: Api, host: GitHost) -> None:
    repository = host.repository()
    old = repository.commit({"a.txt": b"old\n"})
    repository.commit({"a.txt": b"new\n"})
    lost = repository.commit({"a.txt": b"lost\n"}, "gone")
    git(repository.folder, "update-ref", "-d", "refs/heads/gone")
    git(repository.folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    session = api.session(
        resources=[
            given(host, checkout={"type": "commit", "sha": old.upper()}, mount_path="/old"),
            given(host, checkout={"type": "commit", "sha": lost}, mount_path="/lost"),
        ]
    )
    assert api.get(f"/v1/sessions/{session}")["resources"][0]["checkout"] == {"type": "commit", "sha": old}
    assert run(api, session, "cat /old/a.txt /lost/a.txt; git -C /old rev-parse HEAD; git -C /old branch") == [
        "old", "lost", old, f"* (HEAD detached at {old[:7]})", "  main",
    ]  # fmt: skip


def test_an_empty_repository_and_one_whose_head_names_nothing(api: Api, host: GitHost) -> None:
    host.repository("o/empty")
    host.repository("o/astray").commit({"a": b""}, "trunk")
    session = api.session(resources=[given(host, "o/empty"), given(host, "o/astray")])
    assert run(api, session, "git -C empty status -sb; git -C astray branch -r") == [
        "## No commits yet on main...origin/main [gone]", "  origin/trunk",
    ]  # fmt: skip


def test_a_private_repository_with_its_token(api: Api, host: GitHost) -> None:
    host.repository(tokens={TOKEN}).commit({"a.txt": b"secret\n"})
    session = api.session(resources=[given(host, authorization_token=TOKEN)])
    assert run(api, session, "cat repo/a.txt") == ["secret"]
    assert {token for _, _, token in host.asked} == {TOKEN}


def test_an_agent_pushes_a_branch_and_fetches_what_others_pushed(api: Api, host: GitHost) -> None:
    repository = host.repository(tokens={TOKEN})
    repository.commit({"a.txt": b"one\n"})
    session = api.session(resources=[given(host, authorization_token=TOKEN)])
    commit = "git -c user.name=x -c user.email=x@example.com commit -qm work"
    size = 3_000_000  # larger than git sends in one piece
    work = f"cd repo && git switch -qc work && head -c {size} /dev/urandom > big && git add . && {commit}"
    said = run(api, session, f"{work} && git push -q origin work && git rev-parse HEAD")
    assert repository.tip("work") == said[-1]
    theirs = repository.commit({"a.txt": b"two\n"})
    assert run(api, session, "git fetch -q && git rev-parse origin/main") == [theirs]


def test_without_a_network_git_still_works_and_nothing_else_does(api: Api, host: GitHost) -> None:
    host.repository(tokens={TOKEN}).commit({"a.txt": b"one\n"})
    environment = api.post(
        "/v1/environments", {"name": "e", "config": {"type": "cloud", "networking": {"type": "limited"}}}
    )
    session = api.session(resources=[given(host, authorization_token=TOKEN)], environment_id=environment["id"])
    assert run(
        api,
        session,
        "cat repo/a.txt && git -C repo fetch -q && git -C repo switch -qc b && git -C repo push -q origin b; echo $?",
    )[-2:] == ["one", "0"]
    outside = "curl -s -o /dev/null -w '%{http_code}' -x http://127.0.0.1:3128 http://example.com/"
    assert run(api, session, f"{outside}; env | grep -ci _proxy= || true") == ["4030"]


def test_a_second_session_is_served_from_the_cache(api: Api, host: GitHost) -> None:
    host.repository(tokens={TOKEN}).commit({"a.txt": b"one\n"})
    resources = [given(host, authorization_token=TOKEN)]
    assert run(api, api.session(resources=resources), "cat repo/a.txt") == ["one"]
    assert host.packs() == 1
    assert run(api, api.session(resources=resources), "cat repo/a.txt") == ["one"]
    assert host.packs() == 1
    host.repositories["owner/repo"].commit({"a.txt": b"two\n"})
    assert run(api, api.session(resources=resources), "cat repo/a.txt") == ["two"]
    assert host.packs() == 2


def test_skills_of_a_repository_are_told_to_the_model_also_after_a_restart(
    start: Callable[..., Server], host: GitHost
) -> None:
    front = b"---\nname: release\ndescription: >\n  Cuts a release\n  of this project.\n---\nDo it.\n"
    host.repository().commit(
        {
            ".claude/skills/release/SKILL.md": front,
            ".claude/skills/plain/SKILL.md": b"no front matter",
            ".claude/skills/\udcff/SKILL.md": front,
            "other/SKILL.md": front,
        }
    )
    told = "- release (/repo/.claude/skills/release/SKILL.md): Cuts a release of this project."
    rule = {"when": {"system_contains": f"{host.url('owner/repo')}\n"}, "counts_from": "never"}
    rules = [{**rule, "turns": [{"text": "a repository"}]}]
    rules.insert(0, {**rule, "when": {"system_contains": told}, "turns": [{"text": "and skills"}]})
    server = start(config=host.config, scripted={"rules": rules, "otherwise": {"text": "nothing"}})
    with Api(server) as api:
        session = api.session(resources=[given(host, mount_path="/repo")])
        assert said(api.turn(session, "hello")) == ["and skills"]
        server.kill()
        server.start()
        assert said(api.turn(session, "hello")) == ["and skills"]
        assert said(api.turn(api.session(), "hello")) == ["nothing"]
