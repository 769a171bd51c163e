"""Vaults and their credentials: requests and objects. It must not hold rules; secrets come in, and never go out.

Requests that carry secrets don't show them when they are printed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hostler.wire.base import UNSET, Metadata, MetadataPatch, Params, Unset, Wire, matching
from hostler.wire.environments import UnrestrictedNetwork

MAX_HOSTS = 16
DisplayName = Annotated[str, Meta(min_length=1, max_length=255)]
Token = Annotated[str, Meta(min_length=1, max_length=16_384)]  # it must fit into a header
SecretValue = Annotated[str, Meta(min_length=1, max_length=65_536)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
ShortText = Annotated[str, Meta(max_length=2048)]
ClientId = Annotated[str, Meta(min_length=1, max_length=2048)]
VariableName = Annotated[
    str,
    matching(
        r"^[A-Za-z_][A-Za-z0-9_]*\Z", "must have only letters, digits and _, and not begin with a digit", max_length=255
    ),
]


class Sensitive(Params, kw_only=True):
    """A request with secrets in it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


# -- vaults --------------------------------------------------------------------------------------------------------


class VaultCreate(Params, kw_only=True):
    display_name: DisplayName
    metadata: Metadata | None = None


class VaultUpdate(Params, kw_only=True):
    display_name: DisplayName | Unset | None = UNSET
    metadata: MetadataPatch | Unset | None = UNSET


class Vault(Wire, tag="vault", tag_field="type", kw_only=True):
    id: str
    display_name: str
    metadata: dict[str, str]
    created_at: str
    updated_at: str
    archived_at: str | None = None


class VaultDeleted(Wire, tag="vault_deleted", tag_field="type", kw_only=True):
    id: str


# -- credentials, as requests --------------------------------------------------------------------------------------


class NoClientAuth(Params, tag="none", tag_field="type", kw_only=True):
    """A public client: it names itself and proves nothing."""


class BasicClientAuth(Sensitive, tag="client_secret_basic", tag_field="type", kw_only=True):
    client_secret: Token


class PostClientAuth(Sensitive, tag="client_secret_post", tag_field="type", kw_only=True):
    client_secret: Token


class RefreshParams(Sensitive, kw_only=True):
    client_id: ClientId
    refresh_token: Token
    token_endpoint: Url
    token_endpoint_auth: NoClientAuth | BasicClientAuth | PostClientAuth
    resource: ShortText | None = None
    scope: ShortText | None = None


class McpOauthParams(Sensitive, tag="mcp_oauth", tag_field="type", kw_only=True):
    access_token: Token
    mcp_server_url: Url
    expires_at: str | None = None
    refresh: RefreshParams | None = None


class StaticBearerParams(Sensitive, tag="static_bearer", tag_field="type", kw_only=True):
    token: Token
    mcp_server_url: Url


class LimitedHosts(Params, tag="limited", tag_field="type", kw_only=True):
    allowed_hosts: Annotated[list[str], Meta(max_length=MAX_HOSTS)]


class InjectionLocationParams(Params, kw_only=True):
    """On create a location that is left out is off; on update it stays as it is."""

    header: bool | Unset | None = UNSET
    body: bool | Unset | None = UNSET


class EnvironmentVariableParams(Sensitive, tag="environment_variable", tag_field="type", kw_only=True):
    secret_name: VariableName
    secret_value: SecretValue
    networking: UnrestrictedNetwork | LimitedHosts
    injection_location: InjectionLocationParams | None = None


class CredentialCreate(Params, kw_only=True):
    auth: McpOauthParams | StaticBearerParams | EnvironmentVariableParams
    display_name: Annotated[str, Meta(max_length=255)] | None = None
    metadata: Metadata | None = None


# What can't be changed is named here all the same: it is refused with a word on what to do instead.


class BasicClientAuthUpdate(Sensitive, tag="client_secret_basic", tag_field="type", kw_only=True):
    client_secret: Token | Unset | None = UNSET


class PostClientAuthUpdate(Sensitive, tag="client_secret_post", tag_field="type", kw_only=True):
    client_secret: Token | Unset | None = UNSET


