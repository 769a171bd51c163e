"""Where a cluster's API is and as whom we ask: from a kubeconfig file, or from the service account of a pod.

Only what a request needs leaves here, and nothing that identifies us is ever printed. It sends no request.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.kubernetes.credentials import NoToken, PluginToken, StaticToken, Token, TokenFile

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_UNSUPPORTED = {
    "username": "a user name and password (no cluster takes them since Kubernetes 1.19)",
    "auth-provider": "an auth-provider (gone since Kubernetes 1.26): use an exec plugin",
    "as": "impersonation",
}


class Access:
    """One cluster, as one user. `tls` is None for plain HTTP, as of `kubectl proxy`."""

    def __init__(
        self, url: str, namespace: str, *, tls: ssl.SSLContext | None, token: Token, server_name: str | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SandboxUnavailable(f"the cluster's address is http(s)://host:port, not {url!r}")
        self.url = url.rstrip("/")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.path = parts.path.rstrip("/")
        self.namespace = namespace
        self.tls = tls if parts.scheme == "https" else None
        self.server_name = server_name
        self.token = token

    def __repr__(self) -> str:
        return f"Access({self.url!r}, {self.namespace!r})"


def find(kubeconfig: str, context: str, environ: Mapping[str, str], account: Path = ACCOUNT) -> Access:
    """The cluster that the operator named, else the one around us. Raises `SandboxUnavailable`."""
    named = kubeconfig or environ.get("KUBECONFIG", "")
    if not named and "KUBERNETES_SERVICE_HOST" in environ and (account / "token").exists():
        return in_cluster(environ, account)
    path = Path(named) if named else Path(environ.get("HOME") or "/") / ".kube/config"
    if ":" in named:
        raise SandboxUnavailable("KUBECONFIG names several files: merge them, or name one as `kubeconfig`")
    try:
        found = yaml.safe_load(path.read_bytes())
        return _Kubeconfig(found, path.parent, environ).access(context)
    except OSError as error:
        raise SandboxUnavailable(f"no Kubernetes cluster is known: {path}: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        # Whatever stands in the file may be a secret: the kind of error says enough.
        raise SandboxUnavailable(f"{path} is no usable kubeconfig ({type(error).__name__})") from None


def in_cluster(environ: Mapping[str, str], account: Path = ACCOUNT) -> Access:
    """As the service account of the pod that the server runs in, whose token the kubelet renews."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        namespace = (account / "namespace").read_text().strip()
    except (OSError, ssl.SSLError) as error:
        raise SandboxUnavailable(f"the pod's service account at {account} can't be used: {error}") from error
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(url, namespace, tls=tls, token=TokenFile(account / "token"))


class _Kubeconfig:
    """One kubeconfig file. Its methods raise KeyError, TypeError, ValueError and OSError for what it should not be."""

    def __init__(self, content: Any, folder: Path, environ: Mapping[str, str]) -> None:
        self._content = content
        self._folder = folder
        self._environ = environ

    def access(self, context: str) -> Access:
        name = context or self._content.get("current-context") or ""
        chosen = self._named("contexts", name)["context"]
        cluster = self._named("clusters", chosen["cluster"])["cluster"]
        user = self._named("users", chosen["user"])["user"] or {}
        if wrong := next((why for key, why in _UNSUPPORTED.items() if user.get(key)), ""):
            raise SandboxUnavailable(f"the kubeconfig's user has {wrong}, which is not supported")
        if cluster.get("proxy-url"):
            raise SandboxUnavailable("the kubeconfig's cluster has a proxy-url, which is not supported")
        return Access(
            cluster["server"],
            chosen.get("namespace") or "default",
            tls=self._tls(cluster, user),
            token=self._token(user, cluster),
            server_name=cluster.get("tls-server-name"),
        )

    def _named(self, kind: str, name: str) -> dict[str, Any]:
        for one in self._content.get(kind) or []:
            if one["name"] == name:
                return dict(one)
        raise SandboxUnavailable(f"the kubeconfig has no {kind.removesuffix('s')} {name!r}")

    def _tls(self, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
        authority = self._data(cluster, "certificate-authority")
        tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        certificate, key = self._data(user, "client-certificate"), self._data(user, "client-key")
        if certificate and key:
            _load_chain(tls, certificate + b"\n" + key)
        return tls

    def _data(self, where: Mapping[str, Any], name: str) -> bytes:
        if where.get(f"{name}-data"):
            return base64.b64decode(where[f"{name}-data"])
        return (self._folder / where[name]).read_bytes() if where.get(name) else b""

    def _token(self, user: Mapping[str, Any], cluster: Mapping[str, Any]) -> Token:
        if user.get("tokenFile"):
            return TokenFile(self._folder / user["tokenFile"])
        if user.get("token"):
            return StaticToken(str(user["token"]))
        if user.get("exec"):
            return PluginToken(msgspec.convert(user["exec"], dict[str, Any]), self._folder, self._environ, cluster)
        return NoToken()


def _load_chain(tls: ssl.SSLContext, pem: bytes) -> None:
    """OpenSSL takes these from a file only: one that lies in memory, and has no name for others."""
    fd = os.memfd_create("hostler", os.MFD_CLOEXEC)
    with open(fd, "wb") as file:
        file.write(pem)
        file.flush()
        tls.load_cert_chain(f"/proc/self/fd/{fd}")
