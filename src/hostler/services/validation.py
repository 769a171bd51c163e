"""`mcp_oauth_validate`: tries a credential against its MCP server, and says what it found. It must not decide what a
session may use.
"""

from __future__ import annotations

import re
from urllib.parse import quote, quote_plus

import msgspec

from hostler import clock
from hostler.errors import InvalidRequest
from hostler.services.credentials import find_tx
from hostler.store.store import Store
from hostler.vault.outward import Answer, Outward
from hostler.vault.probe import Refused, probe
from hostler.vault.records import Record, Secrets
from hostler.vault.renewing import Renewal, Renewer
from hostler.vault.sealing import Sealer
from hostler.wire.base import timestamp
from hostler.wire.vaults import CapturedResponse, CredentialValidation, McpOauth, McpProbe, RefreshOutcome

SHOWN_CHARS = 4096
REDACTED = "[redacted]"
_SENT = re.compile(r"\b(Basic|Bearer)\s+[\w.~+/=-]+", re.IGNORECASE)
_NAMED = re.compile(r'("(?:\w*token|\w*secret|assertion|code|password)"\s*:\s*)"(?:[^"\\]|\\.)*("|$)', re.IGNORECASE)


class Validation:
    def __init__(self, store: Store, sealer: Sealer, outward: Outward, renewer: Renewer) -> None:
        self._store = store
        self._sealer = sealer
        self._outward = outward
        self._renewer = renewer

    async def validate(self, vault_id: str, credential_id: str) -> CredentialValidation:
        """Probe with the stored token; after a 401 refresh it and probe again."""
        record = await self._store.read(lambda: find_tx(vault_id, credential_id))
        auth = record.credential().auth
        if not isinstance(auth, McpOauth):
            raise InvalidRequest(
                f"Credential {credential_id} is not of the type mcp_oauth; only that can be validated."
            )
        secrets = record.secrets(self._sealer)
        if not secrets.access_token:
            return _verdict(record, secrets, "invalid")
        refused = await probe(self._outward, auth.mcp_server_url, secrets.access_token)
        if refused is None:
            return _verdict(record, secrets, "valid")
        if _status(refused) != 401:
            return _verdict(record, secrets, _judged(refused), _shown(refused, secrets))
        renewal = await self._renewer.renew(credential_id, secrets.access_token, insist=True)
        return await self._after(record, secrets, refused, renewal, auth.mcp_server_url)

    async def _after(
        self, record: Record, secrets: Secrets, refused: Refused, renewal: Renewal, url: str
    ) -> CredentialValidation:
        """Judge once the refresh has been tried."""
        if renewal.status == "gone":  # archived or deleted in the meantime
            return _verdict(record, secrets, "invalid", _shown(refused, secrets))
        outcome = _outcome(renewal, secrets)
        if renewal.status != "succeeded":
            passing = renewal.status == "connect_error" or (renewal.answer is not None and renewal.answer.status >= 500)
            status = "unknown" if passing else "invalid"
            return _verdict(record, secrets, status, _shown(refused, secrets), outcome)
        again = await probe(self._outward, url, renewal.token)
        status = "valid" if again is None else _judged(again)
        return _verdict(record, secrets, status, _shown(again, secrets, renewal.token) if again else None, outcome)


def _verdict(
    record: Record,
    secrets: Secrets,
    status: str,
    mcp_probe: McpProbe | None = None,
    refresh: RefreshOutcome | None = None,
) -> CredentialValidation:
    return CredentialValidation(
        credential_id=record.id,
        vault_id=record.vault_id,
        status=status,  # type: ignore[arg-type]
        has_refresh_token=bool(secrets.refresh_token),
        mcp_probe=mcp_probe,
        refresh=refresh,
        validated_at=timestamp(clock.now()),
    )


def _status(refused: Refused) -> int | None:
    return refused.answer.status if refused.answer is not None else None


def _judged(refused: Refused) -> str:
    """Only a refusal of the token itself speaks against the credential."""
    return "invalid" if _status(refused) in (401, 403) else "unknown"


def _shown(refused: Refused, secrets: Secrets, *more: str) -> McpProbe:
    answer = refused.answer
    return McpProbe(method=refused.method, http_response=captured(answer, secrets, *more) if answer else None)


def _outcome(renewal: Renewal, secrets: Secrets) -> RefreshOutcome:
    failed = renewal.status == "failed" and renewal.answer is not None
    return RefreshOutcome(
        status=renewal.status,  # type: ignore[arg-type]
        http_response=captured(renewal.answer, secrets) if failed and renewal.answer is not None else None,
    )


def captured(answer: Answer, secrets: Secrets, *more: str) -> CapturedResponse:
    """An answer as it may be shown: a server may well repeat what it was sent, or name new tokens."""
    text = answer.body.decode("utf-8", "replace")
    found = {spelling for secret in (*secrets.values(), *more) for spelling in _spellings(secret)}
    for spelling in sorted(found, key=len, reverse=True):
        text = text.replace(spelling, REDACTED)
    if answer.truncated:  # half a secret at the end was not recognised
        text = text[: -max(map(len, found), default=0) or None]
    text = _NAMED.sub(rf'\1"{REDACTED}"', _SENT.sub(rf"\1 {REDACTED}", text))
    return CapturedResponse(
        status_code=answer.status,
        content_type=answer.content_type[:256],
        body=text[:SHOWN_CHARS],
        body_truncated=answer.truncated or len(text) > SHOWN_CHARS,
    )


def _spellings(secret: str) -> tuple[str, ...]:
    return secret, quote(secret, safe=""), quote_plus(secret), msgspec.json.encode(secret).decode()[1:-1]
