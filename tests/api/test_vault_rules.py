"""What requests for credentials are refused, and that the refusal says where, tells no secret and changes nothing."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from credentials import BEARER, LATER, OAUTH, REFRESH, VARIABLE, Json, auth_of
from serving import ok, refused

NO_HOSTS = ("https://a.b", "a.b:80", "a.b/c", "::1", "*", "a.*.b", "999.1.1.1", "1.2.3", "a..b", "-", "", "*.1", "b\n")


@pytest.fixture
def place(http: httpx2.Client) -> str:
    return f"/v1/vaults/{ok(http.post('/v1/vaults', json={'display_name': 'v'}))['id']}/credentials"


def wrong(kind: str, place: str, **changed: Any) -> Any:
    return pytest.param({"auth": auth_of(kind, **changed)}, f"auth.{place}", id=f"{kind}-{place}")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "auth"),
        ({"auth": {}}, "auth"),
        ({"auth": {"type": "basic"}}, "auth"),
        ({"auth": BEARER, "display_name": "x" * 256}, "display_name"),
        ({"auth": BEARER, "metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"auth": BEARER, "nope": 1}, "nope"),
        wrong("static_bearer", "token", token=...),
        wrong("static_bearer", "token", token=""),
        wrong("static_bearer", "token", token="ends\n"),
        wrong("static_bearer", "token", token=" begins"),
        wrong("static_bearer", "token", token="schlüssel"),
        wrong("static_bearer", "token", token="x" * 16_385),
        wrong("static_bearer", "mcp_server_url", mcp_server_url="mcp.example.com"),
        wrong("static_bearer", "mcp_server_url", mcp_server_url="ftp://mcp.example.com"),
        wrong("static_bearer", "mcp_server_url", mcp_server_url="http://mcp.example.com"),
        wrong("static_bearer", "mcp_server_url", mcp_server_url="https://u:p@mcp.example.com"),
        wrong("static_bearer", "mcp_server_url", mcp_server_url="https://:443"),
        wrong("static_bearer", "mcp_server_url", mcp_server_url="https://x:port"),
        wrong("static_bearer", "mcp_server_url", mcp_server_url="https://[::1"),
        wrong("static_bearer", "mcp_server_url", mcp_server_url="https://a b"),
        wrong("static_bearer", "expires_at", expires_at=LATER),
        wrong("mcp_oauth", "access_token", access_token=None),
        wrong("mcp_oauth", "expires_at", expires_at="soon"),
        wrong("mcp_oauth", "expires_at", expires_at="2020-01-01T00:00:00Z"),
        wrong("mcp_oauth", "refresh.client_id", refresh={**REFRESH, "client_id": ""}),
        wrong("mcp_oauth", "refresh.refresh_token", refresh={**REFRESH, "refresh_token": None}),
        wrong("mcp_oauth", "refresh.token_endpoint", refresh={**REFRESH, "token_endpoint": "http://auth.example.com"}),
        wrong("mcp_oauth", "refresh.token_endpoint", refresh={**REFRESH, "token_endpoint": "http://169.254.169.254/"}),
        wrong("mcp_oauth", "refresh.token_endpoint_auth", refresh={**REFRESH, "token_endpoint_auth": {"type": "x"}}),
        wrong("mcp_oauth", "refresh.token_endpoint_auth.client_secret",
              refresh={**REFRESH, "token_endpoint_auth": {"type": "client_secret_post"}}),
        wrong("environment_variable", "secret_name", secret_name="1A"),
        wrong("environment_variable", "secret_name", secret_name="A-B"),
        wrong("environment_variable", "secret_name", secret_name="A\n"),
        wrong("environment_variable", "secret_value", secret_value=""),
        wrong("environment_variable", "networking", networking=...),
        wrong("environment_variable", "networking", networking=None),
        wrong("environment_variable", "networking.allowed_hosts", networking={"type": "limited"}),
        *[wrong("environment_variable", "networking.allowed_hosts.0",
                networking={"type": "limited", "allowed_hosts": [host]}) for host in NO_HOSTS],
        wrong("environment_variable", "networking.allowed_hosts",
              networking={"type": "limited", "allowed_hosts": ["a.b"] * 17}),
        wrong("environment_variable", "injection_location", injection_location={}),
        wrong("environment_variable", "injection_location", injection_location={"header": False, "body": False}),
    ],
)  # fmt: skip
def test_what_is_refused_and_where(http: httpx2.Client, place: str, body: Json, where: str) -> None:
    said = refused(http.post(place, json=body))
    assert said.startswith(where) or where in said.split(":")[0], said
    assert "s3cret" not in said
    assert ok(http.get(place, params={"include_archived": "true"}))["data"] == []


@pytest.mark.parametrize(
    ("made", "update", "where"),
    [
        (BEARER, {"type": "static_bearer", "mcp_server_url": "https://other.example.com"}, "auth.mcp_server_url"),
        (BEARER, {"type": "mcp_oauth"}, "auth.type"),
        (BEARER, {"token": "x"}, "auth"),
        (OAUTH, {"type": "mcp_oauth", "mcp_server_url": "https://other.example.com"}, "auth.mcp_server_url"),
        (OAUTH, {"type": "mcp_oauth", "access_token": "a\nb"}, "auth.access_token"),
        (OAUTH, {"type": "mcp_oauth", "expires_at": "2020-01-01T00:00:00Z"}, "auth.expires_at"),
        (OAUTH, {"type": "mcp_oauth", "refresh": {"client_id": "other"}}, "auth.refresh.client_id"),
        (OAUTH, {"type": "mcp_oauth", "refresh": {"token_endpoint": "https://x.y"}}, "auth.refresh.token_endpoint"),
        (OAUTH, {"type": "mcp_oauth", "refresh": {"resource": "https://x.y"}}, "auth.refresh.resource"),
        (OAUTH, {"type": "mcp_oauth", "refresh": {"token_endpoint_auth": {"type": "none"}}},
         "auth.refresh.token_endpoint_auth"),
        (auth_of("mcp_oauth", refresh=None), {"type": "mcp_oauth", "refresh": {"scope": "a"}}, "auth.refresh"),
        (auth_of("mcp_oauth", refresh={**REFRESH, "token_endpoint_auth": {"type": "none"}}),
         {"type": "mcp_oauth", "refresh": {"token_endpoint_auth": {"type": "client_secret_post"}}},
         "auth.refresh.token_endpoint_auth"),
        (VARIABLE, {"type": "environment_variable", "secret_name": "OTHER"}, "auth.secret_name"),
        (VARIABLE, {"type": "environment_variable", "networking": {"type": "limited", "allowed_hosts": ["a:1"]}},
         "auth.networking"),
    ],
)  # fmt: skip
def test_what_can_not_be_changed(http: httpx2.Client, place: str, made: Json, update: Json, where: str) -> None:
    credential = ok(http.post(place, json={"auth": made}))
    one = f"{place}/{credential['id']}"
    said = refused(http.post(one, json={"auth": update, "display_name": "new"}))
    assert said.startswith(where), said
    assert ok(http.get(one)) == credential, "all or nothing"
    assert "display_name" in refused(http.post(one, json={"display_name": ""}))
