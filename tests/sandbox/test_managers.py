"""Each package manager, for real, against a registry on the loopback: what it installs is found without any set-up."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hostler.sandbox.contract import Layer
from hostler.sandbox.layers import toolchains
from hostler.sandbox.layers.packages import Layers, LayerUnavailable, PackageSet
from sandbox import ordinary, registries
from sandbox.layered import play, run_in
from sandbox.registries import serving

BUILDING = Path(__file__).with_name("building_many.py")
PROBE = "hostler-probe"


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if toolchains.find(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not on this machine: {', '.join(missing)}")


@pytest.fixture
def folder(folder: Path) -> Path:
    registries.share_base(folder.with_name("layers"))
    return folder.with_name("layers")


def build(folder: Path, settings: dict[str, str], packages: PackageSet, **config: Any) -> Layer:
    built: list[Layer] = []

    async def work(layers: Layers) -> None:
        built.append(await layers.ensure(packages))

    play(folder, settings, work, **config)
    return built[0]


def refusal(folder: Path, settings: dict[str, str], packages: PackageSet, **config: Any) -> LayerUnavailable:
    refused: list[LayerUnavailable] = []

    async def work(layers: Layers) -> None:
        with pytest.raises(LayerUnavailable) as caught:
            await layers.ensure(packages)
        refused.append(caught.value)

    play(folder, settings, work, **config)
    return refused[0]


def assert_no_login(folder: Path, said: str) -> None:
    """No login is in a layer, in what is said inside, or in the folders of builds."""
    assert "s3cret" not in said
    assert {path.name for path in (folder / "building").iterdir()} <= {".base"}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"s3cret" not in path.read_bytes(), path


@needs("node", "npm")
def test_npm(folder: Path, tmp_path: Path) -> None:
    with serving() as registry:
        registries.npm_package(registry, PROBE)
        registries.npm_package(registry, "@scope/other")
        settings = registries.npm_settings(registry, tmp_path / "npm")
        layer = build(folder, settings, PackageSet(manager="npm", lines=(PROBE, "@scope/other@1.0.0")))
        script = (
            f'{PROBE}; cd /tmp; node -e \'console.log(require("{PROBE}"), require("@scope/other"))\'; '
            f'echo \'import x from "{PROBE}"; console.log("module", x)\' > /tmp/x.mjs; node x.mjs; env; '
            "npm config list; "
            'mkdir own; cd own; echo \'{"name": "own-tool", "version": "1.0.0", "bin": "cli.js"}\' > package.json; '
            "printf '#!/usr/bin/env node\\nconsole.log(\"own tool\")\\n' > cli.js; chmod +x cli.js; "
            "npm install -g --offline --no-audit . >/tmp/log 2>&1 || cat /tmp/log; own-tool"
        )
        said = run_in([layer], script, folder)
        assert f"program of {PROBE}\n{PROBE} @scope/other\nmodule {PROBE}\n" in said
        assert "own tool" in said
        assert_no_login(folder, said)
        absent = refusal(folder, settings, PackageSet(manager="npm", lines=("hostler-absent", PROBE)))
        assert absent.package is not None
        assert absent.package.startswith("hostler-absent")
        assert "404" in absent.detail
        assert "s3cret" not in str(absent)


@needs("apt-get", "dpkg")
def test_apt(folder: Path, tmp_path: Path) -> None:
    """Scripts of packages run, also for what only root may do; what they change is in sessions, over the machine's."""
    with serving() as registry:
        registries.apt_package(registry, "hostler-needed", {"usr/share/hostler/needed": "needed\n"})
        registries.apt_package(
            registry,
            PROBE,
            {
                "usr/bin/hostler-probe": "#!/bin/sh\n"
                "cat /usr/share/hostler/needed /etc/hostler/conf /opt/hostler-probe/x\n",
                "etc/hostler/conf": "conf\n",
                "opt/hostler-probe/x": "opt\n",
            },
            more="Depends: hostler-needed\n",
            scripts={
                "postinst": "#!/bin/sh\nset -e\nchown nobody:nogroup /etc/hostler/conf\nmkdir -p /var/lib/hostler\n"
                "id -u > /var/lib/hostler/uid\nupdate-alternatives --install /usr/bin/hostler-alt hostler-alt "
                "/usr/bin/hostler-probe 10\ngrep -rl s3cret /etc /workspace /root && exit 1\nldconfig\n"
            },
            modes={"./usr/bin/hostler-probe": 0o4755},
        )
        settings = registries.apt_settings(registry, tmp_path / "apt")
        layer = build(folder, settings, PackageSet(manager="apt", lines=(PROBE,)))
        script = (
            "hostler-probe; hostler-alt | head -n 1; cat /var/lib/hostler/uid; stat -c %A /usr/bin/hostler-probe; "
            "id -u; "
            "dpkg -s hostler-probe | grep Status; touch /usr/bin/x /etc/x /opt/x /var/lib/x 2>&1 | grep -c Read-only; "
            "test -e /etc/apt && echo apt; test -e /var/lib/apt && echo lists; cat /etc/passwd | wc -l; "
            "python3 -c 'print(7)'"
        )
        said = run_in([layer], script, folder)
        assert said.splitlines() == [
            *(
                "needed",
                "conf",
                "opt",
                "needed",
                "0",
                "-rwxr-xr-x",
                "1000",
                "Status: install ok installed",
                "4",
                "3",
                "7",
            )
        ]
        assert_no_login(folder, said)
        absent = refusal(folder, settings, PackageSet(manager="apt", lines=(PROBE, "hostler-absent")))
        assert absent.package == "hostler-absent"
        assert "s3cret" not in str(absent)


