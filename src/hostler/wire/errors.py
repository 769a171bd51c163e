"""Errors on the wire: the envelope of a failed request, and the error of a `session.error` event."""

from __future__ import annotations

from typing import Any, Literal

from hostler.wire.base import UNSET, Unset, Wire

# Begins the message of a `session.error` about a file that an agent delivered in vain, in each turn that leaves it so.
NOT_COLLECTED = "Not collected from /mnt/session/outputs: "


class ErrorBody(Wire, kw_only=True):
    type: str
    message: str
    details: dict[str, Any] | Unset = UNSET


class Envelope(Wire, tag="error", tag_field="type", kw_only=True):
    error: ErrorBody
    request_id: str


class Retry(Wire, kw_only=True):
    """`retrying`: the server goes on; `exhausted`: this turn is dead; `terminal`: the session is."""

    type: Literal["retrying", "exhausted", "terminal"]


class _SessionError(Wire, tag_field="type", kw_only=True):
    message: str
    retry_status: Retry


class UnknownError(_SessionError, tag="unknown_error", kw_only=True):
    pass


class ModelOverloaded(_SessionError, tag="model_overloaded_error", kw_only=True):
    pass


class ModelRateLimited(_SessionError, tag="model_rate_limited_error", kw_only=True):
    pass


class ModelRequestFailed(_SessionError, tag="model_request_failed_error", kw_only=True):
    pass


class McpConnectionFailed(_SessionError, tag="mcp_connection_failed_error", kw_only=True):
    mcp_server_name: str


class McpAuthenticationFailed(_SessionError, tag="mcp_authentication_failed_error", kw_only=True):
    mcp_server_name: str


class BillingError(_SessionError, tag="billing_error", kw_only=True):
    pass


class CredentialHostUnreachable(_SessionError, tag="credential_host_unreachable_error", kw_only=True):
    credential_id: str
    vault_id: str


class ToolUseLimitReached(_SessionError, tag="tool_use_limit_reached_error", kw_only=True):
    pass


class CompactionLimitReached(_SessionError, tag="compaction_limit_reached_error", kw_only=True):
    pass


class RepositoryAuthentication(_SessionError, tag="repository_authentication_error", kw_only=True):
    repository_url: str | None = None


class RepositoryForbidden(_SessionError, tag="repository_forbidden_error", kw_only=True):
    repository_url: str | None = None


class RepositoryNotFound(_SessionError, tag="repository_not_found_error", kw_only=True):
    repository_url: str | None = None


class RepositoryCheckout(_SessionError, tag="repository_checkout_error", kw_only=True):
    repository_url: str | None = None


class RepositoryClone(_SessionError, tag="repository_clone_error", kw_only=True):
    repository_url: str | None = None


SessionErrorObject = (
    UnknownError
    | ModelOverloaded
    | ModelRateLimited
    | ModelRequestFailed
    | McpConnectionFailed
    | McpAuthenticationFailed
    | BillingError
    | CredentialHostUnreachable
    | ToolUseLimitReached
    | CompactionLimitReached
    | RepositoryAuthentication
    | RepositoryForbidden
    | RepositoryNotFound
    | RepositoryCheckout
    | RepositoryClone
)
