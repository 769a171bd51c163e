"""The config file's table [sandbox.kubernetes]: what the operator chose. It decides nothing."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class KubernetesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table [sandbox.kubernetes]. The image is `image`, the RuntimeClass `runtime` of the table [sandbox]."""

    mode: Literal["pods", "agent-sandbox"] = "pods"
    namespace: str = ""  # none: that of the kubeconfig's context, or the server's own pod's
    kubeconfig: str = ""  # none: $KUBECONFIG, in a pod its service account, else ~/.kube/config
    context: str = ""  # none: the kubeconfig's current one
    storage_class: str = ""  # of the sessions' volumes; none: the cluster's default
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: list[str] = []
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []  # as in a pod's spec
    user_namespaces: bool = False  # `hostUsers: false`: Kubernetes 1.33 or newer, with nodes and volumes that can
    network_policy: bool = True  # false: something else keeps the pods off the network
    memory_request_mb: int = 256
    cpu_request: float = 0.1
    start_seconds: float = 180.0
