"""Which routes are open to workers of self-hosted environments, by the credential they come with. All others are not.

The one list of it: a route that is not here wants an API key. It must not judge whose a session is.
"""

from __future__ import annotations

from hostler.services.callers import Kind

KEY: frozenset[Kind] = frozenset({"environment"})
BOTH: frozenset[Kind] = frozenset({"environment", "work"})

_WORK = "/v1/environments/{environment_id}/work"
_SESSION = "/v1/sessions/{session_id}"
_VERSION = "/v1/skills/{skill_id}/versions/{version}"

SCOPES: dict[tuple[str, str], frozenset[Kind]] = {
    ("GET", f"{_WORK}/poll"): KEY,
    ("GET", f"{_WORK}/stats"): KEY,
    ("GET", _WORK): KEY,
    ("POST", _WORK + "/{work_id}/ack"): KEY,
    ("POST", _WORK + "/{work_id}/heartbeat"): BOTH,
    ("POST", _WORK + "/{work_id}/stop"): BOTH,
    ("GET", _SESSION): BOTH,
    ("GET", f"{_SESSION}/events"): BOTH,
    ("POST", f"{_SESSION}/events"): BOTH,
    ("GET", f"{_SESSION}/events/stream"): BOTH,
    ("GET", f"{_SESSION}/stream"): BOTH,
    ("GET", f"{_SESSION}/threads"): BOTH,
    ("GET", _SESSION + "/threads/{thread_id}"): BOTH,
    ("GET", _SESSION + "/threads/{thread_id}/events"): BOTH,
    ("GET", _SESSION + "/threads/{thread_id}/stream"): BOTH,
    ("GET", _VERSION): BOTH,
    ("GET", f"{_VERSION}/content"): BOTH,
}
# A worker that has lost its item hears so here, instead of a 401 that it could not tell from a wrong token.
LOST = frozenset({("POST", _WORK + "/{work_id}/heartbeat"), ("POST", _WORK + "/{work_id}/stop")})
NOBODY: frozenset[Kind] = frozenset()