class RefreshUpdate(Sensitive, kw_only=True):
    refresh_token: Token | Unset | None = UNSET
    scope: ShortText | Unset | None = UNSET
    token_endpoint_auth: NoClientAuth | BasicClientAuthUpdate | PostClientAuthUpdate | Unset | None = UNSET
    client_id: str | Unset | None = UNSET
    token_endpoint: str | Unset | None = UNSET
    resource: str | Unset | None = UNSET


class McpOauthUpdate(Sensitive, tag="mcp_oauth", tag_field="type", kw_only=True):
    access_token: Token | Unset | None = UNSET
    expires_at: str | Unset | None = UNSET
    refresh: RefreshUpdate | Unset | None = UNSET
    mcp_server_url: str | Unset | None = UNSET


class StaticBearerUpdate(Sensitive, tag="static_bearer", tag_field="type", kw_only=True):
    token: Token | Unset | None = UNSET
    mcp_server_url: str | Unset | None = UNSET


class EnvironmentVariableUpdate(Sensitive, tag="environment_variable", tag_field="type", kw_only=True):
    secret_value: SecretValue | Unset | None = UNSET
    networking: UnrestrictedNetwork | LimitedHosts | Unset | None = UNSET
    injection_location: InjectionLocationParams | Unset | None = UNSET
    secret_name: str | Unset | None = UNSET


AuthUpdate = McpOauthUpdate | StaticBearerUpdate | EnvironmentVariableUpdate


class CredentialUpdate(Params, kw_only=True):
    auth: AuthUpdate | Unset | None = UNSET
    display_name: DisplayName | Unset | None = UNSET
    metadata: MetadataPatch | Unset | None = UNSET


# -- credentials, as objects ---------------------------------------------------------------------------------------


class ClientAuth(Wire, kw_only=True):
    type: Literal["none", "client_secret_basic", "client_secret_post"]


class Refresh(Wire, kw_only=True):
    client_id: str
    token_endpoint: str
    token_endpoint_auth: ClientAuth
    resource: str | Unset = UNSET
    scope: str | Unset = UNSET


class McpOauth(Wire, tag="mcp_oauth", tag_field="type", kw_only=True):
    """`expires_at` is absent when the expiry isn't known, `refresh` when the token can't be refreshed."""

    mcp_server_url: str
    expires_at: str | Unset = UNSET
    refresh: Refresh | Unset = UNSET


class StaticBearer(Wire, tag="static_bearer", tag_field="type", kw_only=True):
    mcp_server_url: str


class InjectionLocation(Wire, kw_only=True):
    header: bool
    body: bool


class EnvironmentVariable(Wire, tag="environment_variable", tag_field="type", kw_only=True):
    secret_name: str
    networking: UnrestrictedNetwork | LimitedHosts
    injection_location: InjectionLocation


Auth = McpOauth | StaticBearer | EnvironmentVariable


class Credential(Wire, tag="vault_credential", tag_field="type", kw_only=True):
    id: str
    vault_id: str
    display_name: str | Unset = UNSET
    auth: Auth
    metadata: dict[str, str]
    created_at: str
    updated_at: str
    archived_at: str | None = None


class CredentialDeleted(Wire, tag="vault_credential_deleted", tag_field="type", kw_only=True):
    id: str


# -- the outcome of mcp_oauth_validate -----------------------------------------------------------------------------


class CapturedResponse(Wire, kw_only=True):
    """What a server answered: cut short, and with secrets taken out."""

    status_code: int
    content_type: str
    body: str
    body_truncated: bool


class McpProbe(Wire, kw_only=True):
    """The step that failed; `http_response` is null when no answer came."""

    method: Literal["initialize", "tools/list"]
    http_response: CapturedResponse | None = None


class RefreshOutcome(Wire, kw_only=True):
    """`http_response` comes with `failed` only."""

    status: Literal["succeeded", "failed", "connect_error", "no_refresh_token"]
    http_response: CapturedResponse | None = None


class CredentialValidation(Wire, tag="vault_credential_validation", tag_field="type", kw_only=True):
    credential_id: str
    vault_id: str
    status: Literal["valid", "invalid", "unknown"]
    has_refresh_token: bool
    mcp_probe: McpProbe | None = None
    refresh: RefreshOutcome | None = None
    validated_at: str
