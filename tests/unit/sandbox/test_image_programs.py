"""What package managers say where builds run in containers of an image: what the image lacks is named, and none of the
server's own folders is lent."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from hostler.sandbox.backends import SandboxConfig, open_layers
from hostler.sandbox.contract import Layer
from hostler.sandbox.interpreter import Interpreter
from hostler.sandbox.layers import imageprograms, packagelists
from hostler.sandbox.layers.imageprograms import Facts, ImagePrograms
from hostler.sandbox.layers.managers import open_managers
from hostler.sandbox.layers.packages import LayerUnavailable, Missing, NoLayers, PackageSet, Progress

PYTHON = Interpreter(tag="cpython-311", user_site="/home/agent/.local", has_pip=True)
RUST = {"cargo": "/usr/local/cargo/bin/cargo", "rustc": "/usr/local/cargo/bin/rustc"}


def _image(*, python: Interpreter | None = PYTHON, image: str = "sha256:1", **programs: str) -> ImagePrograms:
    facts = Facts(programs=programs, folders=["/usr/local/rustup"], seen="", python=python)
    return ImagePrograms("the-image", image, facts)


def test_what_the_image_lacks_is_named(tmp_path: Path) -> None:
    rustup = tmp_path / ".rustup"
    (rustup / "toolchains/stable/bin").mkdir(parents=True)
    for name in ("cargo", "rustc"):
        (rustup / "toolchains/stable/bin" / name).write_text("")
    (rustup / "settings.toml").write_text('default_toolchain = "stable"\n')
    managers = open_managers({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"})
    bare = _image(python=None)
    for name, lacked in (("npm", "npm"), ("go", "go"), ("cargo", "cargo"), ("gem", "gem"), ("pip", "python3")):
        with pytest.raises(Missing, match=f"the image 'the-image' has no {lacked}: put it there"):
            managers[name].fingerprint(bare)
    without_pip = _image(python=Interpreter(tag="t", user_site="/u", has_pip=False))
    with pytest.raises(Missing, match="has no pip"):
        managers["pip"].folders(without_pip)
    with pytest.raises(Missing, match="put the packages into the image"):
        managers["apt"].fingerprint(bare)


def test_the_images_own_toolchain_is_used() -> None:
    managers = open_managers({"HOME": "/nonexistent", "PIP_CONFIG_FILE": "/dev/null"})
    image = _image(**RUST)
    assert managers["cargo"].environment(image)["PATH"].startswith("/usr/local/cargo/bin:")
    assert managers["cargo"].environment(image)["RUSTUP_HOME"] == "/usr/local/rustup"
    assert managers["cargo"].folders(image) == []
    assert "PYTHONPATH" not in managers["pip"].environment(image)
    assert image.identity != _image(image="sha256:2").identity


def test_the_script_says_what_there_is(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("seen it\n")
    done = subprocess.run(imageprograms.asking(str(token)), capture_output=True, check=True)
    facts = imageprograms.understood(done.stdout)
    assert facts.seen == "seen it"
    assert facts.python is not None
    assert facts.python.tag
    for name, path in facts.programs.items():
        assert Path(path).name == name
        assert Path(path).is_file()
    assert imageprograms.understood(b"\xff\npython {\nprogram x").python is None


def test_an_engine_elsewhere_has_no_layers(tmp_path: Path) -> None:
    for engine, words in (("tcp://10.0.0.1:2375", "on another machine"), ("nonsense://x", "an engine is named")):
        layers = open_layers(tmp_path, SandboxConfig(backend="docker", engine=engine), {"PIP_CONFIG_FILE": "/dev/null"})
        assert words in (asyncio.run(layers.obstacle()) or "")


class _NoApt(NoLayers):
    """Layers where apt can have none, and what is built upon it neither."""

    async def find(self, packages: PackageSet) -> Layer | None:
        self._refuse(packages)
        return Layer(key="k", source=Path("/k"))

    async def progress(self, packages: PackageSet, position: int = 0) -> Progress | None:
        self._refuse(packages)
        return Progress(["said"], 4)

    def _refuse(self, packages: PackageSet) -> None:
        if packages.manager == "apt" or packages.base is not None:
            raise LayerUnavailable("no apt")


def test_where_apt_can_have_no_layer_the_others_are_found_without_it() -> None:
    apt, pip = packagelists.sets_of({"apt": ["tree"], "pip": ["x"]})

    async def main() -> None:
        layers = _NoApt("none")
        found = await packagelists.find(layers, pip)
        assert found is not None
        assert await packagelists.progress(layers, pip, 0) == Progress(["said"], 4)
        assert not await packagelists.has_base(layers, pip)
        with pytest.raises(LayerUnavailable):
            await packagelists.find(layers, apt)

    asyncio.run(main())
