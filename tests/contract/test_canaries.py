"""Secrets are planted wherever the API or the operator gives one, and used; then everything that the server keeps or
says is searched for them. None may be found.

To extend it: plant with a function of `PLANTERS`, which gives the secrets it planted, or put another place that may
leak into `canaries.everything`. A secret that others make, like the tokens of `TokenServer`, is found if it contains
`MARK`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("contract.canaries")

from contract.canaries import (  # noqa: E402
    MARK,
    ROUTE_KEY,
    SEARCH_KEY,
    House,
    Loud,
    Mind,
    SearchSite,
    config,
    finds,
    search_inside,
    spellings,
)
from contract.world import only, sync_world  # noqa: E402
from credentials import auth_of  # noqa: E402
from databases import Databases  # noqa: E402
from githost import GitHost  # noqa: E402
from hostler.ids import new_id  # noqa: E402
from hostler.skills import requirements  # noqa: E402
from hostler.vault.sealing import Key  # noqa: E402
from sandbox.wheels import serving, wheel  # noqa: E402
from tokens import McpServer, Said, TokenServer  # noqa: E402

GIT = "git -c user.name=a -c user.email=a@example.com"


# -- planting ------------------------------------------------------------------------------------------------------


def credentials_of_each_type(house: House) -> list[str]:
    post = house.post
    vault = house.vault()
    place = f"/v1/vaults/{vault}/credentials"
    secrets = [f"{MARK}-{name}-7Qz/+ &w" for name in ("bearer", "client", "value", "access", "refresh")]
    bearer, client, value, access, refresh = secrets
    client_auth = {"type": "client_secret_basic", "client_secret": client}
    settings = {"client_id": "c", "refresh_token": refresh, "token_endpoint": f"{house.tokens.url}/token"}
    house.tokens.good = refresh
    refreshing = {**settings, "token_endpoint_auth": client_auth}
    oauth = auth_of("mcp_oauth", mcp_server_url=house.mcp.url, access_token=access, refresh=refreshing)
    made = post(place, {"auth": oauth})["id"]
    post(place, {"auth": auth_of("static_bearer", token=bearer)})
    post(place, {"auth": auth_of("environment_variable", secret_value=value)})
    # Refreshed: the new tokens are secrets too. Then refused, by servers that repeat what they were sent.
    house.mcp.good = [f"{MARK}-access-1"]
    assert post(f"{place}/{made}/mcp_oauth_validate")["status"] == "valid"
    house.mcp.good = []
    house.tokens.script = [Said(400, {"error": "invalid_grant", "error_description": f"what about {MARK}-refresh-1"})]
    assert post(f"{place}/{made}/mcp_oauth_validate")["refresh"]["status"] == "failed"
    planted_in(house, vault)
    return secrets


def credentials_that_are_refused(house: House) -> list[str]:
    """What is wrong with a request must be said without repeating it."""
    post = house.post
    vault = house.vault()
    place = f"/v1/vaults/{vault}/credentials"
    secret = f"{MARK}-refused"
    wrong = [
        auth_of("static_bearer", token=f"{secret}\n"),
        auth_of("static_bearer", token={"token": secret}),
        auth_of("static_bearer", token=secret * 2000),
        auth_of("mcp_oauth", access_token=[secret]),
        auth_of("mcp_oauth", refresh=secret),
        auth_of("environment_variable", secret_value=secret, injection_location={}),
        auth_of("environment_variable", secret_value=secret, networking=secret),
        secret,
    ]
    for auth in wrong:
        assert "error" in post(place, {"auth": auth}, status=400)
    post(place, {"auth": auth_of("static_bearer", token=secret)})
    post(place, {"auth": auth_of("static_bearer", token=secret)}, status=409)
    planted_in(house, vault)
    return [secret]


def credentials_that_were_changed(house: House) -> list[str]:
    """Secrets that were replaced, purged or deleted are gone, not merely forgotten."""
    post = house.post
    vault = house.vault()
    place = f"/v1/vaults/{vault}/credentials"
    secrets = [f"{MARK}-{name}" for name in ("before", "after", "archived")]
    one = post(place, {"auth": auth_of("static_bearer", token=secrets[0])})["id"]
    post(f"{place}/{one}", {"auth": {"type": "static_bearer", "token": secrets[1]}})
    two = post(place, {"auth": auth_of("environment_variable", secret_value=secrets[2])})["id"]
    post(f"{place}/{two}/archive")
    planted_in(house, vault)
    return secrets


def tokens_of_mcp_servers(house: House) -> list[str]:
    """One that is refreshed in the middle of a session, and then can't be any more."""
    secrets = [f"{MARK}-mcp-{name}" for name in ("access", "refresh", "client")]
    access, refresh, client = secrets
    house.tokens.good, house.mcp.good = refresh, [access]
    house.mcp.tools = [{"name": "add", "inputSchema": {"type": "object"}}]
    client_auth = {"type": "client_secret_post", "client_secret": client}
    settings = {"client_id": "c", "refresh_token": refresh, "token_endpoint": f"{house.tokens.url}/token"}
    refreshing = {**settings, "token_endpoint_auth": client_auth}
    vault = house.vault(auth_of("mcp_oauth", mcp_server_url=house.mcp.url, access_token=access, refresh=refreshing))
    session = house.session(*with_mcp(), vault_ids=[vault], agent={"mcp_servers": servers(house.mcp.url)})
    assert answered(house, session) == "3"
    house.mcp.good = [f"{MARK}-access-{len(house.tokens.given) + 1}"]
    assert answered(house, session) == "3"
    assert house.mcp.good == house.tokens.given[-1:]
    house.mcp.good = []
    said = {"error": "invalid_grant", "error_description": f"what about {house.tokens.good}"}
    house.tokens.script = [Said(400, said)] * 9
    house.turn(session, "call mcp__local__add {}")
    assert "mcp_authentication_failed_error" in errors(house, session)
    house.tokens.script = []
    return secrets


