"""The rules of a credential's `auth`: what a request makes of it, and what an update may change. It must not read or
write anything: it works on the request, and on what was stored, alone.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple, NoReturn

import msgspec

from hostler.errors import InvalidRequest
from hostler.vault import urls
from hostler.vault.records import Secrets, url_target, variable_target
from hostler.wire.base import UNSET, Unset, parse_timestamp, timestamp
from hostler.wire.environments import UnrestrictedNetwork
from hostler.wire.vaults import (
    Auth,
    AuthUpdate,
    BasicClientAuth,
    BasicClientAuthUpdate,
    ClientAuth,
    EnvironmentVariable,
    EnvironmentVariableParams,
    EnvironmentVariableUpdate,
    InjectionLocation,
    InjectionLocationParams,
    LimitedHosts,
    McpOauth,
    McpOauthParams,
    McpOauthUpdate,
    NoClientAuth,
    PostClientAuth,
    PostClientAuthUpdate,
    Refresh,
    RefreshParams,
    RefreshUpdate,
    StaticBearer,
    StaticBearerParams,
    StaticBearerUpdate,
)

ANEW = "archive the credential and create another one"
_HOST = re.compile(
    r"(?:\*\.)?(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_DIGITS = re.compile(r"[\d.]+")
_TOKEN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class Resolved(NamedTuple):
    """What is shown of an auth, what it is found by, and what is sealed."""

    auth: Auth
    target: str
    secrets: Secrets


def resolve(params: McpOauthParams | StaticBearerParams | EnvironmentVariableParams, now: int) -> Resolved:
    if isinstance(params, StaticBearerParams):
        target = url_target(_url(params.mcp_server_url, "auth.mcp_server_url"))
        auth = StaticBearer(mcp_server_url=params.mcp_server_url)
        return Resolved(auth, target, Secrets(token=_token(params.token, "auth.token")))
    if isinstance(params, EnvironmentVariableParams):
        return _variable(params)
    return _oauth(params, now)


def updated(auth: Auth, secrets: Secrets, params: AuthUpdate, now: int) -> tuple[Auth, Secrets]:
    """Apply an update to what is stored. Raises InvalidRequest for what can't be changed."""
    if isinstance(params, McpOauthUpdate) and isinstance(auth, McpOauth):
        return _updated_oauth(auth, secrets, params, now)
    if isinstance(params, StaticBearerUpdate) and isinstance(auth, StaticBearer):
        _same(params.mcp_server_url, auth.mcp_server_url, "auth.mcp_server_url")
        return auth, _with(secrets, token=params.token)
    if isinstance(params, EnvironmentVariableUpdate) and isinstance(auth, EnvironmentVariable):
        return _updated_variable(auth, secrets, params)
    raise InvalidRequest(f"auth.type: the type of a credential can't be changed; {ANEW}")


# -- mcp_oauth -----------------------------------------------------------------------------------------------------


def _oauth(params: McpOauthParams, now: int) -> Resolved:
    target = url_target(_url(params.mcp_server_url, "auth.mcp_server_url"))
    auth = McpOauth(mcp_server_url=params.mcp_server_url)
    secrets = Secrets(access_token=_token(params.access_token, "auth.access_token"))
    if params.expires_at is not None:
        auth.expires_at = _future(params.expires_at, now)
    if params.refresh is not None:
        auth.refresh, secrets = _refresh(params.refresh, secrets)
    return Resolved(auth, target, secrets)


def _refresh(params: RefreshParams, secrets: Secrets) -> tuple[Refresh, Secrets]:
    _url(params.token_endpoint, "auth.refresh.token_endpoint")
    client = params.token_endpoint_auth
    shown = Refresh(
        client_id=params.client_id,
        token_endpoint=params.token_endpoint,
        token_endpoint_auth=_client_auth(client),
        resource=params.resource or UNSET,
        scope=params.scope or UNSET,
    )
    secret = UNSET if isinstance(client, NoClientAuth) else client.client_secret
    return shown, _with(secrets, refresh_token=params.refresh_token, client_secret=secret)


def _updated_oauth(auth: McpOauth, secrets: Secrets, params: McpOauthUpdate, now: int) -> tuple[Auth, Secrets]:
    _same(params.mcp_server_url, auth.mcp_server_url, "auth.mcp_server_url")
    changed = msgspec.structs.replace(auth)
    if isinstance(params.access_token, str):
        secrets = _with(secrets, access_token=_token(params.access_token, "auth.access_token"))
    if isinstance(params.expires_at, str):
        changed.expires_at = _future(params.expires_at, now)
    if isinstance(params.refresh, RefreshUpdate):
        if isinstance(auth.refresh, Unset):
            raise InvalidRequest(f"auth.refresh: this credential was created without one; {ANEW}")
        changed.refresh, secrets = _updated_refresh(auth.refresh, secrets, params.refresh)
    return changed, secrets


