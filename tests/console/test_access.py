"""Who gets in, by what, and to what. A page needs the same keys as the API, and no address ever holds one."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from content import review, view
from markup import fields, strange
from rig import OTHER, Console
from streams import frames

from hostler.console import access as access_module
from hostler.console.access import COOKIE, TICKET
from serving import KEY, ok

HTML = {"accept": "text/html"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look each time whether a key still holds, instead of after three seconds."""
    monkeypatch.setattr(access_module, "KNOWN_SECONDS", 0)


@pytest.fixture
def task(server: Console) -> str:
    return server.task(view(6, review(payload={"x": 1})))


def link(server: Console, path: str, key: str = KEY, **more: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.post(f"{server.url}/console/links", json={"path": path, **more}, headers=headers)


# -- signing in --


def test_without_a_key_there_is_only_the_sign_in(server: Console, task: str, session: str) -> None:
    with server.browser(None) as nobody:
        for path in ("/console", f"/console/tasks/{task}", f"/console/sessions/{session}"):
            answer = nobody.get(path)
            assert (answer.status_code, answer.headers["location"]) == (
                303, f"/console/sign-in?next={path.replace('/', '%2F')}"
            )  # fmt: skip
            assert nobody.get(f"{path}/stream", headers={"accept": "text/event-stream"}).status_code in (401, 404)
        assert nobody.post(f"/console/tasks/{task}/decision", data={"do": "approve"}).status_code == 401
    assert server.said(task) == []


def test_signing_in_gives_a_sealed_cookie_and_leads_on(server: Console, task: str) -> None:
    with server.browser(None) as client:
        wanted = f"/console/tasks/{task}"
        answer = client.post("/console/sign-in", data={"key": f" {KEY}\n", "next": wanted})
        assert (answer.status_code, answer.headers["location"]) == (303, wanted)
        cookie = answer.headers["set-cookie"]
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/console", "max-age=43199"} <= parts | {"max-age=43199"}
        assert not any(part.startswith("domain") for part in parts)  # else other hosts were sent it
        assert "secure" not in parts  # this server speaks plain HTTP to this machine
        assert KEY not in cookie
        assert client.get(wanted).status_code == 200


def test_behind_tls_the_cookie_stays_there(server: Console) -> None:
    headers = {"x-forwarded-proto": "https", "origin": server.url.replace("http", "https")}
    with server.browser(None) as client:
        answer = client.post("/console/sign-in", data={"key": KEY}, headers=headers)
    assert "; Secure" in answer.headers["set-cookie"]


def test_what_is_no_api_key_signs_nobody_in(server: Console) -> None:
    environment = ok(server.client.post("/v1/environments", json={"name": "e", "config": {"type": "self_hosted"}}))
    made = server.call(server.services.environment_keys.create(environment["id"], "w"))
    own = server.services.keys.own()
    with server.browser(None) as client:
        for key in ("", "sk-wrong", made.key or "", own, "x" * 10_000, "\N{SNOWMAN}"):
            answer = client.post("/console/sign-in", data={"key": key})
            assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
            assert "no valid API key" in answer.text
        assert client.post("/console/sign-in", data={"key": "x" * 20_000}).status_code == 413


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example/console/", "/console/../../x\\", "/v1/agents", "/console/\n",
               "/console/sign-out", "/\\evil.example", "/consoleevil"],
)  # fmt: skip
def test_a_sign_in_leads_nowhere_else(server: Console, wanted: str) -> None:
    with server.browser(None) as client:
        answer = client.post("/console/sign-in", data={"key": KEY, "next": wanted})
        assert answer.headers["location"] == "/console"


def test_a_revoked_key_ends_pages_and_streams(server: Console, task: str) -> None:
    key, secret = server.call(server.services.keys.create("short"))
    with server.browser(secret) as client:
        assert client.get(f"/console/tasks/{task}").status_code == 200
        stream = frames(client, f"/console/tasks/{task}/stream")
        assert next(stream).name == "begin"
        server.call(server.services.keys.revoke(key.id))
        assert "gone" in [frame.name for frame in stream]
        assert client.get(f"/console/tasks/{task}").status_code == 303


