"""Opens the backends `docker` and `podman` of the config file, and their package layers: the same one, at the socket
where each usually is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from hostler.sandbox import rootfs
from hostler.sandbox.backends import SandboxConfig
from hostler.sandbox.contract import Backend
from hostler.sandbox.edge.egress import EgressPolicy, EgressProxy
from hostler.sandbox.edge.given import NOTHING, Given
from hostler.sandbox.edge.outgoing import open_outgoing
from hostler.sandbox.engine.api import Engine
from hostler.sandbox.engine.backend import EngineBackend
from hostler.sandbox.engine.ground import Settings
from hostler.sandbox.engine.http import Address
from hostler.sandbox.engine.images import Images
from hostler.sandbox.engine.workshop import Workshop
from hostler.sandbox.layers.building import BuiltLayers
from hostler.sandbox.layers.packages import Layers, Manager, NoLayers
from hostler.sandbox.layers.reach import Reach
from hostler.sandbox.layers.storage import LayerFolder
from hostler.sandbox.ripgrep import find_ripgrep


def open_docker(
    folder: Path,
    config: SandboxConfig,
    environ: Mapping[str, str],
    given: Given = NOTHING,
) -> Backend:
    return _open(folder, config, environ, given, _dockers(environ))


def open_podman(
    folder: Path,
    config: SandboxConfig,
    environ: Mapping[str, str],
    given: Given = NOTHING,
) -> Backend:
    return _open(folder, config, environ, given, _podmans(environ))


def open_docker_layers(
    folder: Path, config: SandboxConfig, environ: Mapping[str, str], managers: Mapping[str, Manager]
) -> Layers:
    return _open_layers(folder, config, managers, _dockers(environ))


def open_podman_layers(
    folder: Path, config: SandboxConfig, environ: Mapping[str, str], managers: Mapping[str, Manager]
) -> Layers:
    return _open_layers(folder, config, managers, _podmans(environ))


def _dockers(environ: Mapping[str, str]) -> str:
    return environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def _podmans(environ: Mapping[str, str]) -> str:
    run = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    own = "unix:///run/podman/podman.sock" if os.geteuid() == 0 else f"unix://{run}/podman/podman.sock"
    return environ.get("CONTAINER_HOST") or own


def _open(folder: Path, config: SandboxConfig, environ: Mapping[str, str], given: Given, usual: str) -> Backend:
    """Raises ValueError for an address that is none."""
    outgoing = open_outgoing(folder.parent, config, environ, given)
    settings = Settings(
        address=Address.parse(config.engine or usual),
        image=config.image,
        runtime=config.runtime,
        ripgrep=find_ripgrep(),
        bundle=outgoing.bundle,
    )
    return EngineBackend(folder, settings, limits=config.limits(), egress=outgoing.proxy.serve)


def _open_layers(folder: Path, config: SandboxConfig, managers: Mapping[str, Manager], usual: str) -> Layers:
    try:
        address = Address.parse(config.engine or usual)
    except ValueError as error:
        return NoLayers(f"The container engine can't be asked: {error}.")
    if not address.local:
        return NoLayers(
            f"There are no package layers for the engine at {address}, on another machine: put packages into the image."
        )
    settings = Settings(
        address=address,
        image=config.image,
        runtime=config.runtime,
        lonely_seconds=int(config.layer_build_seconds),
    )
    backends = {
        name: _builder(folder / "building", config, settings, manager.reach) for name, manager in managers.items()
    }
    engine, max_bytes = Engine(settings.http()), config.layer_mb * 1024 * 1024
    images = Images(LayerFolder(folder), engine, config.image, backends["pip"])
    return BuiltLayers(
        folder,
        Workshop(engine, images, backends, max_bytes),
        managers,
        build_seconds=config.layer_build_seconds,
        max_bytes=max_bytes,
    )


def _builder(folder: Path, config: SandboxConfig, settings: Settings, reach: Reach) -> EngineBackend:
    """Makes containers that reach what a package manager may."""
    return EngineBackend(
        folder,
        msgspec.structs.replace(settings, bundle=lambda: rootfs.ca_bundle(reach.bundle)),
        limits=config.limits(),
        egress=EgressProxy(EgressPolicy(trusted=reach.hosts, upstream=reach.upstream)).serve,
    )