def _updated_refresh(refresh: Refresh, secrets: Secrets, params: RefreshUpdate) -> tuple[Refresh, Secrets]:
    for name in ("client_id", "token_endpoint", "resource"):
        _same(getattr(params, name), getattr(refresh, name), f"auth.refresh.{name}")
    changed = msgspec.structs.replace(refresh)
    if isinstance(params.scope, str):
        changed.scope = params.scope or UNSET
    secrets = _with(secrets, refresh_token=params.refresh_token)
    client = params.token_endpoint_auth
    place = "auth.refresh.token_endpoint_auth.type"
    if isinstance(client, BasicClientAuthUpdate | PostClientAuthUpdate):
        if refresh.token_endpoint_auth.type == "none":
            raise InvalidRequest(f"{place}: this credential has none, which can't be changed; {ANEW}")
        # Which of the two is sent does not matter: the stored one stays.
        secrets = _with(secrets, client_secret=client.client_secret)
    elif isinstance(client, NoClientAuth) and refresh.token_endpoint_auth.type != "none":
        raise InvalidRequest(f"{place}: can't be changed; {ANEW}")
    return changed, secrets


# -- environment_variable ------------------------------------------------------------------------------------------


def _variable(params: EnvironmentVariableParams) -> Resolved:
    sent = params.injection_location
    location = InjectionLocation(header=True, body=True)
    if sent is not None:
        location = InjectionLocation(header=sent.header is True, body=sent.body is True)
    auth = EnvironmentVariable(
        secret_name=params.secret_name,
        networking=_networking(params.networking),
        injection_location=_some(location, "leave the field out to enable both"),
    )
    return Resolved(auth, variable_target(params.secret_name), Secrets(secret_value=params.secret_value))


def _updated_variable(
    auth: EnvironmentVariable, secrets: Secrets, params: EnvironmentVariableUpdate
) -> tuple[Auth, Secrets]:
    _same(params.secret_name, auth.secret_name, "auth.secret_name")
    changed = msgspec.structs.replace(auth)
    if isinstance(params.networking, UnrestrictedNetwork | LimitedHosts):
        changed.networking = _networking(params.networking)
    if isinstance(params.injection_location, InjectionLocationParams):
        sent, kept = params.injection_location, auth.injection_location
        location = InjectionLocation(
            header=sent.header if isinstance(sent.header, bool) else kept.header,
            body=sent.body if isinstance(sent.body, bool) else kept.body,
        )
        changed.injection_location = _some(location, "at least one must stay enabled")
    return changed, _with(secrets, secret_value=params.secret_value)


def _some(location: InjectionLocation, advice: str) -> InjectionLocation:
    if not (location.header or location.body):
        raise InvalidRequest(f"auth.injection_location: neither header nor body is enabled; {advice}")
    return location


def _networking(params: UnrestrictedNetwork | LimitedHosts) -> UnrestrictedNetwork | LimitedHosts:
    if isinstance(params, LimitedHosts):
        for index, host in enumerate(params.allowed_hosts):
            if not _is_host(host):
                raise InvalidRequest(
                    f"auth.networking.allowed_hosts.{index}: must be a hostname, an IPv4 address or *. and a hostname, "
                    "without scheme, port or path"
                )
    return params


def _is_host(host: str) -> bool:
    if len(host) > 253 or not _HOST.fullmatch(host):
        return False
    if not _DIGITS.fullmatch(host.removeprefix("*.")):
        return True
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


# -- what they share -----------------------------------------------------------------------------------------------


def _with(secrets: Secrets, **changed: str | Unset | None) -> Secrets:
    given = {name: value for name, value in changed.items() if isinstance(value, str)}
    return msgspec.structs.replace(secrets, **given)


def _same(sent: str | Unset | None, stored: str | Unset, place: str) -> None:
    if isinstance(sent, str) and sent != stored:
        raise InvalidRequest(f"{place}: can't be changed; {ANEW}")


def _token(token: str, place: str) -> str:
    """A token must fit into a header: else it could never be sent, and a pasted line break is the usual reason."""
    if not _TOKEN.fullmatch(token):
        raise InvalidRequest(f"{place}: must be printable ASCII, without line breaks or spaces around it")
    return token


def _url(url: str, place: str) -> str:
    try:
        return urls.check_secret_url(url)
    except ValueError as error:
        _refuse(place, error)


def _refuse(place: str, error: ValueError) -> NoReturn:
    raise InvalidRequest(f"{place}: {error}") from error


def _future(text: str, now: int) -> str:
    try:
        moment = parse_timestamp(text)
    except ValueError as error:
        raise InvalidRequest("auth.expires_at: Input should be a valid datetime") from error
    if moment <= now:
        raise InvalidRequest("auth.expires_at: must be in the future")
    return timestamp(moment)


def _client_auth(params: NoClientAuth | BasicClientAuth | PostClientAuth) -> ClientAuth:
    if isinstance(params, NoClientAuth):
        return ClientAuth(type="none")
    basic = isinstance(params, BasicClientAuth)
    return ClientAuth(type="client_secret_basic" if basic else "client_secret_post")