def test_a_revoked_key_ends_the_stream_of_a_session(server: Console, session: str) -> None:
    key, secret = server.call(server.services.keys.create("short"))
    with server.browser(secret) as client:
        stream = frames(client, f"/console/sessions/{session}/stream")
        assert next(stream).name == "begin"
        server.call(server.services.keys.revoke(key.id))
        assert [frame.name for frame in stream] == ["gone"]


def test_signing_out_forgets(server: Console, task: str) -> None:
    with server.browser() as client:
        assert client.get(f"/console/tasks/{task}").status_code == 200
        assert client.post("/console/sign-out").status_code == 303
        assert client.get(f"/console/tasks/{task}").status_code == 303


@pytest.mark.parametrize("value", ["", "x", "AAAA", "a" * 3000, "%00", "é"])
def test_a_made_up_cookie_is_nobodys(server: Console, task: str, value: str) -> None:
    cookie = f"{server.access.cookie_name}={value}".encode()
    with server.browser(None) as client:
        assert client.get(f"/console/tasks/{task}", headers={"cookie": cookie}).status_code == 303


def test_a_link_from_another_site_finds_the_cookie(server: Console, task: str) -> None:
    """A browser sends no strict cookie when another site leads here; the page leads here itself, once."""
    with server.browser(None) as client:
        answer = client.get(f"/console/tasks/{task}?edit=a", headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 200
        assert f'content="0;url=/console/tasks/{task}?edit=a"' in answer.text
        assert client.get(f"/console/tasks/{task}").status_code == 303


# -- what changes something --


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"origin": "https://evil.example", "sec-fetch-site": ""}, 403),
        ({"origin": "null", "sec-fetch-site": ""}, 403),
        ({"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"}, 403),  # another server of this machine
        ({"sec-fetch-site": ""}, 403),
        ({"sec-fetch-site": "same-origin"}, 303),
        ({"origin": "ours", "sec-fetch-site": ""}, 303),
        ({"origin": "ours", "sec-fetch-site": "same-origin"}, 303),
    ],
)
def test_only_our_own_pages_change_something(
    server: Console, user: httpx2.Client, task: str, headers: dict[str, str], status: int
) -> None:
    sent = {name: server.url if value == "ours" else value for name, value in headers.items()}
    for path, data in ((f"/console/tasks/{task}/cancel", {}), ("/console/sign-in", {"key": KEY})):
        assert user.post(path, data=data, headers=sent).status_code == status
    assert user.post("/console/sign-out", headers=sent).status_code == status


def test_nothing_is_changed_by_looking(server: Console, user: httpx2.Client, task: str) -> None:
    for verb in ("decision", "rows", "file", "cancel"):
        assert user.get(f"/console/tasks/{task}/{verb}").status_code == 405
    assert user.get("/console/sign-out").status_code == 405
    assert server.said(task) == []


def test_every_answer_forbids_what_pages_do_not_need(server: Console, user: httpx2.Client, task: str) -> None:
    paths = ("/console", f"/console/tasks/{task}", "/console/tasks/none", "/console/nowhere",
             "/console/static/console.css", "/console/sign-in")  # fmt: skip
    for path in paths:
        headers = user.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        if "static" not in path:
            assert headers.get("cache-control", "no-store") == "no-store"


def test_a_page_has_no_script_or_style_of_its_own(server: Console, user: httpx2.Client, task: str) -> None:
    for path in ("/console", f"/console/tasks/{task}", "/console/sign-in"):
        assert strange(user.get(path).text) == []


def test_a_server_that_is_reached_elsewhere(server: Console, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.access, "public_url", "https://hostler.example.com")
    assert ok(link(server, f"/console/tasks/{task}"))["url"].startswith("https://hostler.example.com/console/tasks/")
    with server.browser() as client:
        for origin, status in (("https://hostler.example.com", 303), ("https://evil.example.com", 403)):
            sent = {"origin": origin, "sec-fetch-site": "same-origin"}
            assert client.post(f"/console/tasks/{task}/cancel", headers=sent).status_code == status


