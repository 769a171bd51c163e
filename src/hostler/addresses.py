"""Which addresses an agent's connections may reach: the public internet, and never this host or its networks.

It must not resolve names or connect: it judges addresses that somebody else has resolved.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_SCHEME = re.compile(r"https?://")
_ADDRESS = re.compile(r"[0-9a-fx.]*|[0-9a-f:.]*")  # also some names

# Written out, because the standard library's own idea of "global" changed between Python versions.
_NOT_PUBLIC_4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host services
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries an IPv4 address
        "3fff::/20",
    )
]
_METADATA = (
    IPv4Network("169.254.0.0/16"),
    IPv4Network("100.100.100.200/32"),
    IPv4Network("168.63.129.16/32"),
    IPv4Network("192.0.0.192/32"),
    IPv6Network("fd00:ec2::/32"),
)
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(text: str) -> bool:
    """Whether a numeric address, as getaddrinfo writes it, belongs to the public internet."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return _is_public_4(address)
    if address.ipv4_mapped is not None:
        return _is_public_4(address.ipv4_mapped)
    if address in _NAT64:
        return _is_public_4(IPv4Address(int(address) & 0xFFFFFFFF))
    return _is_public_6(address)


def is_metadata(text: str) -> bool:
    """Whether a cloud machine is told about itself, and given its credentials, at this address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _METADATA)


def networks_not_public() -> list[str]:
    """The IPv4 networks that are not public, for a judge that is not written in Python."""
    return [str(network) for network in _NOT_PUBLIC_4]


def is_own(text: str) -> bool:
    """Whether the address is one of this host's own.

    The kernel answers a datagram socket that is "connected" to one of its own addresses with that address as the
    source. Nothing is sent, and no list of interfaces can be out of date.
    """
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((text, 9))
        except OSError:
            return False  # no way there: connecting fails too
        source = str(probe.getsockname()[0])
    return ip_address(source.partition("%")[0]) == ip_address(text.partition("%")[0])


def is_numeric(name: str) -> bool:
    """Any spelling of an address that the C library takes: 127.0.0.1, 0x7f.1, 2130706433, ::1."""
    try:
        socket.inet_pton(socket.AF_INET6, name)
    except OSError:
        try:
            socket.inet_aton(name)
        except OSError:
            return False
    return True


def _is_public_4(address: IPv4Address) -> bool:
    return not any(address in network for network in _NOT_PUBLIC_4)


def _is_public_6(address: IPv6Address) -> bool:
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


def bare_host(entry: str) -> str:
    """An entry of a list of hosts as it is compared: in lower case, without the scheme that some write before it, and
    without a final dot."""
    return _SCHEME.sub("", entry.lower(), count=1).removesuffix("/").rstrip(".").strip("[]")


def covers(pattern: str, host: str) -> bool:
    """Whether a host is meant by an entry: by its name, or by `*.example.com`, which means the names below it, not
    itself. An address is meant in every spelling, with and without brackets."""
    pattern, host = bare_host(pattern), bare_host(host)
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern or (_ADDRESS.fullmatch(host) is not None and _spelled(host) == _spelled(pattern))


def _spelled(host: str) -> str:
    """An address in the usual spelling, a name as it is."""
    try:
        address = ip_address(host)
    except ValueError:
        return socket.inet_ntoa(socket.inet_aton(host)) if _ADDRESS.fullmatch(host) and is_numeric(host) else host
    return str(getattr(address, "ipv4_mapped", None) or address)
