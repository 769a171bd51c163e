"""Layers are built once, in a sandbox, from the operator's index; whatever goes wrong leaves nothing half made."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hostler.sandbox import interpreter
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import NO_NETWORK, Folder, SandboxSpec, Shell
from hostler.sandbox.layers import building, manifests, pip, pipindex
from hostler.sandbox.layers.building import BuiltLayers
from hostler.sandbox.layers.packages import Layers, LayerUnavailable, PackageSet
from sandbox import ordinary
from sandbox.layered import QUIET, play, run_in
from sandbox.wheels import Index, serving, wheel

BUILDING = Path(__file__).with_name("building.py")
PROBE = PackageSet(lines=("hostler_probe==1.0",))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "hostler_needed")
    wheel(wheels, "hostler_probe", needs=("hostler_needed",))
    wheel(wheels, "hostler_probe", "2.0")
    with serving(wheels) as found:
        yield found


@pytest.fixture
def folder(folder: Path) -> Path:
    return folder.with_name("layers")


def environ(index: Index, **more: str) -> dict[str, str]:
    return {**QUIET, "PIP_INDEX_URL": index.url, **more}


def names(folder: Path) -> set[str]:
    """The layers, and everything that a build has left."""
    left = {
        f"{room}/{entry}"
        for room in ("building", "half")
        if (folder / room).is_dir()
        for entry in os.listdir(folder / room)
    }
    return left | {entry for entry in os.listdir(folder) if entry not in ("building", "half", "locks")}


def test_a_layer_is_built_once_and_imported(folder: Path, index: Index) -> None:
    built = []

    async def work(layers: Layers) -> None:
        assert await layers.find(PROBE) is None
        again = PackageSet(lines=("hostler_probe==1.0", "hostler_probe==1.0"))
        built.extend(await asyncio.gather(*(layers.ensure(PROBE) for _ in range(5)), layers.ensure(again)))
        assert await layers.find(PROBE) == built[0]

    play(folder, environ(index), work)
    assert len({layer.key for layer in built}) == 1
    assert sum(path.endswith("hostler_probe-1.0-py3-none-any.whl") for path in index.asked) == 1
    assert names(folder) == {built[0].key}
    manifest = manifests.read(built[0].source)
    assert manifest is not None
    assert manifest.packages == ["hostler_needed-1.0", "hostler_probe-1.0"]
    index.down = True
    play(folder, environ(index), lambda layers: layers.ensure(PROBE))  # offline: it is there
    said = run_in(
        [built[0]],
        "python3 -c 'import hostler_probe as p; print(p.VERSION, p.__file__, p.__cached__)'; ls $(dirname $(python3 -c "
        "'import hostler_probe as p; print(p.__cached__)')); pip list 2>/dev/null; env; cat ~/.config/pip/pip.conf",
        folder,
    )
    place = f"/opt/hostler/layers/{built[0].key}/python"
    assert f"1.0 {place}/hostler_probe.py" in said
    assert "hostler_probe.cpython" in said  # compiled ahead: nobody inside could keep it
    assert "s3cret" not in said
    assert "reader" not in said
    for path in folder.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


def test_pip_inside_works_beside_a_layer(folder: Path, index: Index) -> None:
    """What the agent installs goes before the layer, and pip takes what the layer has for installed."""
    layers_of: list[Any] = []

    async def work(layers: Layers) -> None:
        layers_of.append(await layers.ensure(PROBE))

    play(folder, environ(index), work)
    wheels = str(index.folder)
    index.folder.chmod(0o755)

    async def main() -> str:
        backend = BubblewrapBackend(folder.with_name("sandboxes"))
        spec = SandboxSpec(
            key="s", network=NO_NETWORK, layers=layers_of, shared=[Folder(source=Path(wheels), target="/mnt/w")]
        )
        try:
            sandbox = await backend.provision(spec)
            script = (
                "pip install --no-index -f /mnt/w hostler_probe==1.0 2>&1 | grep -c satisfied; "
                "pip install --no-index -f /mnt/w -U hostler_probe >/tmp/log 2>&1 || cat /tmp/log; "
                "python3 -c 'import hostler_probe; print(hostler_probe.VERSION)'; "
                "pip uninstall -y hostler_probe >/dev/null 2>&1; "
                "python3 -c 'import hostler_probe as p; print(p.VERSION)'; "
                "python3 -m venv --without-pip /tmp/v && /tmp/v/bin/python -c 'import hostler_probe' 2>&1 | tail -n 1"
            )
            first = (await sandbox.run("c", Shell(script=script))).output.decode()
            await backend.hibernate("s")
            sandbox = await backend.provision(spec)
            again = await sandbox.run("d", Shell(script="python3 -c 'import hostler_probe as p; print(p.VERSION)'"))
            return first + again.output.decode()
        finally:
            await backend.destroy("s")
            await backend.aclose(stop=True)

    lines = asyncio.run(main()).splitlines()
    assert lines[0] != "0"
    assert lines[1:] == [
        "2.0",
        "1.0",
        "ModuleNotFoundError: No module named 'hostler_probe'",
        "1.0",
    ]


def test_what_cannot_be_had_is_said_without_the_password_and_not_tried_all_the_time(folder: Path, index: Index) -> None:
    wanted = PackageSet(lines=("hostler_absent==9",))

    async def work(layers: Layers) -> None:
        with pytest.raises(LayerUnavailable) as refused:
            await layers.ensure(wanted)
        assert "hostler_absent" in refused.value.summary
        assert "hostler_absent" in refused.value.detail
        assert "s3cret" not in str(refused.value)
        asked = len(index.asked)
        with pytest.raises(LayerUnavailable):
            await layers.ensure(wanted)
        assert len(index.asked) == asked
        wheel(index.folder, "hostler_absent", "9")
        await layers.ensure(wanted, again=True)

    play(folder, environ(index), work)


def test_offline(folder: Path, index: Index) -> None:
    index.down = True

    async def work(layers: Layers) -> None:
        with pytest.raises(LayerUnavailable, match="hostler_probe"):
            await layers.ensure(PROBE)

    play(folder, environ(index, PIP_RETRIES="0"), work)
    assert names(folder) == set()


def test_too_large_and_too_slow(folder: Path, index: Index) -> None:
    wheel(index.folder, "hostler_large", more=3 * 1024 * 1024)

    async def large(layers: Layers) -> None:
        with pytest.raises(LayerUnavailable, match="layer_mb"):
            await layers.ensure(PackageSet(lines=("hostler_large",)))

    play(folder, environ(index), large, layer_mb=2)

    index.held = threading.Event()

    async def slow(layers: Layers) -> None:
        with pytest.raises(LayerUnavailable, match="layer_build_seconds"):
            await layers.ensure(PROBE)

    play(folder, environ(index), slow, layer_build_seconds=1.0)
    assert names(folder) == set()


def test_a_cancelled_wait_leaves_the_build_and_a_close_ends_it(folder: Path, index: Index) -> None:
    index.held = threading.Event()

    async def work(layers: Layers) -> None:
        layers.begin(PROBE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await layers.ensure(PROBE)
        assert await asyncio.to_thread(index.reached.wait, 30)

    play(folder, environ(index), work)
    assert names(folder) == set()
    index.held.set()
    play(folder, environ(index), lambda layers: layers.ensure(PROBE))
    assert len(names(folder)) == 1


def _child(folder: Path, index: Index, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(BUILDING), str(folder), *PROBE.lines]
    return subprocess.Popen(command, env=environment | environ(index), stdout=subprocess.PIPE, text=True)


def test_a_kill_in_mid_build_leaves_nothing_half_used(
    folder: Path, index: Index, child_environment: dict[str, str]
) -> None:
    """The build's sandbox outlives its server; the next one ends it and builds anew."""
    index.held = threading.Event()
    child = _child(folder, index, child_environment)
    assert index.reached.wait(60)
    child.kill()
    child.communicate()
    assert names(folder) != set()
    held, index.held = index.held, None

    async def work(layers: Layers) -> None:
        assert await layers.find(PROBE) is None
        layer = await layers.ensure(PROBE)
        assert manifests.read(layer.source) is not None

    play(folder, environ(index), work)
    held.set()
    assert len(names(folder)) == 1