# -- tenants --


def test_a_tenants_key_sees_its_tasks_alone(server: Console, task: str, session: str) -> None:
    theirs = server.task(view(1), tenant=OTHER, title="Secret of others")
    of_theirs, remote = server.session(), server.session()
    server.agent_run(task, session)
    server.agent_run(theirs, of_theirs)
    server.agent_run(task, remote, base_url="https://elsewhere.example")  # whose ids say nothing about ours
    with server.browser(server.tenant_key()) as client:
        seen = {
            path: client.get(f"/console/{path}").status_code
            for path in (f"tasks/{task}", f"sessions/{session}", f"tasks/{theirs}", f"sessions/{of_theirs}",
                         f"sessions/{remote}", f"sessions/{server.session()}", "tasks/none")
        }  # fmt: skip
        assert list(seen.values()) == [200, 200, 404, 404, 404, 404, 404]
        for path in (f"tasks/{theirs}/stream", f"sessions/{of_theirs}/stream", f"tasks/{theirs}/documents/x"):
            assert client.get(f"/console/{path}", headers={"accept": "text/event-stream"}).status_code == 404
        assert client.post(f"/console/tasks/{theirs}/cancel").status_code == 404
        home = client.get("/console").text
    assert task in home
    assert "Secret of others" not in home
    assert "sesn_" not in home


def test_a_tenants_key_decides_for_its_own(server: Console, task: str) -> None:
    with server.browser(server.tenant_key()) as client:
        action = f"/console/tasks/{task}/decision"
        gate = fields(client.get(f"/console/tasks/{task}").text, action)
        answer = client.post(action, data={"do": "approve", **gate})
        assert answer.status_code == 303
    assert server.said(task) == [{"type": "approved", "acted_by": "of a tenant"}]


# -- links --


def test_a_link_opens_one_page_and_leaves_the_address_clean(server: Console, task: str, session: str) -> None:
    other = server.task(view(1))
    child = server.task(view(1), task_id=f"{task}:s1:document-ingest:bank", parent_id=task)
    near = server.task(view(1), task_id=f"{task}x")
    server.agent_run(child, session)
    url = ok(link(server, f"/console/tasks/{task}"))["url"]
    assert KEY not in url
    with server.browser(None) as client:
        answer = client.get(url)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/console/tasks/{task}")
        open_ = [client.get(f"/console/{path}").status_code
                 for path in (f"tasks/{task}", f"tasks/{child}", f"sessions/{session}")]  # fmt: skip
        assert open_ == [200, 200, 200]
        shut = [client.get(f"/console/{path}").status_code
                for path in (f"tasks/{other}", f"tasks/{near}", f"sessions/{server.session()}")]  # fmt: skip
        assert shut == [404, 404, 404]
        home = client.get("/console").text
        assert task in home
        assert other not in home


def test_several_links_are_open_side_by_side(server: Console) -> None:
    tasks = [server.task(view(1)) for _ in range(16)]
    with server.browser(None) as client:
        for task in tasks:
            client.get(ok(link(server, f"/console/tasks/{task}"))["url"])
        seen = [client.get(f"/console/tasks/{task}").status_code for task in tasks]
        assert len(client.cookies) <= 12
    assert seen[-5:] == [200] * 5
    assert set(seen) == {200, 404}


