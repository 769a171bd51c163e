"""What the adapter says to a cluster and makes of its answers, with no pod behind them: runs as any user."""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clusters.conftest import MakeBackend
from clusters.simulated import TOKEN, Cluster, Fault
from hostler.sandbox.contract import NO_NETWORK, SandboxSpec, SandboxUnavailable
from hostler.sandbox.kubernetes import access, manifests
from hostler.sandbox.kubernetes.api import Api, ApiError, Unreachable
from hostler.sandbox.kubernetes.stream import open_exec

SPEC = SandboxSpec(key="sesn_1", network=NO_NETWORK)


def _refused(make_backend: MakeBackend, api: Cluster, **config: Any) -> str:
    """Why there is no sandbox."""

    async def main() -> str:
        backend = make_backend(api, **config)
        try:
            await backend.provision(SPEC)
        except SandboxUnavailable as error:
            return str(error)
        finally:
            await backend.aclose(stop=False)
        raise AssertionError

    return asyncio.run(main())


# -- pods that never run --


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_a_pod_that_cannot_start_is_taken_away_and_says_why(make_backend: MakeBackend, reason: str) -> None:
    with Cluster(runs_pods=False) as api:
        api.stuck = reason
        assert reason in _refused(make_backend, api)
        assert not api.objects["pods"]


def test_a_pod_that_does_not_come_is_given_up(make_backend: MakeBackend) -> None:
    with Cluster(runs_pods=False) as api:
        api.stuck = "ContainerCreating"
        said = _refused(make_backend, api, start_seconds=0.2)
        assert "after 0.2 seconds" in said
        assert "ContainerCreating" in said
        assert not api.objects["pods"]


def test_a_quota_is_told(make_backend: MakeBackend) -> None:
    with Cluster(runs_pods=False) as api:
        api.faults.append(Fault("POST /api/v1/namespaces/agents/pods", 403, message="exceeded quota: compute"))
        assert "exceeded quota" in _refused(make_backend, api)


def test_what_is_not_ours_is_left_alone(make_backend: MakeBackend) -> None:
    with Cluster(runs_pods=False) as api:
        api.faults.append(Fault("POST /api/v1/namespaces/agents/pods", 409))
        assert "not ours" in _refused(make_backend, api)


def test_no_sandbox_without_a_closed_network(make_backend: MakeBackend) -> None:
    with Cluster(runs_pods=False) as api:
        api.denied = {"list networkpolicies"}
        assert "NetworkPolicy" in _refused(make_backend, api)
        api.denied = {"create networkpolicies"}
        assert "NetworkPolicy" in _refused(make_backend, api)
        assert not api.objects["pods"]
        api.denied = set()
        open_policy = manifests.network_policy()
        open_policy["spec"]["egress"] = [{}]
        api.objects["networkpolicies"][manifests.POLICY] = open_policy
        assert "lets something through" in _refused(make_backend, api)