def bearers_of_mcp_servers(house: House) -> list[str]:
    """One that is good, one that the server refuses and repeats, and one for a server that is not there."""
    secrets = [f"{MARK}-good-bearer", f"{MARK}-bad-bearer", f"{MARK}-lost-bearer"]
    house.mcp.good = secrets[:1]
    house.mcp.tools = [{"name": "add", "inputSchema": {"type": "object"}}]
    nobody = "http://127.0.0.1:9/mcp"
    for token, url, wanted in zip(secrets, (house.mcp.url, house.mcp.url, nobody), ("3", "", ""), strict=True):
        vault = house.vault(auth_of("static_bearer", mcp_server_url=url, token=token))
        session = house.session(*with_mcp(), vault_ids=[vault], agent={"mcp_servers": servers(url)})
        if wanted:
            assert answered(house, session) == wanted
            house.mcp.errors = {"tools/call"}
            assert "not good" in answered(house, session)
            house.mcp.errors = {"server/discover", "initialize"}
            house.restart()
            house.turn(session, "hello")
            assert errors(house, session) == ["mcp_connection_failed_error"]
            house.mcp.errors = set()
        else:
            house.turn(session, "call mcp__local__add {}")
            assert errors(house, session)
    return secrets


def tokens_of_repositories(house: House) -> list[str]:
    """A clone, a fetch and a push with a token, another one after it was rotated, one that is wrong, and a clone that
    fails."""
    secrets = [f"{MARK}-git-{name}" for name in ("first", "second", "wrong", "broken")]
    first, second, wrong, broken = secrets
    good = house.git.repository("o/good", tokens={first})
    good.commit({"a.txt": b"one\n"})
    house.git.repository("o/wrong", tokens={f"{MARK}-git-right"})
    house.git.repository("o/broken", tokens={broken}).status = 500
    resources = [
        {"type": "github_repository", "url": house.git.url(name), "authorization_token": token, "mount_path": path}
        for name, token, path in (
            ("o/good", first, "good"),
            ("o/wrong", wrong, "wrong"),
            ("o/broken", broken, "broken"),
        )
    ]
    session = house.session(resources=resources)
    house.git.hold = threading.Event()
    push = (
        f"cd good && {GIT} commit -q --allow-empty -m x && git push -q origin HEAD:made && git fetch && cat .git/config"
    )
    house.turn_held(session, f"run: {push}", house.git.holding, house.git.hold)
    house.git.hold = None
    assert good.tip("made")
    assert sorted(errors(house, session)) == ["repository_authentication_error", "repository_clone_error"]
    good.tokens = {second}
    traced = "cd good && GIT_TRACE=1 GIT_TRACE_CURL=1 GIT_TRACE_CURL_NO_DATA=0 git fetch 2>&1; git remote -v"
    house.turn(session, f"run: {traced}")
    (resource, *_) = house.world.http.get(f"/v1/sessions/{session}/resources").json()["data"]
    house.post(f"/v1/sessions/{session}/resources/{resource['id']}", {"authorization_token": second})
    good.commit({"a.txt": b"two\n"})
    house.turn(session, f"run: {traced} && git push origin HEAD:again 2>&1")
    assert good.tip("again")
    return secrets


