"""Turns what a file says into the request that the API takes. It must not talk to a server.

The API is strict; a file may use the short forms that people write: `type: bash` for one built-in tool, `system_file`
for a long prompt, `version: latest` for a skill, `url: /mcp` for an MCP server of the server itself.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hostler.wire.tools import BUILTIN_NAMES
from hostler.yamlfile import Document, read, read_text

Kind = Literal["agent", "environment", "vault"]
MARK = "hostler_apply"  # the metadata key that says: this object is kept in a file
AGENT_KEYS = (
    "name", "model", "description", "system", "system_file", "tools", "mcp_servers", "skills", "multiagent",
    "callable_agents", "metadata", "execution_identity",
)  # fmt: skip
ENVIRONMENT_KEYS = ("name", "description", "config", "metadata", "scope")
VAULT_KEYS = ("name", "display_name", "metadata", "credentials")
KEYS: dict[Kind, tuple[str, ...]] = {"agent": AGENT_KEYS, "environment": ENVIRONMENT_KEYS, "vault": VAULT_KEYS}
PROMPT = "system-prompt.md"  # beside an agent.yaml that holds no prompt itself
TOOLSET = "agent_toolset_20260401"


class Definition(NamedTuple):
    """One object as a file wants it. `places` leads from a path in the request to one in the file."""

    kind: Kind
    request: dict[str, Any]
    document: Document
    places: dict[str, str]

    @property
    def name(self) -> str:
        return str(self.request["display_name" if self.kind == "vault" else "name"])

    def fault(self, said: str) -> Exception:
        """An error for what a server said of the request: `tools.0.name: ...`."""
        path = said.partition(":")[0]
        parts = path.split(".")
        for end in range(len(parts), 0, -1):
            if (place := self.places.get(".".join(parts[:end]))) is not None:
                return self.document.fault(".".join([place, *parts[end:]]), said)
        return self.document.fault(path, said)


def load(file: Path, *, kind: Kind | None = None, name: str | None = None) -> Definition:
    """Read and translate one file; in a folder, `kind` and the `name` of what says none are known. Raises
    BadDefinition."""
    document = read(file)
    data = document.data
    kind = kind or _kind(data)
    if name is not None and not data.get("name") and not (kind == "vault" and data.get("display_name")):
        data["name"] = name
    if kind == "vault" and "display_name" in data and "name" not in data:
        data["name"] = data["display_name"]
    _check_keys(document, KEYS[kind], kind)
    request = dict(data)
    places: dict[str, str] = {}
    if kind == "agent":
        if not data.get("model"):
            raise document.fault("", "model: Field required, such as `model: claude-sonnet-4-6`")
        _read_system(document, request)
        request["tools"], places = _tools(document)
        request["skills"] = _skills(document)
    request["metadata"] = _metadata(document)
    if kind == "vault":
        request = {"display_name": data["name"], "metadata": request["metadata"]}
    return Definition(kind, request, document, places)


def with_urls(definition: Definition, base_url: str) -> Definition:
    """With the MCP servers that are named by a path alone on the server that this is applied to."""
    servers = definition.request.get("mcp_servers")
    if not isinstance(servers, list):
        return definition
    found = [
        {**server, "url": base_url + server["url"]}
        if isinstance(server, dict) and str(server.get("url", "")).startswith("/")
        else server
        for server in servers
    ]
    return definition._replace(request={**definition.request, "mcp_servers": found})


def _kind(data: dict[str, Any]) -> Kind:
    if "model" in data:
        return "agent"
    return "environment" if "config" in data else "vault" if {"display_name", "credentials"} & set(data) else "agent"


def _check_keys(document: Document, known: tuple[str, ...], kind: str) -> None:
    for key in document.data:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            article = "a" if kind == "vault" else "an"
            hint = f"did you mean {near[0]}?" if near else f"{article} {kind} has {', '.join(known)}"
            raise document.fault(key, f"{key}: unknown key; {hint}")
    name = document.data.get("name")
    if not isinstance(name, str) or not name:
        raise document.fault("name", "name: Field required: the text by which the object is found again")


def _read_system(document: Document, request: dict[str, Any]) -> None:
    """Put the text of `system_file`, one or several whose paths start at the YAML file, into `system`; or that of the
    prompt beside an agent.yaml which has none of its own."""
    named = request.pop("system_file", None)
    if named is None:
        prompt = document.file.parent / PROMPT
        if document.file.stem == "agent" and _is_no_prompt(request.get("system")) and prompt.is_file():
            request["system"] = read_text(prompt)
        return
    files = named if isinstance(named, list) else [named]
    if not files or not all(isinstance(each, str) and each for each in files):
        raise document.fault("system_file", "system_file: Input should be the path of a text file, or a list of them")
    if request.get("system"):
        raise document.fault("system_file", "system_file: give either system or system_file")
    texts = []
    for index, each in enumerate(files):
        file = document.file.parent / each
        place = f"system_file.{index}" if isinstance(named, list) else "system_file"
        if not file.is_file():
            raise document.fault(place, f"{place}: there is no file {file}")
        texts.append(read_text(file))
    request["system"] = texts[0] if len(texts) == 1 else "\n\n".join(text.strip("\n") for text in texts) + "\n"


def _is_no_prompt(system: Any) -> bool:
    """Nothing, or only lines that begin with `#`: a comment that stands in a block of text is part of the text."""
    lines = str(system or "").splitlines()
    return all(not line.strip() or line.lstrip().startswith("#") for line in lines)


def _tools(document: Document) -> tuple[list[Any], dict[str, str]]:
    """Gather the short forms in one toolset that allows nothing else, where the first of them stands."""
    translated: list[Any] = []
    places: dict[str, str] = {}
    short: dict[str, Any] | None = None
    toolsets = [index for index, tool in enumerate(_listed(document, "tools")) if _type(tool) == TOOLSET]
    for index, tool in enumerate(_listed(document, "tools")):
        here = f"tools.{index}"
        if _type(tool) not in BUILTIN_NAMES:
            places[f"tools.{len(translated)}"] = here
            translated.append(tool)
            continue
        if toolsets:
            raise document.fault(here, f"{here}: {tool['type']} belongs into configs of {TOOLSET}, which is there too")
        if short is None:
            short = {"type": TOOLSET, "default_config": {"enabled": False}, "configs": []}
            translated.append(short)
            at = f"tools.{len(translated) - 1}"
        configs: list[dict[str, Any]] = short["configs"]
        if any(config["name"] == tool["type"] for config in configs):
            raise document.fault(here, f"{here}: {tool['type']} is there twice")
        places[f"{at}.configs.{len(configs)}"] = here
        rest = {key: value for key, value in tool.items() if key != "type"}
        configs.append({"name": tool["type"], "enabled": True, **rest})
    return translated, places


def _skills(document: Document) -> list[Any]:
    """`latest` is what a request says by leaving the version out; a number without quotes is meant as text."""
    translated = []
    for skill in _listed(document, "skills"):
        if isinstance(skill, dict):
            version = skill.get("version")
            skill = {key: value for key, value in skill.items() if key != "version"}
            if version not in (None, "latest"):
                skill["version"] = str(version) if isinstance(version, int) else version
        translated.append(skill)
    return translated


def _metadata(document: Document) -> dict[str, Any]:
    metadata = document.data.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise document.fault("metadata", "metadata: Input should be a mapping of text to text")
    if MARK in metadata:
        raise document.fault(f"metadata.{MARK}", f"metadata.{MARK}: is the mark of hostler apply itself")
    return {**metadata, MARK: "true"}


def _listed(document: Document, key: str) -> list[Any]:
    found = document.data.get(key) or []
    if not isinstance(found, list):
        raise document.fault(key, f"{key}: Input should be a list")
    return found


def _type(tool: Any) -> Any:
    return tool.get("type") if isinstance(tool, dict) else None