@pytest.mark.parametrize(
    ("change", "closed"),
    [
        ({}, True),
        ({"podSelector": {}}, True),
        ({"podSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "hostler"}}}, True),
        ({"podSelector": {"matchLabels": {"app": "other"}}}, False),
        ({"podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}, False),
        ({"policyTypes": ["Ingress"]}, False),
        ({"egress": [{}]}, False),
        ({"ingress": [{}]}, False),
    ],
)
def test_a_policy_is_taken_for_what_it_is(change: dict[str, Any], closed: bool) -> None:
    policy = manifests.network_policy()
    policy["spec"] |= change
    assert manifests.closes(policy) is closed


def test_without_the_resource_its_mode_says_what_to_install(make_backend: MakeBackend) -> None:
    with Cluster(runs_pods=False, versions=()) as api:
        assert "install agent-sandbox" in _refused(make_backend, api, mode="agent-sandbox")


# -- doctor --


def _probe(make_backend: MakeBackend, api: Cluster, **config: Any) -> dict[str, tuple[bool, str]]:
    backend = make_backend(api, **config)
    return {check.name: (check.ok, check.detail) for check in backend.probe()}


def test_doctor_says_what_is_there(make_backend: MakeBackend) -> None:
    with Cluster(runs_pods=False) as api:
        api.objects["networkpolicies"]["all"] = {
            "metadata": {"name": "all"},
            "spec": manifests.network_policy()["spec"],
        }
        found = _probe(make_backend, api, mode="agent-sandbox")
        for name in ("cluster", "permissions", "agent-sandbox", "network policy"):
            assert found[f"sandbox: {name}"][0], found
        assert found["sandbox: agent-sandbox"][1] == "agents.x-k8s.io/v1beta1"
        assert not found["sandbox: runtime"][0]
        assert not [line for line in api.lines if line.startswith(("DELETE", "PATCH"))]


def test_doctor_says_what_is_missing(make_backend: MakeBackend) -> None:
    with Cluster(runs_pods=False, versions=()) as api:
        api.denied = {"create pods/exec", "delete persistentvolumeclaims"}
        found = _probe(make_backend, api)
        ok, detail = found["sandbox: permissions"]
        assert not ok
        assert "create pods/exec" in detail
        assert "delete persistentvolumeclaims" in detail
        assert not found["sandbox: network policy"][0]
        assert "sandbox: agent-sandbox" not in found
        assert not _probe(make_backend, api, mode="agent-sandbox")["sandbox: agent-sandbox"][0]
    assert not _probe(make_backend, api)["sandbox: cluster"][0]  # it is gone


# -- requests --


def _ask(api: Cluster, work: Callable[[Api], Awaitable[Any]], **user: Any) -> Any:
    async def main() -> Any:
        client = Api(_access(api.kubeconfig(**user)))
        try:
            return await work(client)
        finally:
            await client.aclose()

    return asyncio.run(main())


def _access(content: Any, folder: Path = Path("/")) -> access.Access:
    return access._Kubeconfig(content, folder, os.environ).access("")


def test_a_token_that_was_renewed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with Cluster(runs_pods=False) as api:

        async def work(client: Api) -> None:
            await client.get("/version")
            api.token = "renewed"
            file.write_text("renewed\n")
            await client.get("/version")
            api.token = "of somebody else"
            with pytest.raises(ApiError) as refused:
                await client.get("/version")
            assert refused.value.status == 401
            assert "renewed" not in str(refused.value)

        _ask(api, work, tokenFile=str(file))


def test_the_token_of_a_plugin_is_used_and_asked_for_anew(tmp_path: Path) -> None:
    script = "import json, os; n = len(open('asked', 'a+').read()); open('asked', 'a').write('x')\n"
    script += "assert json.loads(os.environ['KUBERNETES_EXEC_INFO'])['kind'] == 'ExecCredential'\n"
    script += "print(json.dumps(dict(status=dict(token=open('token').read()))))"
    (tmp_path / "token").write_text("old")
    program = f"import os; os.chdir({str(tmp_path)!r})\n{script}"
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", program],
        "env": [{"name": "A", "value": "b"}],
        "interactiveMode": "Never",
    }
    with Cluster(runs_pods=False) as api:
        api.token = "old"

        async def work(client: Api) -> None:
            await client.get("/version")
            await client.get("/version")
            assert (tmp_path / "asked").read_text() == "x"
            (tmp_path / "token").write_text("new")
            api.token = "new"
            await client.get("/version")

        _ask(api, work, exec=plugin)
        bad = {**plugin, "args": ["-c", "print('secret'); raise SystemExit(1)"]}
        with pytest.raises(SandboxUnavailable, match="it ended with 1") as failed:
            _ask(api, lambda client: client.get("/version"), exec=bad)
        assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"username": "u", "password": "hunter2"}, "user name and password"),
        ({"auth-provider": {"name": "gcp"}}, "auth-provider"),
        ({"token": "t", "as": "admin"}, "impersonation"),
        ({"exec": {"apiVersion": "v0", "command": "x"}}, "must speak one of"),
    ],
)
def test_what_is_not_supported_is_said(user: dict[str, Any], words: str) -> None:
    content = Cluster(runs_pods=False).kubeconfig(**user)
    content["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    with pytest.raises(SandboxUnavailable, match=words) as refused:
        _access(content)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "a: {", "current-context: x", "contexts: 3", "token: hunter2 ]"])