def keys_of_search_and_web(house: House) -> list[str]:
    """The provider takes its key, then refuses it; pages are fetched through a proxy that wants a password."""
    session = house.session()
    call = 'call web_search {"query": "canaries"}'
    assert "Found" in str(only(house.turn(session, call), "agent.tool_result"))
    house.site.refuses = True
    assert "401" in str(only(house.turn(session, call), "agent.tool_result"))
    assert house.site.asked[0].headers["x-subscription-token"] == house.environ[SEARCH_KEY]
    house.turn(session, 'call web_fetch {"url": "http://example.com/"} which is http://example.com/')
    house.turn(session, "run: curl -sv http://example.com/ 2>&1; curl -sv https://example.com/ 2>&1")
    return [house.environ[SEARCH_KEY], f"{MARK}-web-proxy", f"{MARK}-proxy"]


def keys_of_models(house: House) -> list[str]:
    """One that is good, and those that the vendor refuses and repeats, or that never reach it."""
    for model in ("refused-model", "refused-too-model", "unreachable-model"):
        session = house.session(agent={"model": model})
        house.turn(session, "hello")
        assert errors(house, session), model
    asked = [asked for asked in house.mind.asked if asked.path.startswith("/refused")]
    assert {asked.headers["x-more"] for asked in asked} == {f"{MARK}-header"}
    assert len({asked.path for asked in asked}) == 2
    return [house.environ["HOSTLER_MODEL_API_KEY"], house.environ[ROUTE_KEY], f"{MARK}-written", f"{MARK}-address"]


def keys_of_this_server(house: House) -> list[str]:
    """Clients that come with a wrong key, in all the ways to bring one."""
    wrong = f"{MARK}-wrong-key"
    for headers in ({"authorization": f"Bearer {wrong}"}, {"x-api-key": wrong}, {"authorization": wrong}):
        without = {**house.server.headers, "authorization": "", **headers}
        assert house.world.http.get("/v1/agents", headers=without).status_code == 401
    return [house.server.key, wrong]


def passwords_of_package_indexes(house: House) -> list[str]:
    """Of two skills, the packages of one are there."""
    for line in requirements.of("docx"):
        name, _, version = line.partition("==")
        wheel(house.index.folder, name.replace("-", "_"), version)
    for skill, there in (("docx", True), ("pdf", False)):
        house.index.reached.clear()
        house.index.held = threading.Event()
        session = house.session(agent={"skills": [{"type": "anthropic", "skill_id": skill}]})
        house.turn_held(session, "run: echo $PYTHONPATH; pip config list", house.index.reached, house.index.held)
        assert bool(errors(house, session)) != there
    return ["reader:s3cret-pass"]


PLANTERS: list[Callable[[House], list[str]]] = [
    credentials_of_each_type,
    credentials_that_are_refused,
    credentials_that_were_changed,
    tokens_of_mcp_servers,
    bearers_of_mcp_servers,
    tokens_of_repositories,
    keys_of_search_and_web,
    keys_of_models,
    keys_of_this_server,
    passwords_of_package_indexes,
]


def planted_in(house: House, vault: str) -> None:
    """A session is given the vault; what it finds is looked for at the end."""
    house.session(vault_ids=[vault])


