"""Sandboxes in pods through what befalls them: a killed server, cut streams, an API that is away, pods that end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from clusters.conftest import NODE, MakeBackend
from clusters.simulated import Cluster, Fault
from hostler.sandbox.backends import SandboxConfig, open_backend
from hostler.sandbox.container.backend import ContainerBackend
from hostler.sandbox.contract import (
    NO_NETWORK,
    RIPGREP,
    Exec,
    Network,
    SandboxSpec,
    SandboxUnavailable,
    Shell,
    UnknownCall,
)
from hostler.sandbox.edge.egress import EgressPolicy, EgressProxy

KEY = "sesn_1"
SPEC = SandboxSpec(key=KEY, network=NO_NETWORK)
SOURCES = Path(__file__).parents[2] / "src"
pytestmark = pytest.mark.skipif(
    not NODE, reason="only root, with namespaces, can be a node: see test_api.py for the rest"
)


@pytest.fixture
def api() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


def _with(backend: ContainerBackend, work: Callable[[ContainerBackend], Awaitable[None]]) -> None:
    async def main() -> None:
        try:
            await work(backend)
        finally:
            await backend.destroy(KEY)
            await backend.aclose(stop=True)

    asyncio.run(main())


def _killed_server(folder: Path, commands: list[list[str]]) -> None:
    """Run a stand-in until its calls have arrived, and kill it with -9."""
    standin = Path(__file__).with_name("standin.py")
    argv = [sys.executable, str(standin), str(folder), str(folder.parent / "kubeconfig"), KEY, json.dumps(commands)]
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env = keep | {"PYTHONPATH": os.pathsep.join([str(SOURCES), *sys.path]), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "started\n"
        server.kill()


@pytest.mark.parametrize("protocols", [("v5.channel.k8s.io", "v4.channel.k8s.io"), ("v4.channel.k8s.io",)])
def test_calls_are_collected_after_kill_9(
    api: Cluster, folder: Path, make_backend: MakeBackend, protocols: tuple[str, ...]
) -> None:
    api.protocols = protocols
    backend = make_backend(api)
    ended, running = "echo x >> ended; echo early; exit 3", "sleep 1; echo x >> late; echo late"
    _killed_server(folder, [["a", "exec", ended], ["b", "shell", running], ["d", "shell", "sleep 600"]])

    async def work(backend: ContainerBackend) -> None:
        sandbox = await backend.find(KEY)
        assert sandbox is not None
        results = await asyncio.gather(*(sandbox.attach(call_id) for call_id in "ab"))
        assert [(r.exit_code, r.output) for r in results] == [(3, b"early\n"), (0, b"late\n")]
        with pytest.raises(UnknownCall):
            await sandbox.attach("never")
        await sandbox.cancel("d")
        assert (await sandbox.attach("d")).cancelled
        assert (await sandbox.run("e", Shell(script="cat ended late | wc -l"))).output.strip() == b"2"

    _with(backend, work)


@pytest.mark.parametrize("refusals", [0, 3])
def test_a_call_goes_on_when_its_stream_is_cut(api: Cluster, make_backend: MakeBackend, refusals: int) -> None:
    async def work(backend: ContainerBackend) -> None:
        sandbox = await backend.provision(SPEC)
        generation = sandbox.generation
        script = "echo x >> count; until [ -e go ]; do sleep 0.05; done; echo done"
        waiting = asyncio.create_task(sandbox.run("a", Exec(argv=["bash", "-c", script])))
        await sandbox.calls.hello()
        api.faults.append(Fault("init relay", 500, times=refusals, message="error dialing backend"))
        api.cut()
        said = await sandbox.run("b", Shell(script="touch go; x=1; echo $x"))  # asked for while the way is broken
        assert said.output == b"1\n"
        assert (await waiting).output == b"done\n"
        assert (await sandbox.run("c", Shell(script="wc -l < count; echo $x"))).output == b"1\n1\n"
        assert sandbox.generation == generation

    _with(make_backend(api), work)


def test_an_api_that_is_away_for_long_ends_the_wait_and_not_the_call(api: Cluster, make_backend: MakeBackend) -> None:
    async def work(backend: ContainerBackend) -> None:
        sandbox = await backend.provision(SPEC)
        waiting = asyncio.create_task(sandbox.run("a", Exec(argv=["bash", "-c", "sleep 1; echo late"])))
        await sandbox.calls.hello()
        fault = Fault("init relay", 503, times=1000, message="the API rests")
        api.faults.append(fault)
        api.cut()
        with pytest.raises(SandboxUnavailable, match="the API rests"):
            await waiting
        with pytest.raises(SandboxUnavailable, match="the API rests"):
            await backend.find(KEY)  # nobody can know what became of the call: None would say that it is lost
        fault.times = 0
        found = await backend.find(KEY)
        assert found is not None
        assert (await found.attach("a")).output == b"late\n"

    _with(make_backend(api, patience=0.3), work)


@pytest.mark.parametrize(("reason", "words"), [("OOMKilled", "OOMKilled"), ("Evicted", "low on resource: memory")])
@pytest.mark.parametrize("mode", ["pods", "agent-sandbox"])
def test_a_pod_that_was_ended_says_why_and_a_fresh_one_has_the_files(
    api: Cluster, make_backend: MakeBackend, mode: str, reason: str, words: str
) -> None:
    async def work(backend: ContainerBackend) -> None:
        sandbox = await backend.provision(SPEC)
        await sandbox.run("a", Shell(script="echo kept > file"))
        waiting = asyncio.create_task(sandbox.run("b", Shell(script="sleep 60")))
        await sandbox.calls.hello()
        api.end_pod(api.pod()["metadata"]["name"], "Failed", reason, "The node was low on resource: memory.")
        with pytest.raises(SandboxUnavailable, match=words):
            await waiting
        assert await backend.find(KEY) is None
        again = await backend.provision(SPEC)
        assert again.generation != sandbox.generation
        assert (await again.run("c", Shell(script="cat file"))).output == b"kept\n"

    _with(make_backend(api, mode=mode), work)


def test_an_api_in_trouble_is_asked_again_and_nothing_is_made_twice(api: Cluster, make_backend: MakeBackend) -> None:
    folder = "/api/v1/namespaces/agents"
    api.faults += [
        Fault("POST /apis/networking", 429, after="0"),
        Fault(f"POST {folder}/pods", 0, late=True),  # made, and the answer lost
        Fault(f"POST {folder}/persistentvolumeclaims", 500),
        Fault(f"GET {folder}/pods", 0, times=2),
        Fault("head -c", 503),
        Fault("init relay", 500, message="error dialing backend"),
    ]

    async def work(backend: ContainerBackend) -> None:
        sandbox = await backend.provision(SPEC)
        assert (await sandbox.run("a", Shell(script="echo up"))).output == b"up\n"
        assert len(api.objects["pods"]) == len(api.objects["persistentvolumeclaims"]) == 1

    _with(make_backend(api), work)


@pytest.mark.parametrize("versions", [("v1alpha1",), ("v1alpha1", "v1beta1", "v2")])
def test_sandbox_resources_of_both_versions_sleep_and_wake(
    api: Cluster, make_backend: MakeBackend, versions: tuple[str, ...]
) -> None:
    api.versions = versions

    async def work(backend: ContainerBackend) -> None:
        sandbox = await backend.provision(SPEC)
        await sandbox.run("a", Shell(script="echo kept > file; x=7"))
        (resource,) = api.objects["sandboxes"].values()
        await backend.hibernate(KEY)
        assert not api.objects["pods"]
        asleep = {"v1alpha1": ("replicas", 0), "v1beta1": ("operatingMode", "Suspended")}
        name, value = asleep[resource["apiVersion"].rpartition("/")[2]]
        assert resource["spec"][name] == value
        again = await backend.provision(SandboxSpec(key=KEY, network=NO_NETWORK, folders=["/repo"]))
        assert (await again.run("b", Shell(script="cat file; echo $x; touch /repo/a"))).output == b"kept\n7\n"

    _with(make_backend(api, mode="agent-sandbox"), work)
    assert not any(api.objects[kind] for kind in ("sandboxes", "pods", "persistentvolumeclaims"))


def test_reap_ends_its_own_and_spares_others(api: Cluster, make_backend: MakeBackend) -> None:
    async def work(backend: ContainerBackend) -> None:
        sandbox = await backend.provision(SPEC)
        await sandbox.run("a", Shell(script="echo kept > file; x=7"))
        await backend.aclose(stop=False)
        stranger = {"metadata": {"name": "other", "labels": {}, "annotations": {"hostler.io/session": KEY}}}
        api.objects["pods"]["other"] = stranger
        later = make_backend(api)
        await later.reap({KEY})
        assert await later.find(KEY) is not None
        await later.aclose(stop=False)
        last = make_backend(api)
        await last.reap(set())
        assert await last.find(KEY) is None
        assert list(api.objects["pods"].values()) == [stranger]
        again = await last.provision(SPEC)
        assert (await again.run("b", Shell(script="cat file; echo $x"))).output == b"kept\n7\n"
        await last.aclose(stop=True)

    _with(make_backend(api), work)


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "1000000")
        self.end_headers()
        self.wfile.write(b"x" * 1_000_000)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[EgressProxy]:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34"]

    async def connect(address: str, _: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", server.server_port, limit=65536)

    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield EgressProxy(EgressPolicy(), resolve=resolve, connect=connect)
        server.shutdown()
        thread.join()


_STATUS = """
import urllib.error, urllib.request
for name in ("one.test", "two.test"):
    try: print(len(urllib.request.urlopen(f"http://{name}/").read()))
    except urllib.error.HTTPError as error: print(error.code)
    except OSError as error: print("no way")