def test_a_kubeconfig_that_is_none_is_refused_without_its_content(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(SandboxUnavailable) as refused:
        access.find(str(file), "", {})
    assert "hunter2" not in str(refused.value)


def test_a_pod_is_known_by_its_service_account(tmp_path: Path) -> None:
    authority, _, _ = _certificates()
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "ca.crt").write_bytes(authority)
    (tmp_path / "namespace").write_text("agents\n")
    around = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    found = access.find("", "", around, tmp_path)
    assert (found.url, found.namespace) == ("https://[fd00::1]:6443", "agents")
    assert TOKEN not in repr(found)
    named = tmp_path / "config"
    named.write_text(yaml.safe_dump(Cluster(runs_pods=False).kubeconfig() | {"clusters": []}))
    with pytest.raises(SandboxUnavailable, match="no cluster 'c'"):
        access.find("", "", {**around, "KUBECONFIG": str(named)}, tmp_path)


def _certificates() -> tuple[bytes, bytes, bytes]:
    """An authority, and a certificate of 127.0.0.1 and of a client, with its key."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "127.0.0.1")]
    made = []
    for number in range(2):
        builder = x509.CertificateBuilder().subject_name(names[number]).issuer_name(names[0])
        builder = builder.public_key(keys[number].public_key()).serial_number(number + 1)
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=number == 0, path_length=None), critical=True)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made[0], made[1], key


def test_tls_knows_the_cluster_and_shows_our_certificate(tmp_path: Path) -> None:
    """Against a bare TLS server that wants a client's certificate; requests and streams alike."""
    authority, certificate, key = _certificates()
    (tmp_path / "cert").write_bytes(certificate + key)
    (tmp_path / "ca").write_bytes(authority)
    served: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        served.append(head.split(b" HTTP")[0])
        body = b'{"message": "no more", "reason": "Forbidden"}'
        status = b"200 OK" if b"/version" in head else b"403 Forbidden"
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()
        writer.close()

    async def main() -> None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca"))
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_cert_chain(tmp_path / "cert")
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        content = Cluster(runs_pods=False).kubeconfig()
        content["clusters"][0]["cluster"] = {"server": url, "certificate-authority": "ca"}
        data = {"client-certificate-data": certificate, "client-key-data": key}
        content["users"][0]["user"] = {name: base64.b64encode(value).decode() for name, value in data.items()}
        client = Api(_access(content, tmp_path))
        assert (await client.get("/version"))["message"] == "no more"
        with pytest.raises(ApiError, match="no more"):
            await open_exec(client, "/api/v1/namespaces/agents/pods/p", "sandbox", ["a b", "c&d"])
        assert served[1].endswith(
            b"/exec?container=sandbox&stdin=true&stdout=true&stderr=true&command=a+b&command=c%26d"
        )
        await client.aclose()
        server.close()
        content["clusters"][0]["cluster"] = {"server": url}
        stranger = Api(_access(content, tmp_path))
        with pytest.raises(Unreachable):
            await open_exec(stranger, "/p", "sandbox", ["x"])

    asyncio.run(main())


def test_what_is_no_kubernetes_is_said_to_be_none() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = Api(access.Access(url, "agents", tls=None, token=access.NoToken()))
        with pytest.raises(Unreachable, match="no Kubernetes API"):
            await client.get("/version")
        with pytest.raises(SandboxUnavailable):
            await open_exec(client, "/p", "sandbox", ["x"])
        await client.aclose()
        server.close()

    asyncio.run(main())
