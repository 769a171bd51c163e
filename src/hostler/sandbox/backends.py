"""The table of sandbox backends, and the config file's `[sandbox]` table that chooses one. A backend is one row."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec

from hostler.sandbox.contract import Backend, Limits, SandboxUnavailable
from hostler.sandbox.edge.given import NOTHING, Given
from hostler.sandbox.kubernetes.settings import KubernetesConfig
from hostler.sandbox.layers.packages import Layers, Manager, NoLayers
from hostler.sandbox.layers.reach import Reach
from hostler.sandbox.unusable import UnusableBackend

# Each names a function `(folder, config, environ) -> Backend`, which may raise SandboxUnavailable. One with a parameter
# `given` is given what the server has for its way out (edge/given.py).
BACKENDS = {
    "bubblewrap": "hostler.sandbox.backends:open_bubblewrap",
    "docker": "hostler.sandbox.engine.opening:open_docker",
    "podman": "hostler.sandbox.engine.opening:open_podman",
    "kubernetes": "hostler.sandbox.kubernetes.opening:open_kubernetes",
    "none": "hostler.sandbox.backends:open_none",
}
# Those with package layers: each names a `LayersOpener`.
LAYERED = {
    "bubblewrap": "hostler.sandbox.backends:open_bubblewrap_layers",
    "docker": "hostler.sandbox.engine.opening:open_docker_layers",
    "podman": "hostler.sandbox.engine.opening:open_podman_layers",
}


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[sandbox]` table. `backend` is a name of the table above or a dotted path of one's own."""

    backend: str = "bubblewrap"
    memory_mb: int = 4096
    cpus: float | None = None
    processes: int = 1024
    file_mb: int = 4096
    disk_mb: int = 10240
    engine: str = ""  # of docker and podman: unix:///path or tcp://host:port; none: where the engine usually listens
    image: str = "hostler-sandbox"
    runtime: str = ""  # of the engine, as "runsc"; of kubernetes the RuntimeClass; none: the default
    kubernetes: KubernetesConfig | None = None
    proxy: str = ""  # an upstream HTTP proxy for what sandboxes fetch
    allow_private_hosts: tuple[
        str, ...
    ] = ()  # "host" or "host:port": the operator's own, which may have private addresses
    blocked_hosts: tuple[str, ...] = ()
    egress_connections: Annotated[int, msgspec.Meta(ge=1)] = 256
    egress_mb: Annotated[int, msgspec.Meta(ge=0)] = 102400
    egress_log_mb: Annotated[int, msgspec.Meta(ge=0)] = 4
    layer_build_seconds: float = 600.0
    layer_mb: int = 2048
    raw_network: Literal["auto", "off"] = "auto"  # TCP and UDP past the proxy, where the network is unrestricted

    def limits(self) -> Limits:
        mib = 1024 * 1024
        return Limits(
            memory_bytes=self.memory_mb * mib,
            cpus=self.cpus,
            processes=self.processes,
            file_bytes=self.file_mb * mib,
            disk_bytes=self.disk_mb * mib,
        )


class Opener(Protocol):
    def __call__(
        self,
        folder: Path,
        config: SandboxConfig,
        environ: Mapping[str, str],
        **more: Given,
    ) -> Backend: ...


class LayersOpener(Protocol):
    """Raises ValueError for an address of a registry or proxy that is none."""

    def __call__(
        self, folder: Path, config: SandboxConfig, environ: Mapping[str, str], managers: Mapping[str, Manager]
    ) -> Layers: ...


