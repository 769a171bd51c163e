"""Package layers on real engines: built in containers of the sessions' image, taken out as data, and shared.

Most of it does not depend on the kind of engine and is tried on one; the way through a whole server on the other.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import daemons
from engines.conftest import KINDS, MakeBackend
from failures.client import Api, results
from hostler.sandbox.backends import SandboxConfig, open_layers
from hostler.sandbox.contract import NO_NETWORK, SandboxSpec, Shell
from hostler.sandbox.engine.api import Engine
from hostler.sandbox.engine.http import Address, EngineHttp
from hostler.sandbox.engine.spec import FOLDER_LABEL
from hostler.sandbox.layers import manifests
from hostler.sandbox.layers.packages import Layers, LayerUnavailable, PackageSet
from running import SOURCE, Server
from sandbox.layered import QUIET, Work, play, say
from sandbox.wheels import Index, serving, wheel

BUILDING = Path(__file__).with_name("building.py")
TESTS = Path(__file__).parents[1]
PROBE = PackageSet(lines=("hostler_probe==1.0",))
ABSENT = PackageSet(lines=("hostler_absent==9",))
on_one_engine = pytest.mark.parametrize("engine", KINDS[:1], indirect=True)
on_the_other = pytest.mark.parametrize("engine", KINDS[-1:], indirect=True)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "hostler_needed")
    wheel(wheels, "hostler_probe", needs=("hostler_needed",))
    with serving(wheels) as found:
        yield found


@pytest.fixture
def layers_folder(folder: Path) -> Path:
    return folder.with_name("layers")


def _environ(index: Index) -> dict[str, str]:
    return {**QUIET, "PIP_INDEX_URL": index.url, "PIP_RETRIES": "0"}


def _settings(engine: str) -> dict[str, Any]:
    return {"backend": "docker", "engine": engine, "image": daemons.IMAGE, "memory_mb": 1024}


def _open(engine: str, folder: Path, environ: dict[str, str]) -> Layers:
    return open_layers(folder, SandboxConfig(**_settings(engine)), environ)


def _play(engine: str, folder: Path, environ: dict[str, str], work: Work) -> None:
    play(folder, environ, work, **_settings(engine))


async def _left_on(engine: str, folder: Path) -> list[str]:
    """What the engine has of builds, and what the folder has beside whole layers."""
    asked = Engine(EngineHttp(Address.parse(engine)))
    label = f"{FOLDER_LABEL}={(folder / 'building' / '.install').read_text()}"
    containers = [str(found["Names"]) for found in await asked.labelled(label)]
    rooms = [str(path) for room in ("building", "half") for path in (folder / room).glob("[0-9a-f]*")]
    return containers + await asked.volumes(label) + rooms


@on_one_engine
def test_a_layer_is_built_once_in_a_container_and_imported(
    engine: str, layers_folder: Path, folder: Path, index: Index, make_backend: MakeBackend
) -> None:
    async def work(layers: Layers) -> None:
        other = _open(engine, layers_folder, _environ(index))  # as another process on the same data folder
        built = await asyncio.gather(*(each.ensure(PROBE) for each in (layers, layers, other)))
        await other.aclose()
        assert len({layer.key for layer in built}) == 1
        assert sum(path.endswith("hostler_probe-1.0-py3-none-any.whl") for path in index.asked) == 1
        assert [kept.packages for kept in await layers.kept()] == [["hostler_needed-1.0", "hostler_probe-1.0"]]
        asking = "import hostler_probe as p; print(p.VERSION, p.__file__, p.__cached__)"
        look = f"python3 -c '{asking}'; ls $(dirname $(python3 -c '{asking}' | cut -d' ' -f3)); env"
        backend = make_backend()
        sandbox = await backend.provision(SandboxSpec(key="sesn_1", network=NO_NETWORK, layers=[built[0]]))
        said = (await sandbox.run("a", Shell(script=look))).output.decode()
        assert f"1.0 /opt/hostler/layers/{built[0].key}/python/hostler_probe.py" in said
        assert "hostler_probe.cpython" in said
        assert "s3cret" not in said
        assert await layers.mounted(folder) == {built[0].key}
        await backend.destroy("sesn_1")
        await backend.aclose(stop=True)
        assert await layers.mounted(folder) == set()

    async def failing(layers: Layers) -> None:
        with pytest.raises(LayerUnavailable) as refused:
            await layers.ensure(ABSENT)
        assert refused.value.package == "hostler_absent==9"
        assert "No matching distribution found for hostler_absent" in refused.value.detail
        assert "s3cret" not in str(refused.value)
        for manager, words in (("npm", "has no npm"), ("cargo", "has no cargo"), ("apt", "put the packages into")):
            assert words in (await layers.obstacle(manager) or "")

    async def both(layers: Layers) -> None:
        await asyncio.gather(work(layers), failing(layers))
        assert await _left_on(engine, layers_folder) == []

    _play(engine, layers_folder, _environ(index), both)
    for path in layers_folder.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


_BACKEND = """
import base64, hashlib, os, subprocess, zipfile
def build_wheel(folder, settings=None, metadata=None):
    subprocess.run(["bash", "-c", SCRIPT], check=True)
    info = "{name}-1.0.dist-info"
    files = {{"{name}.py": "", f"{{info}}/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n",
             f"{{info}}/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}}
    with zipfile.ZipFile(f"{{folder}}/{name}-1.0-py3-none-any.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{{info}}/RECORD", "".join(f"{{file}},,\\n" for file in [*files, f"{{info}}/RECORD"]))
    return "{name}-1.0-py3-none-any.whl"
"""


def _source(folder: Path, name: str, script: str) -> None:
    """A package whose build runs a script."""
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": f"SCRIPT = {script!r}\n{_BACKEND.format(name=name)}",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    }
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
        for file, text in files.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


_LAYER = "/workspace/layer"
_TRIES = (
    "cat {victim}",
    "echo x > {victim}",
    "echo x > /mnt/links/0/evil",
    "echo x > /usr/bin/evil",
    "mknod dev c 1 3",
    "mount -t tmpfs none /mnt",
    "unshare -U true",
    "ls /proc/1/root",
    "ls /opt/hostler/run",
)


@on_one_engine
def test_what_a_hostile_package_leaves_is_data(
    engine: str, layers_folder: Path, tmp_path: Path, make_backend: MakeBackend
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("host's")
    victim.chmod(0o666)
    links = tmp_path / "links"
    links.mkdir()
    tries = "".join(
        f"({each.format(victim=victim)}) >/dev/null 2>&1 && echo DID {number} >> {_LAYER}/python/said; "
        for number, each in enumerate(_TRIES)
    )
    _source(
        links,
        "hostler_sly",
        f"mkdir -p {_LAYER}/python/closed && cd {_LAYER}/python && echo ran > said; {tries}"
        f"cp /usr/bin/id suid; chmod 6755 suid; ln -s {victim} link; ln said hard; chmod 0 closed; "
        f"(setsid sh -c 'while :; do echo late >> {_LAYER}/python/said; sleep 0.1; done' >/dev/null 2>&1 &) ; true",
    )
    log = "rm -f /workspace/build.log; ln -s /dev/null /workspace/build.log"
    _source(links, "hostler_pipe", f"{log}; mkdir -p {_LAYER}/python; mkfifo {_LAYER}/python/pipe || true")
    environ = {"PIP_FIND_LINKS": str(links), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}

    async def work(layers: Layers) -> None:
        async def refused() -> None:
            with pytest.raises(LayerUnavailable, match="neither a file nor a folder"):
                await layers.ensure(PackageSet(lines=("hostler_pipe",), compile=True))

        sly = layers.ensure(PackageSet(lines=("hostler_sly",), compile=True))
        layer, _ = await asyncio.gather(sly, refused())
        top = layer.source / "python"
        said = (top / "said").read_text()
        assert said.startswith("ran\n")
        assert "DID" not in said
        for name, mode in (("suid", 0o755), ("closed", 0o755), ("said", 0o644)):
            about = (top / name).stat()
            assert (about.st_mode & 0o7777, about.st_uid) == (mode, os.geteuid())
        assert os.readlink(top / "link") == str(victim)
        assert (await say(make_backend(), [layer], f"cat /opt/hostler/layers/{layer.key}/python/link")).count("No such")
        assert (top / "said").read_text() == said  # nothing of the build runs any more
        assert await _left_on(engine, layers_folder) == []

    _play(engine, layers_folder, environ, work)
    assert victim.read_text() == "host's"
    assert not (links / "evil").exists()


@on_one_engine
def test_a_kill_in_mid_build_leaves_nothing_half_used(engine: str, layers_folder: Path, index: Index) -> None:
    """The build's container outlives its server; the next one ends it and builds anew, or sweeps it away."""
    index.held = threading.Event()
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    path = os.pathsep.join([str(TESTS), str(SOURCE), *sys.path])
    env = keep | _environ(index) | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(BUILDING), str(layers_folder), engine, *PROBE.lines]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as child:
        assert index.reached.wait(60)
        child.kill()
    held, index.held = index.held, None

    async def work(layers: Layers) -> None:
        assert len(await _left_on(engine, layers_folder)) > 5
        assert await layers.find(PROBE) is None
        begun = time.monotonic()
        assert manifests.read((await layers.ensure(PROBE)).source) is not None
        assert time.monotonic() - begun < 60
        assert await _left_on(engine, layers_folder) == []

    _play(engine, layers_folder, _environ(index), work)
    held.set()


_RULES = [
    {
        "when": {"user_text_matches": "(?s)^run:\\s*(.*\\S)"},
        "turns": [{"tools": [{"name": "bash", "input": {"command": "{{1}}"}}]}, {"text": "{{last_tool_result}}"}],
    }
]


def _command(server: Server, environ: dict[str, str], config: str, *words: str) -> str:
    file = server.data_dir.parent / "engine.toml"
    file.write_text(config)
    argv = [sys.executable, "-m", "hostler.cli", "environments", *words, "--config", str(file)]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "HOSTLER_DATA_DIR": str(server.data_dir), **environ}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout


