"""The package manager npm, as a builder of layers, with the registries that this machine's settings name.

It only says what is to be run, where: in a build sandbox. It must not run anything itself.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

from hostler.sandbox.contract import Exec
from hostler.sandbox.edge.registries import REGISTRIES
from hostler.sandbox.layers import manifests
from hostler.sandbox.layers.prefixed import Prefixed
from hostler.sandbox.layers.reach import reach
from hostler.sandbox.rootfs import HOME

_MODULES = "lib/node_modules"
_REGISTRY = f"https://{REGISTRIES['npm'][0]}"  # unless it is told another
_KEPT = re.compile(
    r"registry|@[^:]+:registry|//.+|strict-ssl|fetch-retries|fetch-timeout|fetch-retry-.*|maxsockets|ca|_auth|_authToken"
)
_SECRET = re.compile(r"(?:.*:)?(?:_authToken|_auth|_password)")
_VARIABLE = re.compile(r"\$\{([^}]+)\}")
_NAME = r"(?:@[\w.~-]+/)?[A-Za-z0-9][\w.~-]*"


class Npm(Prefixed):
    """See `packages.Manager`."""

    name = "npm"
    tops = frozenset({"bin", "lib"})
    needs = ("npm", "node")
    remedy = (
        "install Node.js with npm on the server's machine, or put nodejs and npm into the environment's apt packages"
    )
    line = re.compile(rf"{_NAME}(?:@[\w.*~^<>=| @:/+-]+)?")
    example = "name@1.0.0"
    blames = re.compile(
        r"No matching version found for ([^\s']+?)\.?\s|'(@?[^'@\s]+@[^']*)' (?:is not in|could not be found)|"
        r"npm \w+ path \S*/node_modules/(\S+)"
    )

    def steps(self, lines: tuple[str, ...], folder: str, key: str, *, compile: bool) -> list[Exec]:
        options = ["--global", "--no-audit", "--no-fund", "--no-update-notifier", "--no-progress"]
        options += ["--loglevel", "http", "--cache", "/tmp/npm"]
        return [Exec(argv=["npm", "install", *options, "--prefix", folder, "--", *lines])]

    def installed(self, folder: Path) -> list[str]:
        """The folders of the packages that were asked for, scoped ones included."""
        found: list[str] = []
        for name in manifests.names_inside(folder, _MODULES):
            scoped = manifests.names_inside(folder, f"{_MODULES}/{name}") if name.startswith("@") else []
            found += [f"{name}/{each}" for each in scoped] or [name]
        return [name for name in found if not name.startswith(".")]


def open_npm(environ: Mapping[str, str], proxy: str | None) -> Npm:
    """npm with the settings of this machine. Raises ValueError."""
    settings = read(environ)
    kept = {name: value for name, value in settings.items() if _KEPT.fullmatch(name)}
    urls = [value for name, value in kept.items() if name.endswith("registry")]
    secrets = [value for name, value in settings.items() if _SECRET.fullmatch(name)]
    found = reach(
        [*urls, _REGISTRY],
        environ,
        proxy=proxy or settings.get("https-proxy") or settings.get("proxy"),
        bundle=settings.get("cafile"),
        secrets=secrets,
    )
    text = "".join(f"{name}={value}\n" for name, value in kept.items())
    return Npm(found, {}, {f"{HOME}/.npmrc": text.encode()})


def read(environ: Mapping[str, str]) -> dict[str, str]:
    """What npm's own files and variables say: the machine's, the user's, then the environment."""
    settings: dict[str, str] = {}
    variables = {_setting(name): value for name, value in environ.items() if name.lower().startswith("npm_config_")}
    places = [variables.get("globalconfig", "/etc/npmrc")]
    places.append(variables.get("userconfig") or f"{environ.get('HOME') or '/nonexistent'}/.npmrc")
    for place in places:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            settings |= _parse(Path(place).read_text(), environ)
    return settings | variables


def _setting(variable: str) -> str:
    """`NPM_CONFIG_STRICT_SSL` -> `strict-ssl`; what begins with `//` or `@` stays as it is."""
    name = variable[len("npm_config_") :]
    return name if name[:1] in ("/", "@") else name.lower().replace("_", "-") if not name.startswith("_") else name


def _parse(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            words = _VARIABLE.sub(lambda match: environ.get(match[1].rstrip("?"), ""), value.strip())
            found[name.strip()] = words.strip("\"'")
    return found
