"""The secrets of a session that never enter its sandbox: their placeholders inside, their values at its edge, and the
taking out of what comes back all the same.

It must not keep a value: each use asks the vault anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from sqlalchemy import bindparam, select

from hostler.addresses import covers
from hostler.errors import Unavailable
from hostler.harness.drafts import session_error
from hostler.harness.environment import network_of
from hostler.harness.told import Told
from hostler.log.entries import Draft
from hostler.sandbox.contract import Network, Secret
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import sessions
from hostler.vault.variables import Variable

if TYPE_CHECKING:
    from hostler.harness.wake import Wake

log = logging.getLogger(__name__)

SHORTEST_SCRUBBED = 8  # characters: shorter ones would be found in any text
UNREACHABLE = (
    "The environment's network allows none of the hosts that the credential {id} for {name} may be sent to, so it has "
    "no use in this session; add its host to the environment's allowed_hosts."
)
# What the sandbox itself needs, or what would change how its programs start. A secret has no use under such a name.
RESERVED = frozenset(
    """
    PATH HOME USER LOGNAME SHELL LANG TERM PWD OLDPWD IFS ENV BASH_ENV SHELLOPTS BASHOPTS PROMPT_COMMAND PS4
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE PIP_CERT
    NODE_EXTRA_CA_CERTS GIT_SSL_CAINFO PYTHONPATH PYTHONHOME
    NODE_OPTIONS NODE_USE_ENV_PROXY CARGO_HTTP_CAINFO NPM_CONFIG_PREFIX GOBIN GEM_PATH
    """.split()  # noqa: SIM905
)

_VAULTS = select(sessions.c.vault_ids, sessions.c.thread_id).where(sessions.c.id == bindparam("s"))


class Variables(Protocol):
    """Gives the environment variables of vaults; see `vault.variables`."""

    async def names(self, vault_ids: Sequence[str]) -> list[Variable]: ...

    async def opened(self, vault_ids: Sequence[str]) -> list[Variable]: ...


def _vaults_tx(session_id: str) -> Tx[tuple[list[str], str]]:
    rows = yield _VAULTS, {"s": session_id}
    return (msgspec.json.decode(rows[0][0], type=list[str]), rows[0][1]) if rows else ([], "")


class SessionSecrets:
    """One instance serves all sessions of a process."""

    def __init__(self, store: Store, variables: Variables) -> None:
        self._store = store
        self._variables = variables
        self._told = Told()

    async def at_edge(self, session_id: str) -> list[Secret]:
        """The `Secrets` of a session's sandbox."""
        try:
            vault_ids, thread_id = await self._store.read(lambda: _vaults_tx(session_id))
            found = await self._variables.opened(vault_ids)
        except Unavailable as problem:
            log.warning("session %s: its secrets can't be read: %s", session_id, problem.message)
            return []
        return [
            Secret(
                placeholder=placeholder(thread_id, variable.name),
                value=variable.value,
                hosts=variable.hosts,
                header=variable.header,
                body=variable.body,
                credential_id=variable.credential_id,
            )
            for variable in found
        ]

    async def environment(self, wake: Wake) -> dict[str, str]:
        """The variables of a sandbox that starts now."""
        found = await self._variables.names(wake.row.vault_ids)
        return {
            variable.name: placeholder(wake.row.thread_id, variable.name)
            for variable in found
            if variable.name.upper() not in RESERVED and not variable.name.startswith("LD_")
        }

    async def scrubbed(self, wake: Wake, content: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A tool's result with each secret of the session replaced by its placeholder."""
        if not wake.row.vault_ids:
            return content
        values = {
            variable.value: placeholder(wake.row.thread_id, variable.name)
            for variable in await self._variables.opened(wake.row.vault_ids)
            if len(variable.value) >= SHORTEST_SCRUBBED
        }
        ordered = sorted(values.items(), key=lambda pair: len(pair[0]), reverse=True)
        return replaced(content, ordered) if ordered else content

    async def problems(self, wake: Wake) -> list[Draft]:
        """What to tell the client, once, of credentials that the environment's network leaves without use."""
        network = network_of(wake.row)
        if network.hosts is None or not wake.row.vault_ids:
            return []
        found = await self._variables.names(wake.row.vault_ids)
        return [
            _unreachable(each)
            for each in found
            if not reachable(each, network) and self._told.new(wake.session_id, each.credential_id)
        ]


def placeholder(thread_id: str, name: str) -> str:
    """What stands for a secret inside: the same as long as the session lives, also for the secret's successor. It is
    made of the primary thread's id, which forks have in common: their shells and files hold it already."""
    digest = hashlib.sha256(f"{thread_id} {name}".encode()).hexdigest()
    return f"secret_placeholder_{digest[:32]}"


def reachable(variable: Variable, network: Network) -> bool:
    """Whether a limited network has a host that the secret may be sent to."""
    if variable.hosts is None:
        return not network.closed
    return any(_overlap(a, b) for a in variable.hosts for b in network.hosts or ())


def _overlap(one: str, other: str) -> bool:
    """Whether some host is meant by both entries."""
    if one.startswith("*.") and other.startswith("*."):
        a, b = one[1:].lower(), other[1:].lower()
        return a.endswith(b) or b.endswith(a)
    return covers(one, other) or covers(other, one)


def _unreachable(variable: Variable) -> Draft:
    message = UNREACHABLE.format(id=variable.credential_id, name=variable.name)
    ids = {"vault_id": variable.vault_id, "credential_id": variable.credential_id}
    return session_error("credential_host_unreachable_error", message, "retrying", **ids)


def replaced(value: Any, pairs: Iterable[tuple[str, str]]) -> Any:
    """A value of JSON with these strings replaced wherever a text holds them, but in data of images and documents."""
    if isinstance(value, str):
        for secret, stand_in in pairs:
            value = value.replace(secret, stand_in)
        return value
    if isinstance(value, list):
        return [replaced(each, pairs) for each in value]
    if isinstance(value, dict):
        if value.get("type") == "base64":
            return value
        return {key: replaced(each, pairs) for key, each in value.items()}
    return value
