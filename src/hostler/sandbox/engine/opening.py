"""Opens the backends `docker` and `podman` of the config file: the same one, at the socket where each usually is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hostler.sandbox.backends import SandboxConfig
from hostler.sandbox.contract import Backend
from hostler.sandbox.egress import EgressPolicy, EgressProxy
from hostler.sandbox.engine.backend import EngineBackend
from hostler.sandbox.engine.ground import Settings
from hostler.sandbox.engine.http import Address
from hostler.sandbox.gateway import Gateway
from hostler.sandbox.ripgrep import find_ripgrep


def open_docker(
    folder: Path, config: SandboxConfig, environ: Mapping[str, str], gateway: Gateway | None = None
) -> Backend:
    usual = environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    return _open(folder, config, environ, gateway, usual)


def open_podman(
    folder: Path, config: SandboxConfig, environ: Mapping[str, str], gateway: Gateway | None = None
) -> Backend:
    run = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    own = "unix:///run/podman/podman.sock" if os.geteuid() == 0 else f"unix://{run}/podman/podman.sock"
    return _open(folder, config, environ, gateway, environ.get("CONTAINER_HOST") or own)


def _open(
    folder: Path, config: SandboxConfig, environ: Mapping[str, str], gateway: Gateway | None, usual: str
) -> Backend:
    """Raises ValueError for an address that is none."""
    bundle = environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
    settings = Settings(
        address=Address.parse(config.engine or usual),
        image=config.image,
        runtime=config.runtime,
        ripgrep=find_ripgrep(),
        ca_bundle=Path(bundle) if bundle else None,
    )
    egress = EgressProxy(EgressPolicy(upstream=config.proxy or None), gateway=gateway).serve
    return EngineBackend(folder, settings, limits=config.limits(), egress=egress)