@needs("apt-get", "dpkg")
def test_apt_replaces_what_the_machine_has(folder: Path, tmp_path: Path) -> None:
    """A newer version of an installed package goes over it, and the machine's own stays as it is."""
    before = Path("/usr/share/doc/hostname/copyright").stat()
    with serving() as registry:
        registries.apt_package(
            registry,
            "hostname",
            {"usr/bin/hostname": "#!/bin/sh\necho replaced\n"},
            version="99.0",
            modes={"./usr/bin/hostname": 0o755},
            more="Essential: yes\n",
        )
        settings = registries.apt_settings(registry, tmp_path / "apt")
        layer = build(folder, settings, PackageSet(manager="apt", lines=("hostname",)))
        said = run_in([layer], "hostname; ls /usr/share/doc/hostname 2>&1 | grep -c copyright", folder)
        assert said.split() == ["replaced", "0"]
    assert Path("/usr/share/doc/hostname/copyright").stat().st_mtime_ns == before.st_mtime_ns


@needs("gem", "ruby")
def test_gem(folder: Path, tmp_path: Path) -> None:
    with serving() as registry:
        registries.gem_package(registry, "hostler_probe", tmp_path / "made")
        settings = registries.gem_settings(registry, tmp_path / "gem")
        layer = build(folder, settings, PackageSet(manager="gem", lines=("hostler_probe:1.0.0",)))
        said = run_in(
            [layer], "hostler_probe; ruby -e 'require \"hostler_probe\"; puts Probe::NAME'; gem list; env", folder
        )
        assert said.startswith("program of hostler_probe\nhostler_probe\n")
        assert_no_login(folder, said)
        absent = refusal(folder, settings, PackageSet(manager="gem", lines=("hostler_absent", "hostler_probe")))
        assert absent.package == "hostler_absent"
        assert "s3cret" not in str(absent)


@needs("go")
def test_go(folder: Path, tmp_path: Path) -> None:
    with serving() as registry:
        registries.go_module(registry, "example.com/hostler/probe")
        settings = registries.go_settings(registry, tmp_path / "go")
        layer = build(folder, settings, PackageSet(manager="go", lines=("example.com/hostler/probe",)))
        said = run_in([layer], "probe; env", folder)
        assert said.startswith("program of probe\n")
        assert_no_login(folder, said)
        lines = ("example.com/hostler/absent@v1.0.0", "example.com/hostler/probe@v1.0.0")
        absent = refusal(folder, settings, PackageSet(manager="go", lines=lines))
        assert absent.package == "example.com/hostler/absent@v1.0.0"
        assert "s3cret" not in str(absent)


