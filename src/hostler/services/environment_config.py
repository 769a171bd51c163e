"""Resolves the `config` of a cloud environment: its network and its packages. It must not read or write anything.

An entry that could not mean what it says is refused here, before it is stored: a list of hosts is a promise of what a
sandbox can't reach, and a package's name must never become an option of its package manager.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from hostler.addresses import bare_host
from hostler.errors import InvalidRequest
from hostler.wire.base import Unset
from hostler.wire.environments import (
    CloudConfig,
    ConfigParams,
    LimitedNetwork,
    LimitedNetworkParams,
    Packages,
    PackagesParams,
    UnrestrictedNetwork,
)

MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")  # in the order in which they install
MAX_PACKAGE_CHARS = 500

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\.?")
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")


def default() -> CloudConfig:
    return CloudConfig(
        networking=UnrestrictedNetwork(), packages=Packages(apt=[], cargo=[], gem=[], go=[], npm=[], pip=[])
    )


def resolve(params: ConfigParams | None, current: CloudConfig) -> CloudConfig:
    """The config that results; what is left out, or null, stays as it is. Raises InvalidRequest."""
    if params is None:
        return current
    network = _network(params.networking, current.networking)
    packages = _packages(params.packages, current.packages)
    if isinstance(network, LimitedNetwork) and not network.allow_package_managers:
        used = next((name for name in MANAGERS if getattr(packages, name)), None)
        if used is not None:
            raise InvalidRequest(
                f"config.packages.{used}: packages in an environment with a limited network need "
                "config.networking.allow_package_managers: true"
            )
    return CloudConfig(networking=network, packages=packages)


def _network(
    params: UnrestrictedNetwork | LimitedNetworkParams | Unset | None, current: UnrestrictedNetwork | LimitedNetwork
) -> UnrestrictedNetwork | LimitedNetwork:
    if params is None or isinstance(params, Unset):
        return current
    if isinstance(params, UnrestrictedNetwork):
        return params
    kept = current if isinstance(current, LimitedNetwork) else None
    hosts, servers, managers = params.allowed_hosts, params.allow_mcp_servers, params.allow_package_managers
    for index, host in enumerate(hosts if isinstance(hosts, list) else ()):
        _check_host(host, f"config.networking.allowed_hosts.{index}")
    return LimitedNetwork(
        allowed_hosts=hosts if isinstance(hosts, list) else kept.allowed_hosts if kept else [],
        allow_mcp_servers=servers if isinstance(servers, bool) else kept is not None and kept.allow_mcp_servers,
        allow_package_managers=managers if isinstance(managers, bool) else bool(kept and kept.allow_package_managers),
    )


def _check_host(entry: str, at: str) -> None:
    """Raise InvalidRequest unless it is a host name, an address, or `*.` and a host name; a scheme may go before it."""
    host = bare_host(entry)
    if _is_address(host):
        return
    if len(host) > 253 or not _HOST.fullmatch(host) or _ENDS_IN_NUMBER.fullmatch(host):
        raise InvalidRequest(
            f"{at}: must be a host name, an IP address, or *. and a host name (for all names below it), "
            "without port or path; write an international name in its xn-- form"
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _packages(params: PackagesParams | Unset | None, current: Packages) -> Packages:
    if params is None or isinstance(params, Unset):
        return current
    packages = msgspec.structs.replace(current)
    for name in MANAGERS:
        if isinstance(sent := getattr(params, name), list):
            for index, package in enumerate(sent):
                _check_package(package, f"config.packages.{name}.{index}")
            setattr(packages, name, sent)
    return packages


def _check_package(package: str, at: str) -> None:
    if not package.strip() or len(package) > MAX_PACKAGE_CHARS:
        raise InvalidRequest(f"{at}: must have 1 to {MAX_PACKAGE_CHARS} characters")
    if package[0] == "-" or not package.isprintable():
        raise InvalidRequest(f"{at}: must name a package: an option of the package manager is none")