def test_a_link_from_another_site_works(server: Console, task: str) -> None:
    with server.browser(None) as client:
        url = ok(link(server, f"/console/tasks/{task}"))["url"]
        answer = client.get(url, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 200
        assert f'content="0;url=/console/tasks/{task}"' in answer.text
        assert client.get(f"/console/tasks/{task}").status_code == 200


def test_a_link_to_look_at_lets_nobody_act(server: Console, task: str) -> None:
    with server.browser(None) as client:
        client.get(ok(link(server, f"/console/tasks/{task}", acts=False))["url"])
        page = client.get(f"/console/tasks/{task}").text
        assert "does not let you answer" in page
        assert 'method="post" action="/console/tasks/' not in page
        for verb in ("decision", "rows", "file", "cancel"):
            assert client.post(f"/console/tasks/{task}/{verb}", data={"do": "approve"}).status_code == 403
        client.get(ok(link(server, f"/console/tasks/{task}"))["url"])
        assert "Approve" in client.get(f"/console/tasks/{task}").text


def test_a_ticket_is_for_its_page_and_its_time(
    server: Console, task: str, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = ok(link(server, f"/console/tasks/{task}", expires_in_seconds=60))["url"]
    ticket = url.partition("?ticket=")[2]
    short = server.access.sign(f"/console/tasks/{task}", seconds=1)
    cookie = server.access.sealed(access_module.Who(until=2**60))
    with server.browser(None) as client:
        for path in (
            f"/console/sessions/{session}?ticket={ticket}",
            f"/console/tasks/{server.task(view(1))}?ticket={ticket}",
            f"/console/tasks/{task}?ticket={ticket[:-2]}",
            f"/console/tasks/{task}?ticket={cookie}",
            f"/console/tasks/{task}?ticket=",
        ):
            assert "set-cookie" not in client.get(path).headers
        assert client.get(url).status_code == 303
        name = server.access.cookie_name
        headers = {"cookie": f"{name}={ticket}"}
        with server.browser(None) as other:
            assert other.get(f"/console/tasks/{task}", headers=headers).status_code == 303
        now = access_module.clock.now()
        monkeypatch.setattr(access_module.clock, "now", lambda: now + 61_000_000)
        assert "set-cookie" not in client.get(short).headers
        assert client.get(f"/console/tasks/{task}").status_code == 303
    assert COOKIE != TICKET


def test_a_link_ends_with_the_key_that_made_it(server: Console, task: str) -> None:
    key, secret = server.call(server.services.keys.create("short"))
    url = ok(link(server, f"/console/tasks/{task}", secret))["url"]
    with server.browser(None) as client:
        client.get(url)
        assert client.get(f"/console/tasks/{task}").status_code == 200
        server.call(server.services.keys.revoke(key.id))
        assert client.get(f"/console/tasks/{task}").status_code == 303
        assert "set-cookie" not in client.get(url).headers


def test_a_tenants_key_links_to_its_own_alone(server: Console, task: str, session: str) -> None:
    secret = server.tenant_key()
    assert link(server, f"/console/tasks/{task}", secret).status_code == 200
    for path in (f"/console/tasks/{server.task(view(1), tenant=OTHER)}", f"/console/sessions/{session}"):
        assert link(server, path, secret).status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"path": "/v1/agents"}, "path: Input should be"),
        ({"path": "/console/tasks/a/../b"}, "path: Input should be"),
        ({"path": "/console/tasks/a?b"}, "path: Input should be"),
        ({"path": "https://evil.example/console/tasks/a"}, "path: Input should be"),
        ({"path": "/console/tasks/none"}, "not found"),
        ({}, "path: Field required"),
        ({"path": "/console/tasks/none", "more": 1}, "more"),
    ],
)
def test_a_link_that_can_not_be_made(server: Console, body: dict[str, Any], words: str) -> None:
    answer = httpx2.post(f"{server.url}/console/links", json=body, headers={"x-api-key": KEY})
    assert answer.status_code in (400, 404)
    assert words in answer.json()["message"]


@pytest.mark.parametrize("seconds", [0, -5, 10**12])
def test_a_link_lasts_a_sensible_time(server: Console, task: str, seconds: int) -> None:
    answer = link(server, f"/console/tasks/{task}", expires_in_seconds=seconds)
    assert "expires_in_seconds: Input should be between 1 and" in answer.json()["message"]


def test_links_want_a_key(server: Console, user: httpx2.Client, task: str) -> None:
    """A cookie is not enough: no page could make one without the key."""
    for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Basic x"}):
        assert user.post("/console/links", json={"path": f"/console/tasks/{task}"}, headers=headers).status_code == 401