def with_mcp() -> list[dict[str, Any]]:
    policy = {"permission_policy": {"type": "always_allow"}}
    return [{"type": "mcp_toolset", "mcp_server_name": "local", "default_config": policy}]


def servers(url: str) -> list[dict[str, Any]]:
    return [{"type": "url", "name": "local", "url": url}]


def answered(house: House, session: str) -> str:
    """What a call of the MCP server's tool gives."""
    (result,) = only(house.turn(session, "call mcp__local__add {}"), "agent.mcp_tool_result")
    return str(result["content"][0]["text"])


def errors(house: House, session: str) -> list[str]:
    return [event["error"]["type"] for event in only(house.world.raw(session, limit=1000), "session.error")]


# -- the test ------------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path, databases: Databases, key: Key) -> Iterator[House]:
    (tmp_path / "wheels").mkdir()
    with (
        Mind() as mind,
        TokenServer("") as tokens,
        McpServer() as mcp,
        SearchSite() as site,
        GitHost(tmp_path / "git") as git,
        serving(tmp_path / "wheels") as index,
    ):
        environ = {**operators(mind, index.url), "HOSTLER_SECRET_KEY": key.text}
        server = Loud(
            tmp_path / "data",
            config=config(mind, git, site),
            database=databases.url(new_id("t").lower()),
            key=f"sk-hostler-{MARK}-own-key",
            environ=environ,
        )
        with server, sync_world(server) as world:
            house = House(server, world, mind, mcp, tokens, git, site, index, environ, [], [])
            world.http.event_hooks["response"].append(house.keep)
            yield house


def operators(mind: Mind, index_url: str) -> dict[str, str]:
    """What an operator has in the environment."""
    proxy = f"http://someone:{MARK}-proxy@127.0.0.1:9"
    pip = {"PIP_INDEX_URL": index_url, "PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "0"}
    return {
        "HOSTLER_MODEL_API_KEY": f"{MARK}-model-key",
        "HOSTLER_MODEL_BASE_URL": mind.url,
        ROUTE_KEY: f"{MARK}-route-key",
        SEARCH_KEY: f"{MARK}-search-key",
        **pip,
        **dict.fromkeys(("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"), ""),
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
    }


@pytest.fixture
def key() -> Key:
    return Key.new()


def test_no_secret_is_found_anywhere(house: House, key: Key) -> None:
    secrets = [key.text]
    for planter in PLANTERS:
        secrets += planter(house)
    for session in house.sessions:
        if not house.world.beta.sessions.retrieve(session).agent.model.id.startswith("claude"):
            continue  # one that has no model to tell
        command = f"{search_inside(secrets)} | tee /mnt/session/outputs/found.txt"
        (result,) = only(house.turn(session, f"run: {{ {command}; }}"), "agent.tool_result")
        assert "done" in result["content"][0]["text"], "the search in the sandbox did run"
        assert "LEAK" not in result["content"][0]["text"]
    house.look_around()
    assert finds(house, secrets) == [], "while the server runs"
    for vault in house.world.http.get("/v1/vaults").json()["data"][::2]:
        house.post(f"/v1/vaults/{vault['id']}/archive")
    house.server.kill()
    assert finds(house, secrets) == [], "after it was killed"
    house.server.start()
    house.server.stop()
    assert finds(house, secrets) == [], "after it ended in order"


def test_the_search_finds_what_is_there(house: House) -> None:
    """Or the test above would prove nothing."""
    hidden = f"{MARK}-hidden"
    for number, spelling in enumerate(sorted(spellings(hidden))):
        (house.server.data_dir / f"leak-{number}").write_bytes(b"..." + spelling + b"...")
    name = house.world.beta.vaults.create(display_name=f"{MARK}-shown").display_name
    places = {find.partition(":")[0] for find in finds(house, [hidden])}
    assert {f"leak-{number}" for number in range(len(spellings(hidden)))} <= places
    house.world.http.get("/v1/vaults")
    kinds = {find.partition(":")[0].split(" ")[0] for find in finds(house, [hidden])}
    assert "answer" in kinds
    assert kinds & {"hostler.db", "hostler.db-wal", "vaults"}
    assert name
