"""What a registered agent refers to: the URI that people give, and what of it can be called. It must not call it."""

from __future__ import annotations

import re

from hostler.errors import InvalidRequest
from hostler.vault.urls import check_secret_url

KIND = "claude_managed"
SCHEME = "anthropic"
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_OTHERS = {
    "azure_ai_agent": "Azure AI agents",
    "vertex_agent": "Vertex agents",
    "openai_assistant": "OpenAI assistants",
}


def resolved(kind: str, external_ref: str) -> str:
    """The reference as it is kept: `anthropic://agents/<id>`. Raises InvalidRequest."""
    if kind != KIND:
        raise InvalidRequest(f"kind: {_OTHERS.get(kind, kind)} can't be called from here yet; only {KIND} can")
    uri = _URI.fullmatch(external_ref)
    if uri is None:
        return f"{SCHEME}://agents/{_checked(external_ref, external_ref)}"
    if uri["scheme"].lower() != SCHEME:
        raise InvalidRequest(f"externalRef: the scheme {uri['scheme']}:// is unknown; {_EXPECTED}")
    place, _, agent_id = uri["rest"].partition("/")
    if place != "agents":
        raise InvalidRequest(f"externalRef: {external_ref[:200]!r} names no agent; {_EXPECTED}")
    return f"{SCHEME}://agents/{_checked(agent_id, external_ref)}"


def native_id(external_ref: str) -> str:
    """The id that the agent has on its own server."""
    return external_ref.rpartition("/")[2]


def checked_url(base_url: str) -> str:
    """Where another server of the same API is. Raises InvalidRequest."""
    try:
        url = check_secret_url(base_url)
    except ValueError as problem:
        raise InvalidRequest(f"baseUrl: {problem}") from None
    if "?" in url or "#" in base_url:
        raise InvalidRequest("baseUrl: can't have a query or a fragment")
    return url.removesuffix("/v1")


_EXPECTED = f"{SCHEME}://agents/<id> is expected"


def _checked(agent_id: str, said: str) -> str:
    if "?" in agent_id:
        raise InvalidRequest("externalRef: can't have a query; a version of the agent is said in agentVersion")
    if not _ID.fullmatch(agent_id):
        raise InvalidRequest(f"externalRef: {said[:200]!r} has no agent's id; {_EXPECTED}")
    return agent_id
