"""The refresh-token exchange of OAuth 2 with a token endpoint. It must not know where tokens are kept.

Everything that goes wrong is one exception that says whether trying again can help.
"""

from __future__ import annotations

import asyncio
import base64
import re
from urllib.parse import quote_plus, urlencode

import msgspec

from hostler.vault.outward import Answer, Outward, Unreachable

ATTEMPTS = 3
ATTEMPT_SECONDS = 8.0
PAUSES = (0.5, 1.5)
MOST_LIFETIME = 10 * 365 * 86_400.0
# With these a refresh can only work again once somebody has changed the credential.
FINAL = frozenset({
    "invalid_grant", "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
    "invalid_target", "bad_refresh_token", "incorrect_client_credentials",
})  # fmt: skip
_SENDABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a refresh needs: where, who, and with what."""

    token_endpoint: str
    client_id: str
    client_auth: str  # none, client_secret_basic, client_secret_post
    client_secret: str
    refresh_token: str
    scope: str | None
    resource: str | None

    def __repr__(self) -> str:
        return f"Grant({self.token_endpoint!r})"


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. No refresh token means that the one sent stays good; `expires_in` is seconds, if it was said."""

    access_token: str
    refresh_token: str | None
    expires_in: float | None

    def __repr__(self) -> str:
        return "Tokens(...)"


class NotRefreshed(Exception):
    """No new token. `final` names the OAuth error after which trying again is useless; `answer` is what the endpoint
    said, None when it could not be reached."""

    def __init__(self, reason: str, *, answer: Answer | None = None, final: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer
        self.final = final

    @property
    def passing(self) -> bool:
        """Trying again may help."""
        return self.answer is None or self.answer.status >= 500 or self.answer.status in (408, 429)


async def exchange(outward: Outward, grant: Grant) -> Tokens:
    """Exchange the refresh token, with a few attempts while the failure looks passing. Raises NotRefreshed."""
    for pause in (*PAUSES, None):
        try:
            return await _attempt(outward, grant)
        except NotRefreshed as failed:
            if pause is None or not failed.passing:
                raise
        await asyncio.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


async def _attempt(outward: Outward, grant: Grant) -> Tokens:
    headers, form = _request(grant)
    try:
        answer = await outward.send(
            "POST", grant.token_endpoint, headers, urlencode(form).encode(), seconds=ATTEMPT_SECONDS
        )
    except Unreachable as error:
        raise NotRefreshed(f"the token endpoint can't be reached: {error}") from None
    return _read(answer)


def _request(grant: Grant) -> tuple[dict[str, str], dict[str, str]]:
    headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
    form = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}
    if grant.client_auth == "client_secret_basic":
        # RFC 6749, 2.3.1: both are form-encoded first.
        pair = f"{quote_plus(grant.client_id)}:{quote_plus(grant.client_secret)}"
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form["client_id"] = grant.client_id
        if grant.client_auth == "client_secret_post":
            form["client_secret"] = grant.client_secret
    if grant.scope:
        form["scope"] = grant.scope
    if grant.resource:
        form["resource"] = grant.resource
    return headers, form


def _read(answer: Answer) -> Tokens:
    said = _object(answer)
    error = said.get("error")
    if answer.status != 200 or error is not None:  # some endpoints refuse with a 200
        code = error if isinstance(error, str) and error in FINAL and answer.status < 500 else None
        reason = f"the token endpoint answered {answer.status}{f' {code}' if code else ''}"
        raise NotRefreshed(reason, answer=answer, final=code)
    access, refresh = said.get("access_token"), said.get("refresh_token")
    if not isinstance(access, str) or not _SENDABLE.fullmatch(access):
        raise NotRefreshed("the token endpoint answered 200 without an access token that can be sent", answer=answer)
    return Tokens(
        access_token=access,
        refresh_token=refresh if isinstance(refresh, str) and refresh else None,
        expires_in=_seconds(said.get("expires_in")),
    )


def _object(answer: Answer) -> dict[str, object]:
    try:
        said = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _seconds(value: object) -> float | None:
    """A lifetime; some send it as text. What makes no sense counts as not said."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds <= MOST_LIFETIME else None