@on_the_other
def test_a_session_has_its_packages(engine: str, tmp_path: Path, index: Index) -> None:
    """Through a whole server: what the image lacks costs no other packages, and the operator's commands see it all."""
    kind = "podman" if "podman" in engine else "docker"
    config = f'[sandbox]\nbackend = "{kind}"\nengine = "{engine}"\nimage = "{daemons.IMAGE}"\nmemory_mb = 1024\n'
    environ = {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "HTTPS_PROXY": "", "https_proxy": "", **_environ(index)}
    server = Server(tmp_path / "data", config=config, scripted={"rules": _RULES}, environ=environ)
    with server, Api(server) as api:
        packages = {"apt": ["tree"], "npm": ["hostler-tool"], "pip": ["hostler_probe"]}
        environment = api.post("/v1/environments", {"name": "e", "config": {"type": "cloud", "packages": packages}})
        body = {"agent": api.agent()["id"], "environment_id": environment["id"]}
        session = str(api.post("/v1/sessions", body)["id"])
        events = api.turn(session, "run: python3 -c 'import hostler_probe as p; print(p.__file__)'")
        assert "/opt/hostler/layers/" in str(results(events)[0]["content"])
        messages = [event["error"]["message"] for event in events if event["type"] == "session.error"]
        assert len(messages) == 2
        assert "in a container are the image's: put the packages into the image" in messages[0]
        assert "has no npm" in messages[1]
        told = json.loads(_command(server, environ, config, "layers", "--json"))
        assert (told["manager"], told["mounted"], told["used_by"]) == ("pip", True, [environment["id"]])
        api.post(f"/v1/environments/{environment['id']}", {"config": {"type": "cloud", "packages": {"pip": []}}})
        assert "0 layers removed" in _command(server, environ, config, "prune")  # a sandbox that lives has it
        assert "Traceback" not in server.log()
