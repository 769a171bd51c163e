"""Opens the backend `kubernetes` of the config file. Nothing is asked of the cluster before it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hostler.sandbox.backends import SandboxConfig
from hostler.sandbox.container.backend import ContainerBackend
from hostler.sandbox.contract import Backend
from hostler.sandbox.edge.given import NOTHING, Given
from hostler.sandbox.edge.outgoing import open_outgoing
from hostler.sandbox.kubernetes import access
from hostler.sandbox.kubernetes.cluster import Cluster, Settings
from hostler.sandbox.kubernetes.settings import KubernetesConfig
from hostler.sandbox.ripgrep import find_ripgrep


def open_kubernetes(
    folder: Path,
    config: SandboxConfig,
    environ: Mapping[str, str],
    given: Given = NOTHING,
) -> Backend:
    outgoing = open_outgoing(folder.parent, config, environ, given)
    chosen = config.kubernetes or KubernetesConfig()
    settings = Settings(
        config=chosen,
        image=config.image,
        runtime=config.runtime,
        ripgrep=find_ripgrep(),
        bundle=outgoing.bundle,
    )
    cluster = Cluster(folder, settings, lambda: access.find(chosen.kubeconfig, chosen.context, environ))
    return ContainerBackend(folder, cluster, limits=config.limits(), egress=outgoing.proxy.serve)
