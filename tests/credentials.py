"""Credentials of each type as requests make them. Their secrets all begin with `s3cret`."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
URL = "https://mcp.example.com/mcp"
LATER = "2099-01-02T03:04:05Z"
BEARER = {"type": "static_bearer", "token": "s3cret-bearer", "mcp_server_url": URL}
REFRESH = {
    "client_id": "client",
    "refresh_token": "s3cret-refresh",
    "token_endpoint": "https://auth.example.com/token",
    "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "s3cret-client"},
    "scope": "a b",
    "resource": "https://mcp.example.com",
}
OAUTH = {
    "type": "mcp_oauth",
    "access_token": "s3cret-access",
    "mcp_server_url": URL,
    "expires_at": LATER,
    "refresh": REFRESH,
}
VARIABLE = {
    "type": "environment_variable",
    "secret_name": "API_KEY",
    "secret_value": "s3cret-value",
    "networking": {"type": "limited", "allowed_hosts": ["api.example.com", "*.example.org", "192.0.2.1"]},
}


def auth_of(kind: str, **changed: Any) -> Json:
    base: Json = {"static_bearer": BEARER, "mcp_oauth": OAUTH, "environment_variable": VARIABLE}[kind]
    return {name: value for name, value in {**base, **changed}.items() if value is not ...}
