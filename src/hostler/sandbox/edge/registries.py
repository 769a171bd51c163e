"""Hosts with a meaning of their own: the public registries that package managers use, and those of cloud metadata.

Only names; what they lead to is the policy's business.
"""

from __future__ import annotations

# What each manager asks by default, and where that sends it for the files.
REGISTRIES: dict[str, tuple[str, ...]] = {
    "pip": ("pypi.org", "files.pythonhosted.org", "pypi.python.org"),
    "npm": ("registry.npmjs.org", "registry.yarnpkg.com", "repo.yarnpkg.com"),
    "cargo": ("index.crates.io", "crates.io", "static.crates.io"),
    "go": ("proxy.golang.org", "sum.golang.org"),
    "gem": ("rubygems.org", "index.rubygems.org", "fastly.rubygems.org"),
    "apt": (
        "deb.debian.org",
        "security.debian.org",
        "ftp.debian.org",
        "archive.ubuntu.com",
        "*.archive.ubuntu.com",
        "security.ubuntu.com",
        "ports.ubuntu.com",
    ),
}
REGISTRY_HOSTS = tuple(host for hosts in REGISTRIES.values() for host in hosts)

METADATA_HOSTS = (
    "metadata.google.internal",
    "metadata.goog",
    "metadata",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
    "metadata.platformequinix.com",
)