def open_backend(
    folder: Path,
    config: SandboxConfig,
    environ: Mapping[str, str],
    given: Given = NOTHING,
) -> Backend:
    """Open the configured backend. One that can't work here becomes one that refuses every tool with the reason."""
    path = BACKENDS.get(config.backend, config.backend)
    module, _, name = path.partition(":")
    try:
        opener: Opener = getattr(import_module(module), name)
        more = {"given": given} if "given" in inspect.signature(opener).parameters else {}
        return opener(folder, config, environ, **more)
    except (ImportError, AttributeError, ValueError) as error:
        reason = f"The sandbox backend {config.backend!r} can't be loaded: {error}."
        return UnusableBackend(reason, "correct `backend` in the config file's table [sandbox]")
    except SandboxUnavailable as error:
        return UnusableBackend(str(error), "see docs/sandbox.md")


def open_bubblewrap(
    folder: Path,
    config: SandboxConfig,
    environ: Mapping[str, str],
    given: Given = NOTHING,
) -> Backend:
    """The embedded default: bubblewrap, our own init, and the egress proxy on this side."""
    from hostler.sandbox.bubblewrap import BubblewrapBackend
    from hostler.sandbox.edge.outgoing import open_outgoing
    from hostler.sandbox.rawnet import RawNetwork
    from hostler.sandbox.ripgrep import find_ripgrep

    outgoing = open_outgoing(folder.parent, config, environ, given)
    return BubblewrapBackend(
        folder,
        egress=outgoing.proxy.serve,
        bundle=outgoing.bundle,
        ripgrep=find_ripgrep(),
        limits=config.limits(),
        raw=RawNetwork(off=_why_no_raw_network(config)),
    )


def _why_no_raw_network(config: SandboxConfig) -> str:
    if config.proxy:
        return "everything goes through the configured `proxy`"
    if config.blocked_hosts:
        return "`blocked_hosts` are names, which only the proxy knows"
    return "the configuration says so" if config.raw_network == "off" else ""


def open_layers(folder: Path, config: SandboxConfig, environ: Mapping[str, str]) -> Layers:
    """The package layers of this machine, for the sandboxes of the configured backend."""
    from hostler.sandbox.layers.managers import open_managers

    path = LAYERED.get(config.backend)
    if path is None:
        return NoLayers(f"The sandbox backend {config.backend!r} has no package layers.")
    module, _, name = path.partition(":")
    opener: LayersOpener = getattr(import_module(module), name)
    try:
        return opener(folder, config, environ, open_managers(environ, config.proxy or None))
    except ValueError:  # whose words may repeat an address with its password
        return NoLayers(
            "The address of a package index or of the proxy to it is not valid: check the PIP_* variables, pip.conf, "
            "HTTPS_PROXY and `proxy` in the config file's table [sandbox]."
        )


def open_bubblewrap_layers(
    folder: Path, config: SandboxConfig, environ: Mapping[str, str], managers: Mapping[str, Manager]
) -> Layers:
    """Raises ValueError."""
    from hostler.sandbox.layers.building import BuiltLayers
    from hostler.sandbox.layers.places import Machine

    building = folder / "building"
    backends = {name: _builder(building, config, manager.reach) for name, manager in managers.items()}
    return BuiltLayers(
        folder,
        Machine(building, backends),
        managers,
        build_seconds=config.layer_build_seconds,
        max_bytes=config.layer_mb * 1024 * 1024,
    )


def _builder(folder: Path, config: SandboxConfig, reach: Reach) -> Backend:
    """Build sandboxes that reach what a package manager may."""
    from hostler.sandbox.bubblewrap import BubblewrapBackend
    from hostler.sandbox.edge.egress import EgressPolicy, EgressProxy

    return BubblewrapBackend(
        folder,
        egress=EgressProxy(EgressPolicy(trusted=reach.hosts, upstream=reach.upstream)).serve,
        ca_bundle=reach.bundle,
        limits=config.limits(),
        lonely_seconds=int(config.layer_build_seconds),
    )


def open_none(folder: Path, config: SandboxConfig, environ: Mapping[str, str]) -> Backend:
    """For a server whose agents have no built-in tools."""
    reason = 'The configuration sets `sandbox.backend = "none"`.'
    return UnusableBackend(reason, "leave `backend` out if agents are to run commands", wanted=True)
