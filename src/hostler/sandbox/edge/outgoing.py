"""Makes a backend's way out from the config file's `[sandbox]` table: the proxy, its authority and its log.

Nothing is written before a sandbox is started. It must not know the backends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from socket import gethostname
from typing import Protocol

from msgspec import Struct

from hostler.addresses import bare_host
from hostler.sandbox import rootfs
from hostler.sandbox.edge.authority import Authority
from hostler.sandbox.edge.egress import EgressLimits, EgressPolicy, EgressProxy
from hostler.sandbox.edge.egresslog import EgressLog
from hostler.sandbox.edge.given import NOTHING, Given
from hostler.sandbox.edge.interception import Edge
from hostler.sandbox.edge.registries import METADATA_HOSTS
from hostler.sandbox.layers.managers import open_managers

FOLDER = "egress"  # in the data folder, beside that of the sandboxes
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_MIB = 1024 * 1024


class Outgoing(Struct, frozen=True):
    """`bundle` gives the certificates that the inside trusts, as one file."""

    proxy: EgressProxy
    bundle: Callable[[], Path | None]


class EgressConfig(Protocol):
    """What of the `[sandbox]` table is read here."""

    @property
    def proxy(self) -> str: ...
    @property
    def allow_private_hosts(self) -> tuple[str, ...]: ...
    @property
    def blocked_hosts(self) -> tuple[str, ...]: ...
    @property
    def egress_connections(self) -> int: ...
    @property
    def egress_mb(self) -> int: ...


def open_outgoing(
    data_dir: Path,
    config: EgressConfig,
    environ: Mapping[str, str],
    given: Given = NOTHING,
) -> Outgoing:
    """Raises ValueError for a host that is none."""
    own = environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
    trust = Path(own) if own else None
    authority = Authority(data_dir / FOLDER)
    proxy = EgressProxy(
        policy(config, environ),
        limits=EgressLimits(connections=config.egress_connections, bytes=config.egress_mb * _MIB),
        gateway=given.gateway,
        edge=Edge(given.secrets, authority, trust) if given.secrets is not None else None,
        journal=given.journal,
    )

    def bundle() -> Path | None:
        machine = rootfs.ca_bundle(trust)
        return authority.bundle(machine) if given.secrets is not None else machine

    return Outgoing(proxy, bundle)


def open_log(data_dir: Path, megabytes: int = 1) -> EgressLog:
    """The egress logs of all sessions, of at most so many MiB each, twice; 0 writes none."""
    return EgressLog(data_dir / FOLDER / "log", megabytes * _MIB)


def policy(config: EgressConfig, environ: Mapping[str, str]) -> EgressPolicy:
    """Raises ValueError."""
    private = [_host_and_port(entry) for entry in config.allow_private_hosts]
    return EgressPolicy(
        trusted=frozenset(private),
        blocked=(*METADATA_HOSTS, gethostname(), *config.blocked_hosts),
        registries=_machines_registries(environ),
        upstream=config.proxy or None,
    )


def _machines_registries(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The hosts that the package managers of this machine are set to use."""
    try:
        managers = open_managers(environ)
    except ValueError:  # whose words may repeat an address with its password
        return ()
    return tuple(sorted({host for manager in managers.values() for host, _ in manager.reach.hosts}))


def _host_and_port(entry: str) -> tuple[str, int | None]:
    found = _HOST_AND_PORT.fullmatch(entry)
    if found is None:
        raise ValueError(
            f"`allow_private_hosts` takes intranet.example.com or intranet.example.com:8443, not {entry!r}"
        )
    return bare_host(found[1]), int(found[2]) if found[2] else None