def test_processes_share_a_folder_and_one_builds(folder: Path, index: Index, child_environment: dict[str, str]) -> None:
    children = [_child(folder, index, child_environment) for _ in range(3)]
    said = [child.communicate(timeout=100)[0].split() for child in children]
    assert [words[0] for words in said] == ["started"] * 3
    assert len({words[1] for words in said}) == 1
    assert sum(path.endswith("hostler_probe-1.0-py3-none-any.whl") for path in index.asked) == 1


def test_an_ordinary_user_builds_and_imports(index: Index, child_environment: dict[str, str]) -> None:
    """Root's run says nothing about a user without privileges; for an ordinary user this repeats the above."""
    with tempfile.TemporaryDirectory(prefix="hostler-user-") as path:
        Path(path).chmod(0o755)
        home = Path(path) / "home"
        home.mkdir()
        if os.geteuid() == 0:
            os.chown(home, ordinary.USER, ordinary.USER)
        more = environ(index, HOME=str(home))
        done = ordinary.run(
            BUILDING.read_text(),
            str(home / "layers"),
            *PROBE.lines,
            staging=Path(path),
            env=child_environment | more,
            cwd="/",
            timeout=100,
        )
        shutil.rmtree(home, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    started, key = done.stdout.split()
    assert (started, len(key)) == ("started", 32)


def test_a_fault_of_the_server_is_a_failed_build(
    folder: Path, index: Index, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a fault")

    async def work(layers: Layers) -> None:
        with pytest.raises(LayerUnavailable, match="the server failed; its log says why"):
            await layers.ensure(PROBE)

    monkeypatch.setattr(manifests, "inspect", fails)
    play(folder, environ(index), work)
    assert "RuntimeError: a fault" in caplog.text
    assert names(folder) == set()


def test_old_layers_go_and_used_ones_stay(folder: Path, index: Index) -> None:
    async def work(layers: BuiltLayers) -> None:
        old = await layers.ensure(PackageSet(lines=("hostler_needed",)))
        used = await layers.ensure(PROBE)
        month = time.time() - 40 * 24 * 3600
        os.utime(old.source / manifests.MANIFEST, (month, month))
        os.utime(used.source / manifests.MANIFEST, (month, month))
        (folder / "half" / f"{old.key}-left").mkdir()
        assert await layers.ensure(PROBE) == used  # asked for: in use again
        await layers.sweep()
        assert names(folder) == {used.key}

    play(folder, environ(index), work)


def test_old_layers_go_from_a_server_that_runs_for_long(
    folder: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(layers: BuiltLayers) -> None:
        old = await layers.ensure(PackageSet(lines=("hostler_needed",)))
        used = await layers.ensure(PROBE)
        await asyncio.gather(*layers._begun)
        month = time.time() - 40 * 24 * 3600
        os.utime(old.source / manifests.MANIFEST, (month, month))
        await layers.ensure(PROBE)
        assert names(folder) == {old.key, used.key}
        monkeypatch.setattr(building, "SWEEP_SECONDS", 0.0)  # a day has passed
        await layers.ensure(PROBE)
        await asyncio.gather(*layers._begun)
        assert names(folder) == {used.key}

    play(folder, environ(index), work)


def test_a_layer_that_somebody_has_damaged_is_built_again(folder: Path, index: Index) -> None:
    async def work(layers: Layers) -> None:
        layer = await layers.ensure(PROBE)
        (layer.source / manifests.MANIFEST).write_text("{")
        assert await layers.find(PROBE) is None
        again = await layers.ensure(PROBE)
        assert (again.source / "python/hostler_probe.py").is_file()

    play(folder, environ(index), work)
    assert len(names(folder)) == 1


def test_a_python_without_pip_is_lent_one(folder: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    found = interpreter.find()
    assert found is not None
    monkeypatch.setattr(interpreter, "find", lambda: msgspec.structs.replace(found, has_pip=False))
    places = [pip.lent_pip()[0].source]
    play(folder, environ(index), lambda layers: layers.ensure(PROBE))
    monkeypatch.setattr(pip.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pip.Missing, match="python3-pip"):
        pip.lent_pip()

    async def obstacle(layers: Layers) -> None:
        assert "python3-pip" in (await layers.obstacle() or "")

    play(folder, environ(index), obstacle)
    assert places[0].is_dir()


def test_without_python_or_sandbox_it_says_what_to_install(
    folder: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "find", lambda: None)

    async def work(layers: Layers) -> None:
        with pytest.raises(LayerUnavailable, match="install python3"):
            await layers.ensure(PROBE)

    play(folder, environ(index), work)

    async def other(layers: Layers) -> None:
        layers.begin(PROBE)
        for ask in (layers.ensure, layers.find):
            with pytest.raises(LayerUnavailable, match="no package layers"):
                await ask(PROBE)

    play(folder, environ(index), other, backend="none")


@pytest.mark.parametrize("line", ["", "-e .", "--pre", "./x.whl", "/etc/x", "~/x", "a @ file:///x", "a\nb", "#x"])
def test_only_requirements_are_lines(folder: Path, index: Index, line: str) -> None:
    async def work(layers: Layers) -> None:
        with pytest.raises(LayerUnavailable, match="is not a requirement"):
            await layers.ensure(PackageSet(lines=(line,)))

    play(folder, environ(index), work)


def test_hostile_builds_are_refused(tmp_path: Path) -> None:
    """What a package's build may leave in the place of packages."""
    made = tmp_path / "layer"
    made.symlink_to("/etc")
    with pytest.raises(manifests.Unfit):
        manifests.inspect(made, frozenset({"python"}), 1000)
    made.unlink()
    (made / "python").mkdir(parents=True)
    (made / "layer.json").symlink_to("/etc/passwd")
    with pytest.raises(manifests.Unfit):
        manifests.inspect(made, frozenset({"python"}), 1000)
    (made / "layer.json").unlink()
    os.mkfifo(made / "python" / "pipe")
    with pytest.raises(manifests.Unfit, match="neither a file"):
        manifests.inspect(made, frozenset({"python"}), 1000)
    (made / "python" / "pipe").unlink()
    (made / "python" / "link").symlink_to("/etc/shadow")
    (made / "python" / "tool").write_text("x")
    (made / "python" / "tool").chmod(0o4711)
    (made / "python" / "closed").mkdir(mode=0)
    assert manifests.inspect(made, frozenset({"python"}), 1000).bytes == 1
    assert (made / "python" / "tool").stat().st_mode & 0o7777 == 0o755
    assert (made / "python" / "closed").stat().st_mode & 0o7777 == 0o755
    assert os.readlink(made / "python" / "link") == "/etc/shadow"


def test_the_operators_index_is_understood(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    conf = tmp_path / "pip.conf"
    conf.write_text(
        "[global]\nindex-url = https://tok3n-word@packages.corp/x\ntrusted-host = files.corp\n  10.0.0.5:81\n"
        f"find_links = {wheels} /nonexistent https://links.corp/x\ncert = /ca.pem\n[install]\nno-index = true\n"
    )
    found = pipindex.read({"PIP_CONFIG_FILE": str(conf), "PIP_EXTRA_INDEX_URL": "http://u:pa%40ss@10.0.0.5:3141/x"})
    assert found.variables == {
        "PIP_INDEX_URL": "https://tok3n-word@packages.corp/x",
        "PIP_EXTRA_INDEX_URL": "http://u:pa%40ss@10.0.0.5:3141/x",
        "PIP_FIND_LINKS": "/mnt/links/0 https://links.corp/x",
        "PIP_NO_INDEX": "true",
        "PIP_TRUSTED_HOST": "files.corp 10.0.0.5:81",
    }
    assert [(str(each.source), each.target) for each in found.folders] == [(str(wheels), "/mnt/links/0")]
    assert {
        ("packages.corp", 443),
        ("10.0.0.5", 3141),
        ("10.0.0.5", 81),
        ("files.corp", 443),
        ("pypi.org", 443),
    } <= found.reach.hosts
    assert ("10.0.0.5", 80) not in found.reach.hosts
    assert found.reach.bundle == Path("/ca.pem")
    assert repr(found) == "PipIndex(...)"
    said = found.reach.redact("tok3n-word pa@ss pa%40ss https://someone:else@host/x")
    assert not [word for word in ("tok3n", "pa@ss", "pa%40ss", "else") if word in said]


def test_a_build_reaches_the_named_private_ports_and_no_others(folder: Path, index: Index) -> None:
    """What is built may be hostile: this host's other services are none of its business."""
    with serving(index.folder) as other:

        async def work(layers: Layers) -> None:
            with pytest.raises(LayerUnavailable):
                await layers.ensure(
                    PackageSet(lines=(f"hostler_probe @ {other.url}/hostler_probe-1.0-py3-none-any.whl",))
                )

        play(folder, environ(index, PIP_RETRIES="0"), work)
        assert other.asked == []


def test_the_way_to_the_index() -> None:
    quiet = {"PIP_CONFIG_FILE": "/dev/null"}
    assert pipindex.read(quiet).reach.upstream is None
    proxied = quiet | {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".corp,10.0.0.5"}
    assert pipindex.read(proxied).reach.upstream == "http://proxy:3128"
    assert pipindex.read(proxied, "http://mine:1").reach.upstream == "http://mine:1"
    assert pipindex.read(proxied | {"PIP_INDEX_URL": "https://packages.corp/x"}).reach.upstream is None