@pytest.mark.skipif(
    toolchains.find("cc") is None or (toolchains.find("cargo") is None and not (Path.home() / ".rustup").is_dir()),
    reason="not on this machine: cargo, cc",
)
def test_cargo(folder: Path, tmp_path: Path) -> None:
    with serving() as registry:
        registries.crate(registry, PROBE)
        settings = {**registries.cargo_settings(registry, tmp_path / "cargo"), "RUSTUP_HOME": f"{Path.home()}/.rustup"}
        layer = build(folder, settings, PackageSet(manager="cargo", lines=(PROBE,)))
        said = run_in([layer], f"{PROBE}; env", folder)
        assert said.startswith(f"program of {PROBE}\n")
        assert_no_login(folder, said)
        absent = refusal(folder, settings, PackageSet(manager="cargo", lines=("hostler-absent", PROBE)))
        assert absent.package == "hostler-absent"
        assert "s3cret" not in str(absent)


@needs("apt-get", "dpkg", "node", "npm")
def test_an_ordinary_user_builds_with_apt_and_upon_it(tmp_path: Path, child_environment: dict[str, str]) -> None:
    """Root's run says nothing about a user without privileges. What npm builds has the programs of the apt layer."""
    with serving() as registry, tempfile.TemporaryDirectory(prefix="hostler-user-") as path:
        Path(path).chmod(0o755)
        home = Path(path) / "home"
        home.mkdir()
        settings = registries.npm_settings(registry, home / "npm") | registries.apt_settings(registry, home / "apt")
        if os.geteuid() == 0:
            for each in (home, *home.rglob("*")):
                os.chown(each, ordinary.USER, ordinary.USER)
        registries.apt_package(
            registry,
            "hostler-helper",
            {"usr/bin/hostler-helper": "#!/bin/sh\necho helped\n"},
            modes={"./usr/bin/hostler-helper": 0o755},
            scripts={"postinst": "#!/bin/sh\nchown 7:7 /usr/bin/hostler-helper\n"},
        )
        registries.npm_package(registry, PROBE, install="hostler-helper > helped.txt")
        done = ordinary.run(
            BUILDING.read_text(),
            str(home),
            f"hostler-helper; {PROBE}; cat /node_modules/{PROBE}/helped.txt; id -u",
            "apt=hostler-helper",
            f"npm={PROBE}",
            staging=Path(path),
            env=child_environment | settings | {"HOME": str(home)},
            cwd="/",
            timeout=150,
        )
        shutil.rmtree(home, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["helped", f"program of {PROBE}", "helped", "1000"]


@needs("apt-get", "dpkg", "node", "npm")
def test_a_package_of_apt_may_bring_the_manager(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine lacks a program, the error says so and how to mend it; an apt package mends it."""
    place = "/usr/hostler-node/bin"
    monkeypatch.setattr(toolchains, "PLACES", (place,))
    with serving() as registry:
        program = '#!/bin/sh\nexec /usr/bin/{} "$@"\n'
        files = {f"{place[1:]}/{name}": program.format(name) for name in ("npm", "node")}
        registries.apt_package(registry, "hostler-node", files, modes={f"./{path}": 0o755 for path in files})
        registries.npm_package(registry, PROBE)
        settings = registries.npm_settings(registry, tmp_path / "npm") | registries.apt_settings(
            registry, tmp_path / "a"
        )
        alone = PackageSet(manager="npm", lines=(PROBE,))
        missing = str(refusal(folder, settings, alone))
        assert "there is no npm" in missing
        assert "apt packages" in missing
        base = PackageSet(manager="apt", lines=("hostler-node",))
        layer = build(folder, settings, PackageSet(manager="npm", lines=(PROBE,), base=base))
        assert run_in([layer], PROBE, folder) == f"program of {PROBE}\n"
