"""The one reader of the environment and of the config file. It must not open, start or import any other room.

Tables of the file that belong to other rooms (`TABLES`) are handed on undecoded: each room knows its own. A
table or key that nobody knows is refused.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from hostler.errors import HostlerError

DEFAULT_HOST = "127.0.0.1"
KEY_PREFIX = "sk-hostler-"  # of API keys
DEFAULT_PORT = 8400
DEFAULT_FILE_MB = 500
MIB = 1024 * 1024
TABLES = ("models", "harness", "sandbox", "git", "mcp", "web", "work", "runbooks", "data_plane")


class BadSettings(HostlerError):
    """The settings can't be used."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What one server process runs with. `database` is None for SQLite in the data folder."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    data_dir: Path
    database: str | None = None
    data_plane: str | None = None
    public_url: str | None = None
    api_key: str | None = None
    model_api_key: str = ""
    model_base_url: str = ""
    scripted: bool = False
    tables: dict[str, dict[str, Any]] = {}
    config_file: Path | None = None
    environ: Mapping[str, str] = {}
    file_bytes: int = DEFAULT_FILE_MB * MIB
    secret_key: str | None = None

    def __repr__(self) -> str:
        """Without keys and passwords, which stand in most of its fields."""
        return f"Settings(data_dir={str(self.data_dir)!r}, host={self.host!r}, port={self.port})"


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """The server that a command talks to over HTTP."""

    base_url: str
    api_key: str

    def __repr__(self) -> str:
        return f"Client(base_url={self.base_url!r})"


class _ServerTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    host: str | None = None
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    data_dir: str | None = None
    database: str | None = None
    data_plane: str | None = None
    public_url: str | None = None
    file_mb: Annotated[int, msgspec.Meta(ge=1)] = DEFAULT_FILE_MB


def load(
    *,
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    database: str | None = None,
    data_plane: str | None = None,
    config_file: Path | None = None,
    scripted: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from arguments, then `HOSTLER_*` variables, then the config file's `[server]` table, then defaults.

    `ANTHROPIC_BASE_URL` is a client's variable and not read here: it often points at this very server. Raises
    BadSettings with the file and key at fault.
    """
    environ = os.environ if environ is None else environ
    config_file = config_file or _path(environ.get("HOSTLER_CONFIG"))
    server, tables = _read(config_file) if config_file else (_ServerTable(), {})
    folder = data_dir or _path(environ.get("HOSTLER_DATA_DIR")) or _path(server.data_dir) or default_data_dir(environ)
    return Settings(
        host=host or environ.get("HOSTLER_HOST") or server.host or DEFAULT_HOST,
        port=port if port is not None else _port(environ, server),
        data_dir=folder.expanduser().absolute(),
        database=database or environ.get("HOSTLER_DATABASE") or server.database,
        data_plane=data_plane or environ.get("HOSTLER_DATA_PLANE") or server.data_plane,
        public_url=_public_url(environ.get("HOSTLER_PUBLIC_URL") or server.public_url),
        api_key=environ.get("HOSTLER_API_KEY") or None,
        model_api_key=environ.get("HOSTLER_MODEL_API_KEY") or _anthropic_key(environ),
        model_base_url=environ.get("HOSTLER_MODEL_BASE_URL") or "",
        scripted=scripted or environ.get("HOSTLER_SCRIPTED", "") not in ("", "0"),
        tables=tables,
        config_file=config_file,
        environ=dict(environ),
        file_bytes=server.file_mb * MIB,
        secret_key=environ.get("HOSTLER_SECRET_KEY") or None,
    )


def load_client(base_url: str | None, api_key: str | None, environ: Mapping[str, str] | None = None) -> Client:
    """From arguments, then `HOSTLER_*`, then the two variables that `hostler serve` tells to paste, then defaults.

    A key of `ANTHROPIC_API_KEY` is used only for a server that was named: it may be one of Anthropic's. Raises
    BadSettings when there is no key.
    """
    environ = os.environ if environ is None else environ
    named = base_url or environ.get("HOSTLER_BASE_URL") or environ.get("ANTHROPIC_BASE_URL")
    key = api_key or environ.get("HOSTLER_API_KEY") or (environ.get("ANTHROPIC_API_KEY") if named else None)
    if not key:
        raise BadSettings("There is no API key: make one with `hostler keys create` and set HOSTLER_API_KEY to it.")
    return Client(base_url=named or f"http://{DEFAULT_HOST}:{DEFAULT_PORT}", api_key=key)


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """`$XDG_DATA_HOME/hostler`, usually `~/.local/share/hostler`."""
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "hostler"


def _read(file: Path) -> tuple[_ServerTable, dict[str, dict[str, Any]]]:
    try:
        content = tomllib.loads(file.read_text())
    except OSError as error:
        raise BadSettings(f"The config file {file} can't be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"The config file {file} is not valid TOML: {error}.") from error
    unknown = set(content) - {"server", *TABLES}
    if unknown:
        known = ", ".join(("server", *TABLES))
        raise BadSettings(f"The config file {file} has an unknown table [{min(unknown)}]; known are: {known}.")
    return decode(content.get("server", {}), _ServerTable, "server", file), {
        name: content[name] for name in TABLES if name in content
    }


def decode(table: dict[str, Any], kind: type[Any], name: str, file: Path | None) -> Any:
    """Decode one table of the config file. Raises BadSettings naming the file and the key."""
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise BadSettings(f"The config file {file}, table [{name}]: {error}.") from error


def _port(environ: Mapping[str, str], server: _ServerTable) -> int:
    text = environ.get("HOSTLER_PORT")
    if text is None:
        return server.port if server.port is not None else DEFAULT_PORT
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise BadSettings(f"HOSTLER_PORT is {text!r}, which is not a port number.")
    return int(text)


def _public_url(text: str | None) -> str | None:
    """Without a slash at its end. Raises BadSettings."""
    if not text:
        return None
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.username or parts.password or parts.query or parts.fragment:
        raise BadSettings("public_url (HOSTLER_PUBLIC_URL): a URL such as https://hostler.example.com is expected.")
    return text.rstrip("/")


def _anthropic_key(environ: Mapping[str, str]) -> str:
    """A key of Anthropic's. One of ours is none: whoever has pasted our two lines starts the server with it, too."""
    key = environ.get("ANTHROPIC_API_KEY", "")
    return "" if key.startswith(KEY_PREFIX) else key


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
