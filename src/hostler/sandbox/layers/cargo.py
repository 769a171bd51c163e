"""The package manager cargo, as a builder of layers, with the registries that this machine's settings name.

It only says what is to be run, where: in a build sandbox. It must not run anything itself.
"""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hostler.sandbox.contract import Exec, Folder
from hostler.sandbox.layers.packages import Missing, Programs
from hostler.sandbox.layers.prefixed import Prefixed
from hostler.sandbox.layers.reach import reach
from hostler.sandbox.rootfs import HOME

_INDEX = ("https://index.crates.io/", "https://static.crates.io/", "https://crates.io/")
_TABLES = ("registries", "registry", "source", "net")
_PASSED = re.compile(r"CARGO_(REGISTRIES|REGISTRY|NET)_\w+")
_PROVIDERS = "global-credential-providers"
_PROVIDING = (_PROVIDERS, "credential-provider")
_SECRETS = ("token", "secret-key")
_CARGO_HOME = f"{HOME}/.cargo"
_RUST = "/mnt/rust"
_SHARED_RUSTUP = "/usr/local/rustup"


class Cargo(Prefixed):
    """See `packages.Manager`."""

    name = "cargo"
    tops = frozenset({"bin"})
    needs = ("cargo", "rustc")
    remedy = (
        "install Rust and a C compiler on the server's machine (the system's packages, or rustup), or put cargo into "
        "the environment's apt packages"
    )
    line = re.compile(r"[A-Za-z0-9][\w-]*(?:@[\w.+*^~=<>, -]+)?")
    example = "name@1.0.0"
    blames = re.compile(r"could not find `([^`]+)` in registry|failed to compile `([^`\s]+)")

    rustup: Path | None = None  # the toolchain of the server's own user, where the system has none

    def program(self, name: str, programs: Programs) -> str:
        try:
            return super().program(name, programs)
        except Missing:
            if self.rustup is None or not programs.of_machine or not (self.rustup / "bin" / name).is_file():
                raise
            return f"{_RUST}/bin/{name}"

    def fingerprint(self, programs: Programs) -> str:
        lent = self.program("cargo", programs).startswith(_RUST) and self.rustup
        return f"{super().fingerprint(programs)} {lent.name if lent else ''}"

    def folders(self, programs: Programs) -> list[Folder]:
        lent = self.rustup is not None and programs.of_machine and programs.find("cargo") is None
        return [Folder(source=self.rustup, target=_RUST)] if lent and self.rustup else []

    def environment(self, programs: Programs) -> dict[str, str]:
        more = {"CARGO_HOME": _CARGO_HOME, "CARGO_TARGET_DIR": "/tmp/cargo", "CARGO_TERM_PROGRESS_WHEN": "never"}
        if programs.is_folder(_SHARED_RUSTUP):
            more["RUSTUP_HOME"] = _SHARED_RUSTUP
        return {**super().environment(programs), **more}

    def steps(self, lines: tuple[str, ...], folder: str, key: str, *, compile: bool) -> list[Exec]:
        # --locked would refuse the many crates that come without a lock file of today.
        return [
            Exec(argv=["cargo", "install", "--root", folder, *lines]),
            Exec(argv=["rm", "-f", f"{folder}/.crates.toml", f"{folder}/.crates2.json"]),
        ]


def open_cargo(environ: Mapping[str, str], proxy: str | None) -> Cargo:
    """cargo with the settings of this machine. Raises ValueError."""
    found, logins = _read(environ, "config"), _read(environ, "credentials")
    kept = {name: found[name] for name in _TABLES if name in found}
    http = found["http"] if isinstance(found.get("http"), dict) else {}
    lines = [*_lines(kept), *_lines(logins)]
    plain = (f'"registry"."{_PROVIDERS}"', ["cargo:token"])  # the machine's own may be programs of it
    variables = {name: value for name, value in environ.items() if _PASSED.fullmatch(name)}
    values = dict(lines) | variables
    urls = [value.removeprefix("sparse+").removeprefix("registry+") for value in map(str, values.values())]
    secrets = [str(value) for name, value in values.items() if _is_secret(name)]
    bundle = http.get("cainfo")
    files = {
        f"{_CARGO_HOME}/config.toml": _text([*_lines(kept), plain]),
        f"{_CARGO_HOME}/credentials.toml": _text(_lines(logins)),
    }
    known = reach([*urls, *_INDEX], environ, proxy=proxy or http.get("proxy"), bundle=bundle, secrets=secrets)
    cargo = Cargo(known, variables, files)
    cargo.rustup = _toolchain(environ)
    return cargo


def _toolchain(environ: Mapping[str, str]) -> Path | None:
    """The default toolchain that rustup has installed for the server's user."""
    home = Path(environ.get("RUSTUP_HOME") or f"{environ.get('HOME') or '/nonexistent'}/.rustup")
    with contextlib.suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        name = tomllib.loads((home / "settings.toml").read_text()).get("default_toolchain")
        folder = home / "toolchains" / str(name)
        return folder if (folder / "bin" / "cargo").is_file() else None
    return None


def _is_secret(name: str) -> bool:
    return name.rstrip('"').lower().replace("_", "-").endswith(_SECRETS)


def _read(environ: Mapping[str, str], name: str) -> dict[str, Any]:
    home = Path(environ.get("CARGO_HOME") or f"{environ.get('HOME') or '/nonexistent'}/.cargo")
    for place in (home / f"{name}.toml", home / name):
        with contextlib.suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            return tomllib.loads(place.read_text())
    return {}


def _lines(table: Mapping[str, Any], *above: str) -> Iterator[tuple[str, Any]]:
    """A table as dotted names and values."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _lines(value, *above, name)
        elif isinstance(value, str | int | bool | list) and name not in _PROVIDING:
            yield ".".join(json.dumps(part) for part in (*above, name)), value


def _text(lines: Iterable[tuple[str, Any]]) -> bytes:
    """As TOML, whose strings, numbers, booleans and lists of them are written as JSON's."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines).encode()
