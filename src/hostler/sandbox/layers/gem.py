"""The package manager gem, as a builder of layers, with the sources that this machine's settings name.

It only says what is to be run, where: in a build sandbox. It must not run anything itself.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from hostler.sandbox.contract import Exec
from hostler.sandbox.layers import manifests
from hostler.sandbox.layers.prefixed import Prefixed
from hostler.sandbox.layers.reach import reach

_SOURCE = "https://rubygems.org/"


class Gem(Prefixed):
    """See `packages.Manager`."""

    name = "gem"
    tops = frozenset({"bin", "gems"})
    needs = ("gem", "ruby")
    remedy = "install Ruby on the server's machine, or put ruby into the environment's apt packages"
    line = re.compile(r"[A-Za-z0-9][\w.-]*(?::[\w.~<>= -]+)?")
    example = "name:1.0.0"
    blames = re.compile(r"Could not find a valid gem '([^']+)'|Error installing ([^\s:]+):")
    sources: tuple[str, ...] = ()

    def steps(self, lines: tuple[str, ...], folder: str, key: str, *, compile: bool) -> list[Exec]:
        options = ["--install-dir", f"{folder}/gems", "--bindir", f"{folder}/bin", "--no-document", "--norc"]
        options += ["--clear-sources", *(word for source in self.sources for word in ("--source", source))]
        return [
            Exec(argv=["gem", "install", *options, *lines]),
            Exec(argv=["rm", "-rf", f"{folder}/gems/cache"]),
        ]

    def installed(self, folder: Path) -> list[str]:
        names = manifests.names_inside(folder, "gems/specifications")
        return [name.removesuffix(".gemspec") for name in names if name.endswith(".gemspec")]


def open_gem(environ: Mapping[str, str], proxy: str | None) -> Gem:
    """gem with the settings of this machine. Raises ValueError."""
    found = read(environ)
    given = found.get("sources")
    sources = tuple(source for source in given if isinstance(source, str)) if isinstance(given, list) else (_SOURCE,)
    own_proxy, bundle = (
        value if isinstance(value := found.get(n), str) else None for n in ("http_proxy", "ssl_ca_cert")
    )
    gem = Gem(reach(sources, environ, proxy=proxy or own_proxy, bundle=bundle), {}, {})
    gem.sources = sources
    return gem


def read(environ: Mapping[str, str]) -> dict[str, object]:
    """What gemrc files say: the machine's, the user's, then those that GEMRC names."""
    home = environ.get("HOME") or "/nonexistent"
    places = ["/etc/gemrc", f"{home}/.config/gem/gemrc", f"{home}/.gemrc"]
    places += [place for place in re.split(r"[:;]", environ.get("GEMRC", "")) if place]
    found: dict[str, object] = {}
    for place in places:
        with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
            told = yaml.safe_load(Path(place).read_text())
            if isinstance(told, dict):
                found |= {str(name).lstrip(":"): value for name, value in told.items()}
    return found
