"""Simulated clusters, and backends on them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusters import nodes
from clusters.simulated import Cluster
from hostler.sandbox.container.backend import ContainerBackend
from hostler.sandbox.contract import Limits
from hostler.sandbox.edge.egress import EgressProxy
from hostler.sandbox.kubernetes import access, cluster
from hostler.sandbox.kubernetes.settings import KubernetesConfig

LIMITS = Limits(memory_bytes=1 << 30, processes=512, file_bytes=4 << 30, disk_bytes=1 << 30)
NODE = nodes.available()

MakeBackend = Callable[..., ContainerBackend]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hostler-test-") as path:
        yield Path(path) / "sandboxes"


@pytest.fixture
def make_backend(folder: Path) -> MakeBackend:
    """A new backend on the same folder each time, as a new server process would have it."""

    def make(api: Cluster, proxy: EgressProxy | None = None, patience: float = 30.0, **config: Any) -> ContainerBackend:
        file = folder.parent / "kubeconfig"
        file.write_text(yaml.safe_dump(api.kubeconfig()))
        config = {"user_namespaces": True, "start_seconds": 30.0} | config
        settings = cluster.Settings(config=KubernetesConfig(**config), image="registry.example/sandbox:1")
        containers = cluster.Cluster(folder, settings, lambda: access.find(str(file), "", {}))
        egress = proxy.serve if proxy else None
        return ContainerBackend(folder, containers, limits=LIMITS, egress=egress, patience=patience)

    return make