"""


def test_the_way_out_goes_through_the_stream_also_after_a_cut(
    api: Cluster, make_backend: MakeBackend, proxy: EgressProxy
) -> None:
    async def work(backend: ContainerBackend) -> None:
        sandbox = await backend.provision(SandboxSpec(key=KEY, network=Network(hosts=("one.test",))))
        for number in range(2):
            result = await sandbox.run(f"a{number}", Exec(argv=["python3", "-c", _STATUS], timeout_ms=60_000))
            assert result.output == b"1000000\n403\n", result.errors
            api.cut()

    _with(make_backend(api, proxy), work)


_CONFIG = """
[sandbox]
backend = "kubernetes"
image = "registry.example/sandbox:1"
runtime = "gvisor"
memory_mb = 512
disk_mb = 64
[sandbox.kubernetes]
kubeconfig = "{path}"
context = "test"
storage_class = "fast"
pull_secrets = ["registry"]
node_selector = {{ pool = "agents" }}
tolerations = [{{ key = "agents", operator = "Exists" }}]
memory_request_mb = 1024
"""


def test_the_config_file_opens_it(api: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(api.kubeconfig()))
    config = msgspec.convert(tomllib.loads(_CONFIG.format(path=path))["sandbox"], SandboxConfig)
    backend = open_backend(tmp_path / "sandboxes", config, {})
    assert isinstance(backend, ContainerBackend)

    async def work(backend: ContainerBackend) -> None:
        sandbox = await backend.provision(SPEC)
        look = await sandbox.run("a", Exec(argv=[RIPGREP, "--version"]))
        assert look.output.startswith(b"ripgrep")
        spec = api.pod()["spec"]
        assert spec["runtimeClassName"] == "gvisor"
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        assert spec["nodeSelector"]["pool"] == "agents"
        assert spec["tolerations"] == config.kubernetes.tolerations if config.kubernetes else None
        resources = spec["containers"][0]["resources"]
        assert resources["limits"]["memory"] == "640Mi"
        assert resources["requests"]["memory"] == "512Mi"  # never more than the limit
        (claim,) = api.objects["persistentvolumeclaims"].values()
        assert claim["spec"]["storageClassName"] == "fast"
        assert claim["spec"]["resources"]["requests"]["storage"] == "64Mi"

    _with(backend, work)


_RIGHTS = (0, 5, 6, 7, 8)  # CHOWN, KILL, SETGID, SETUID, SETPCAP: of the init alone, the agent has none


def test_the_pod_has_no_more_than_it_needs(api: Cluster, make_backend: MakeBackend) -> None:
    async def work(backend: ContainerBackend) -> None:
        sandbox = await backend.provision(SPEC)
        status = (await sandbox.run("a", Shell(script="grep -E '^Cap(Prm|Bnd)|^NoNew' /proc/1/status; env"))).output
        held = f"{sum(1 << number for number in _RIGHTS):016x}"
        assert status.decode().split()[:6] == ["CapPrm:", held, "CapBnd:", held, "NoNewPrivs:", "1"]
        assert b"KUBERNETES" not in status
        assert api.token.encode() not in status
        spec: dict[str, Any] = api.pod()["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["hostUsers"] is False
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"].keys() >= {"memory", "ephemeral-storage"}

    _with(make_backend(api), work)
