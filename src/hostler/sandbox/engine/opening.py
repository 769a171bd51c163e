"""Opens the backends `docker` and `podman` of the config file: the same one, at the socket where each usually is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hostler.sandbox.backends import SandboxConfig
from hostler.sandbox.contract import Backend
from hostler.sandbox.edge.given import NOTHING, Given
from hostler.sandbox.edge.outgoing import Outgoing, open_outgoing
from hostler.sandbox.engine.backend import EngineBackend
from hostler.sandbox.engine.ground import Settings
from hostler.sandbox.engine.http import Address
from hostler.sandbox.ripgrep import find_ripgrep


def open_docker(
    folder: Path,
    config: SandboxConfig,
    environ: Mapping[str, str],
    given: Given = NOTHING,
) -> Backend:
    outgoing = open_outgoing(folder.parent, config, environ, given)
    return _open(folder, config, outgoing, environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")


def open_podman(
    folder: Path,
    config: SandboxConfig,
    environ: Mapping[str, str],
    given: Given = NOTHING,
) -> Backend:
    run = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    own = "unix:///run/podman/podman.sock" if os.geteuid() == 0 else f"unix://{run}/podman/podman.sock"
    outgoing = open_outgoing(folder.parent, config, environ, given)
    return _open(folder, config, outgoing, environ.get("CONTAINER_HOST") or own)


def _open(folder: Path, config: SandboxConfig, outgoing: Outgoing, usual: str) -> Backend:
    """Raises ValueError for an address that is none."""
    settings = Settings(
        address=Address.parse(config.engine or usual),
        image=config.image,
        runtime=config.runtime,
        ripgrep=find_ripgrep(),
        bundle=outgoing.bundle,
    )
    return EngineBackend(folder, settings, limits=config.limits(), egress=outgoing.proxy.serve)
