"""Repositories, agents and tokens that mean no good."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from failures.client import Api, Json, results
from githost import GitHost, git
from repositories.words import TOKEN, failed, given, run, tried
from running import Server


def everything(api: Api, session: str, server: Server) -> dict[str, bytes]:
    """All places where a token could have got to."""
    found = {
        str(path): path.read_bytes()
        for path in server.data_dir.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "secret.key"
    }
    pages = [f"/v1/sessions/{session}", f"/v1/sessions/{session}/resources", f"/v1/sessions/{session}/events"]
    return {**found, "log": server.log().encode(), **{page: api.http.get(page).content for page in pages}}


def test_a_token_is_nowhere(api: Api, host: GitHost, server: Server) -> None:
    """Nor its Basic form: in the sandbox, its processes and environment, the database, the log, the events, the API."""
    host.repository(tokens={TOKEN}).commit({"a.txt": b"one\n"})
    session = api.session(
        resources=[
            given(host, authorization_token=TOKEN),
            given(
                host,
                mount_path="/bad",
                authorization_token="ghp_canary_4f1c_wrong",
                checkout={"type": "branch", "name": "x"},
            ),
        ]
    )
    encoded = ["ghp_canary", "Z2hwX2NhbmFye", "eC1hY2Nlc3MtdG9rZW46"]
    look = " ".join(f"-e {word}" for word in encoded)
    command = (
        "cd repo; GIT_TRACE=1 GIT_CURL_VERBOSE=1 GIT_TRACE_CURL=1 git fetch 2>&1; git push origin HEAD:x 2>&1;"
        " env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /etc/gitconfig .git/config 2>/dev/null;"
        f" grep -rl {look} / --include='*' --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr 2>/dev/null; true"
    )
    seen = "\n".join(tried(api, session, command))
    assert "git.hostler.internal" in seen
    for place, content in {**everything(api, session, server), "seen": seen.encode()}.items():
        for word in encoded:
            if place == "seen" or not place.startswith("/v1"):
                content = content.replace(look.encode(), b"")
            assert word.encode() not in content.replace(look.encode(), b"").replace(command.encode(), b""), place


def test_the_cache_is_for_those_whom_the_host_admits(api: Api, host: GitHost) -> None:
    host.repository("owner/secret", tokens={"mine"}).commit({"a.txt": b"private\n"})
    host.repository("owner/other", tokens={"theirs"}).commit({"a.txt": b"other\n"})
    assert run(
        api, api.session(resources=[given(host, "owner/secret", authorization_token="mine")]), "cat secret/a.txt"
    )
    session = api.session(
        resources=[
            given(host, "owner/secret", authorization_token="theirs"),
            given(host, "owner/other", authorization_token="theirs"),
        ]
    )
    assert tried(api, session, "cat other/a.txt; ls -A secret 2>&1")[0] == "other"
    (error,) = failed(api, session)
    assert error["type"] == "repository_not_found_error"
    gateway = f"http://git.hostler.internal/{host.address.removeprefix('http://')}"
    said = tried(api, session, f"git clone -q {gateway}/owner/secret got 2>&1; ls got 2>&1")
    assert "private" not in "\n".join(said)
    stranger = api.session(resources=[given(host, "owner/other", authorization_token="theirs")])
    said = tried(api, stranger, f"git clone -q {gateway}/owner/secret got 2>&1; ls got/a.txt 2>&1")
    assert "no such repository" in said[0]


def test_a_commit_that_another_token_brought_is_not_served(api: Api, host: GitHost) -> None:
    """By its name, which is all that an agent could know: git of the newer protocol would."""
    repository = host.repository()
    repository.commit({"a.txt": b"one\n"})
    hidden = repository.commit({"a.txt": b"hidden\n"}, "hidden")
    assert run(api, api.session(resources=[given(host)]), "git -C repo branch -r | wc -l") == ["3"]
    git(repository.folder, "config", "uploadpack.hideRefs", "refs/heads/hidden")
    repository.old = True
    session = api.session(resources=[given(host)])
    assert run(api, session, "git -C repo branch -r | wc -l") == ["2"]
    fetch = f"git -c protocol.version=2 fetch origin {hidden} 2>&1"
    said = run(api, session, f"cd repo; {fetch}; git cat-file -e {hidden} 2>&1 || echo absent")
    assert said[-1] == "absent"
    asked = api.session(resources=[given(host, checkout={"type": "commit", "sha": hidden})])
    tried(api, asked, "true")
    assert [error["type"] for error in failed(api, asked)] == ["repository_checkout_error"]


PROBE = """
import subprocess, sys
def frame(line):
    return b"%04x%s" % (len(line) + 4, line)
