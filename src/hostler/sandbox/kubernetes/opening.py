"""Opens the backend `kubernetes` of the config file. Nothing is asked of the cluster before it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hostler.sandbox.backends import SandboxConfig
from hostler.sandbox.container.backend import ContainerBackend
from hostler.sandbox.contract import Backend
from hostler.sandbox.egress import EgressPolicy, EgressProxy
from hostler.sandbox.gateway import Gateway
from hostler.sandbox.kubernetes import access
from hostler.sandbox.kubernetes.cluster import Cluster, Settings
from hostler.sandbox.kubernetes.settings import KubernetesConfig
from hostler.sandbox.ripgrep import find_ripgrep


def open_kubernetes(
    folder: Path, config: SandboxConfig, environ: Mapping[str, str], gateway: Gateway | None = None
) -> Backend:
    bundle = environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
    chosen = config.kubernetes or KubernetesConfig()
    settings = Settings(
        config=chosen,
        image=config.image,
        runtime=config.runtime,
        ripgrep=find_ripgrep(),
        ca_bundle=Path(bundle) if bundle else None,
    )
    cluster = Cluster(folder, settings, lambda: access.find(chosen.kubeconfig, chosen.context, environ))
    egress = EgressProxy(EgressPolicy(upstream=config.proxy or None), gateway=gateway).serve
    return ContainerBackend(folder, cluster, limits=config.limits(), egress=egress)
