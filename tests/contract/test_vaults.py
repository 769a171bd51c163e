"""Vaults and credentials through the strict official SDK: every endpoint, every parameter, every shape."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import pytest

from contract.world import World, unknown_fields
from credentials import BEARER, OAUTH, URL, VARIABLE, auth_of
from tokens import McpServer, TokenServer


def local_oauth(mcp: McpServer, tokens: TokenServer) -> dict[str, Any]:
    client = {"type": "client_secret_post", "client_secret": "s3cret-client"}
    refresh = {"client_id": "c", "refresh_token": "s3cret-refresh-0", "token_endpoint": f"{tokens.url}/token"}
    return auth_of("mcp_oauth", mcp_server_url=mcp.url, refresh={**refresh, "token_endpoint_auth": client})


def test_a_vault(either: World) -> None:
    vaults = either.beta.vaults
    made = vaults.create(display_name="Keys", metadata={"keep": "1", "drop": "2"})
    assert made.id.startswith("vlt_")
    assert (made.type, made.display_name, made.archived_at) == ("vault", "Keys", None)
    assert made.created_at.tzinfo is not None
    assert vaults.retrieve(made.id) == made
    changed = vaults.update(made.id, display_name="Other", metadata={"drop": None, "add": "3"})
    assert (changed.display_name, changed.metadata) == ("Other", {"keep": "1", "add": "3"})
    more = [vaults.create(display_name=str(number)).id for number in range(3)][::-1]
    assert [found.id for found in vaults.list(limit=2)][:4] == [*more, made.id]
    archived = vaults.archive(more[0])
    assert archived.archived_at is not None
    assert [found.id for found in vaults.list(limit=2)][:2] == more[1:]
    assert [found.id for found in vaults.list(limit=100, include_archived=True)][:3] == more
    deleted = vaults.delete(made.id)
    assert (deleted.type, deleted.id) == ("vault_deleted", made.id)
    with pytest.raises(anthropic.NotFoundError):
        vaults.retrieve(made.id)
    assert unknown_fields([made, changed, archived, deleted]) == []


@pytest.mark.parametrize("auth", [BEARER, OAUTH, VARIABLE], ids=lambda auth: str(auth["type"]))
def test_a_credential(either: World, auth: dict[str, Any]) -> None:
    vault_id = either.beta.vaults.create(display_name="v").id
    credentials = either.beta.vaults.credentials
    made = credentials.create(vault_id, auth=auth, display_name="C", metadata={"k": "v"})
    assert made.id.startswith("vcrd_")
    assert (made.type, made.vault_id, made.display_name, made.auth.type) == (
        "vault_credential", vault_id, "C", auth["type"],
    )  # fmt: skip
    assert "s3cret" not in made.to_json()
    assert credentials.retrieve(made.id, vault_id=vault_id) == made
    changed = credentials.update(made.id, vault_id=vault_id, display_name="D", metadata={"k": None})
    assert (changed.display_name, changed.metadata) == ("D", {})
    assert [found.id for found in credentials.list(vault_id, limit=1)] == [made.id]
    with pytest.raises(anthropic.ConflictError) as taken:
        credentials.create(vault_id, auth=auth)
    assert taken.value.type == "invalid_request_error"
    archived = credentials.archive(made.id, vault_id=vault_id)
    assert archived.archived_at is not None
    again = credentials.create(vault_id, auth=auth)
    assert "display_name" not in again.to_dict()
    assert [found.id for found in credentials.list(vault_id)] == [again.id]
    assert len(list(credentials.list(vault_id, include_archived=True, limit=1))) == 2
    deleted = credentials.delete(again.id, vault_id=vault_id)
    assert (deleted.type, deleted.id) == ("vault_credential_deleted", again.id)
    assert unknown_fields([made, changed, archived, again, deleted]) == []


def test_updates_of_each_type(either: World) -> None:
    vault_id = either.beta.vaults.create(display_name="v").id
    credentials = either.beta.vaults.credentials

    def changed(auth: dict[str, Any], **update: Any) -> Any:
        made = credentials.create(vault_id, auth=auth)
        shown = credentials.update(made.id, vault_id=vault_id, auth={"type": auth["type"], **update}).auth
        credentials.archive(made.id, vault_id=vault_id)
        assert unknown_fields(shown) == []
        return shown

    assert changed(BEARER, token="s3cret-2").mcp_server_url == URL
    moment = datetime.now(UTC) + timedelta(hours=1)
    client = {"type": "client_secret_basic", "client_secret": "s3cret-3"}
    refresh = {"refresh_token": "s3cret-4", "scope": "", "token_endpoint_auth": client}
    shown = changed(OAUTH, access_token="s3cret-5", expires_at=moment, refresh=refresh)
    assert shown.expires_at == moment
    assert (shown.refresh.scope, shown.refresh.resource) == (None, "https://mcp.example.com")
    assert shown.refresh.token_endpoint_auth.type == "client_secret_basic"
    update = {"secret_value": "s3cret-6", "networking": {"type": "unrestricted"}, "injection_location": {"body": False}}
    shown = changed(VARIABLE, **update)
    assert (shown.networking.type, shown.injection_location.header, shown.injection_location.body) == (
        "unrestricted", True, False,
    )  # fmt: skip
    made = credentials.create(vault_id, auth=BEARER)
    update = {"type": "static_bearer", "mcp_server_url": "https://other.example.com"}
    with pytest.raises(anthropic.BadRequestError, match="mcp_server_url"):
        credentials.update(made.id, vault_id=vault_id, auth=update)


def test_validation(either: World) -> None:
    vault_id = either.beta.vaults.create(display_name="v").id
    credentials = either.beta.vaults.credentials
    with McpServer() as mcp, TokenServer("s3cret-refresh-0") as tokens:
        made = credentials.create(vault_id, auth=local_oauth(mcp, tokens))

        def validated() -> Any:
            found = credentials.mcp_oauth_validate(made.id, vault_id=vault_id)
            assert (found.type, found.credential_id, found.vault_id) == (
                "vault_credential_validation", made.id, vault_id,
            )  # fmt: skip
            assert "s3cret" not in found.to_json()
            assert unknown_fields(found) == []
            return found

        refused = validated()
        assert (refused.status, refused.has_refresh_token, refused.refresh.status) == ("invalid", True, "succeeded")
        assert (refused.mcp_probe.method, refused.mcp_probe.http_response.status_code) == ("initialize", 401)
        mcp.good = ["s3cret-access-2"]
        accepted = validated()
        assert (accepted.status, accepted.mcp_probe, accepted.refresh.status) == ("valid", None, "succeeded")
        assert validated().refresh is None
        mcp.good, tokens.good = [], "used up"
        failed = validated()
        assert (failed.status, failed.refresh.status, failed.refresh.http_response.status_code) == (
            "invalid", "failed", 400,
        )  # fmt: skip


def test_vaults_of_a_session(either: World) -> None:
    one, two = (either.beta.vaults.create(display_name=name).id for name in "ab")
    session = either.beta.sessions.retrieve(either.session(vault_ids=[two, one]))
    assert session.vault_ids == [two, one]
    with pytest.raises(anthropic.BadRequestError, match="vault_ids"):
        either.beta.sessions.update(session.id, vault_ids=[one])
    either.beta.vaults.archive(one)
    with pytest.raises(anthropic.BadRequestError, match=r"vault_ids.*archived"):
        either.session(vault_ids=[one])
    assert either.beta.sessions.retrieve(session.id).vault_ids == [two, one]
    events = either.turn(session.id, "say: It still runs.")
    assert events[-1].stop_reason.type == "end_turn"