url, tip, known = sys.argv[1:]
body = frame(f"want {tip} shallow no-progress\\n".encode()) + frame(f"shallow {known}\\n".encode())
body += frame(b"deepen 2147483647\\n") + b"0000" + frame(b"done\\n")
curl = ["curl", "-s", "-x", "http://127.0.0.1:3128", "--data-binary", "@-", f"{url}/git-upload-pack"]
answer = subprocess.run(curl, input=body, capture_output=True).stdout
pack = answer[answer.index(b"PACK"):]
subprocess.run(["git", "-C", "repo", "unpack-objects", "-q"], input=pack)
"""


def test_claiming_a_commit_does_not_bring_its_parents(api: Api, host: GitHost) -> None:
    """Git sends the parents of what a reader calls shallow; the mirror has them from a token that may see them."""
    repository = host.repository()
    repository.commit({"a.txt": b"one\n"})
    parent = repository.commit({"a.txt": b"hidden parent\n"}, "hidden")
    hidden = repository.commit({"a.txt": b"hidden\n"}, "hidden")
    assert run(api, api.session(resources=[given(host)]), "git -C repo branch -r | wc -l") == ["3"]
    git(repository.folder, "config", "uploadpack.hideRefs", "refs/heads/hidden")
    repository.old = True
    session = api.session(resources=[given(host)])
    url = f"http://git.hostler.internal/{host.address.removeprefix('http://')}/owner/repo"
    probe = f"cat > probe.py <<'END'\n{PROBE}\nEND\npython3 probe.py {url} {repository.tip()}"
    for spelling in (hidden, hidden.upper(), f"{hidden} and more"):
        said = run(api, session, f"{probe} '{spelling}'; git -C repo cat-file -e {parent} 2>&1 || echo absent")
        assert said[-1] == "absent"


def test_a_shallow_clone_is_deepened(api: Api, host: GitHost) -> None:
    repository = host.repository()
    for number in range(3):
        repository.commit({"a.txt": f"{number}\n".encode()})
    session = api.session(resources=[given(host)])
    clone = f"git clone -q --depth 1 {host.url('owner/repo')} short && cd short && git rev-list --count HEAD"
    assert run(api, session, f"{clone}; git fetch -q --deepen 1; git rev-list --count HEAD") == ["1", "2"]
    repository.commit({"a.txt": b"3\n"})
    assert run(api, session, "git fetch -q --unshallow; git rev-list --count origin/main") == ["4"]


def test_the_gateway_serves_git_and_nothing_else(api: Api, host: GitHost) -> None:
    host.repository(tokens={TOKEN}).commit({"a.txt": b"one\n"})
    session = api.session(resources=[given(host, authorization_token=TOKEN)])
    assert run(api, session, "cat repo/a.txt") == ["one"]
    asked = len(host.asked)
    place = f"/{host.address.removeprefix('http://')}/owner/repo"
    base = "http://git.hostler.internal"
    curl = "curl -s -o /dev/null -w '%{http_code} ' --path-as-is -x http://127.0.0.1:3128"
    paths = [
        "/",
        "/github.com/o/r/info/refs?service=git-upload-pack",
        f"{place}/HEAD",
        f"{place}/git-upload-pack",
        f"{place}/info/lfs/objects/batch",
        f"{place}/../secret/info/refs?service=git-upload-pack",
        f"{place}/info/refs",
        f"{place}/info/refs?service=git-upload-archive",
        f"{place}/info/refs?service=git-upload-pack&x=1",
        f"{place}%2f/git-upload-pack",
    ]
    said = run(api, session, "; ".join(f"{curl} '{base}{path}'" for path in paths))
    assert said[0].split() == ["404"] * len(paths)
    post = f"{curl} '{base}{place}/git-upload-pack' -d x -H"
    said = run(api, session, f"{post} 'Content-Encoding: gzip'; {post} 'Content-Encoding: br'")
    assert said[0].split() == ["400", "415"]
    assert len(host.asked) == asked, "nothing of that has reached the host"


def test_a_url_that_only_begins_alike_goes_where_it_meant(api: Api, host: GitHost) -> None:
    host.repository().commit({"a": b""})
    session = api.session(resources=[given(host)])
    gateway = f"http://git.hostler.internal/{host.address.removeprefix('http://')}"
    asked = "/owner/repo-two/info/refs?service=git-upload-pack"
    said = run(api, session, f"curl -s -o /dev/null -w '%{{redirect_url}}' -x http://127.0.0.1:3128 '{gateway}{asked}'")
    assert said == [host.address + asked]


def test_hostile_trees(api: Api, host: GitHost, tmp_path: Path) -> None:
    """Links out, hooks, filters, submodules, odd names: they are only files, and nothing of them runs."""
    repository = host.repository()
    flag = tmp_path / "ran"
    repository.commit(
        {
            "out": "/etc/passwd",
            "up": "../../../../../../etc",
            ".gitattributes": b"* filter=evil\n",
            ".gitmodules": f'[submodule "s"]\n\tpath = s\n\turl = {host.url("owner/sub")}\n'.encode(),
            ".gitconfig": b"[core]\n\tfsmonitor = touch /workspace/ran\n",
            "hooks/post-checkout": b"#!/bin/sh\ntouch /workspace/ran\n",
            "odd\n\x01name": b"odd\n",
            "\udcff\udcfe": b"bytes\n",
            "-rf": b"",
            ".claude/skills/evil/SKILL.md": "/proc/self/environ",
        }
    )
    session = api.session(resources=[given(host)])
    said = run(api, session, "cd repo; ls -A | wc -l; git status -s | wc -l; ls /workspace; readlink out")
    assert said[-1] == "/etc/passwd"
    assert "ran" not in said
    assert not flag.exists()
    assert not any("owner/sub" in path for _, path, _ in host.asked)


def test_a_tree_that_git_would_not_make(api: Api, host: GitHost) -> None:
    """A `.git` folder, and `..`, in a commit: git in the sandbox refuses, and the session goes on."""
    repository = host.repository()
    blob = git(repository.folder, "hash-object", "-w", "--stdin", stdin=b"[core]\n")
    for name in (".git", ".."):
        inner = git(repository.folder, "mktree", "-z", stdin=f"100644 blob {blob}\tconfig\0".encode())
        raw = b"40000 " + name.encode() + b"\0" + bytes.fromhex(inner)
        tree = git(repository.folder, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
        repository.commit_tree(tree)
        session = api.session(resources=[given(host)])
        assert tried(api, session, "echo on; ls /workspace/repo 2>/dev/null | wc -l") == ["on", "0"]
        (error,) = failed(api, session)
        assert error["type"] == "repository_clone_error"


@pytest.mark.parametrize(
    "name", ["evil/../../x", "a b", "-u", "x\n[core]", "x..y", "x~1", "@{-1}", "x.lock", "HEAD", "/x", ""]
)
def test_names_of_branches(api: Api, host: GitHost, name: str) -> None:
    body: Json = {"agent": api.agent()["id"], "environment_id": api.post("/v1/environments", {"name": "e"})["id"]}
    resource = given(host, checkout={"type": "branch", "name": name})
    response = api.http.post("/v1/sessions", json={**body, "resources": [resource]})
    assert response.status_code == 400, response.text
    assert "resources.0.checkout" in response.json()["error"]["message"]


def test_a_branch_that_looks_like_an_option_to_a_host_is_no_ref(api: Api, host: GitHost) -> None:
    repository = host.repository()
    tip = repository.commit({"a.txt": b"one\n"})
    packed = repository.folder / "packed-refs"
    packed.write_text(f"{tip} refs/heads/ok\n{tip} refs/heads/--upload-pack=x\n{tip} refs/tags/v1\n")
    session = api.session(resources=[given(host)])
    assert "origin/ok" in " ".join(run(api, session, "git -C repo branch -r; git -C repo tag"))


def test_an_agent_that_holds_many_requests_open_harms_only_itself(api: Api, host: GitHost) -> None:
    host.repository().commit({"a.txt": os.urandom(4_000_000)})
    session = api.session(resources=[given(host)])
    held = f"(git clone -q {host.url('owner/repo')} c$i & p=$!; sleep 0.2; kill -STOP $p) >/dev/null 2>&1 &"
    run(api, session, f"for i in 1 2 3 4 5 6; do {held} done; sleep 2; true")
    assert run(api, api.session(resources=[given(host)]), "wc -c < repo/a.txt") == ["4000000"]


def test_no_process_of_git_is_left(api: Api, host: GitHost, server: Server) -> None:
    host.repository().commit({"a.txt": b"one\n"})
    assert run(api, api.session(resources=[given(host)]), "cat repo/a.txt") == ["one"]
    children = subprocess.run(
        ["ps", "--ppid", str(server.pid), "-o", "comm="], capture_output=True, text=True, check=False
    )
    assert "git" not in children.stdout
    assert results(api.turn(api.session(), "run: git config --system -l")), "a session without any has no such settings"
