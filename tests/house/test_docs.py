"""The pages can't rot: every command, setting, route, field and event is in them, and their examples run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args
from unittest.mock import Mock

import click
import msgspec
import pytest
from house_modules import ROOT

from hostler import configuration, settings
from hostler.api.app import Services
from hostler.api.app import routes as api_routes
from hostler.cli import main
from hostler.git.hosts import GitConfig
from hostler.harness.deps import HarnessConfig
from hostler.mcp.config import McpConfig, StdioServer
from hostler.runbooks.dataplane.config import DataPlaneConfig
from hostler.sandbox.backends import BACKENDS, SandboxConfig
from hostler.sandbox.kubernetes.settings import KubernetesConfig
from hostler.services.work import WorkConfig
from hostler.web.config import WebConfig
from hostler.wire import (
    agents,
    checkpoints,
    environments,
    events,
    multiagent,
    resources,
    runbooks,
    sessions,
    tasks,
    tools,
    vaults,
    work,
    workspace,
)
from hostler.wire.errors import SessionErrorObject
from hostler.workspace.app import routes as workspace_routes

DOCS = ROOT / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text()
COMPATIBILITY = (DOCS / "compatibility.md").read_text()
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
REQUESTS: list[Any] = [
    agents.AgentCreate, agents.AgentUpdate, agents.ModelParams, environments.EnvironmentCreate,
    environments.ConfigParams, environments.LimitedNetworkParams, environments.PackagesParams, sessions.SessionCreate,
    sessions.SessionUpdate, checkpoints.ForkParams, tools.AgentToolsetParams, tools.BuiltinConfigParams,
    tools.UrlSourcesParams, tools.UserLocation, tools.CustomTool,
    vaults.VaultCreate, vaults.VaultUpdate, vaults.CredentialCreate, vaults.CredentialUpdate, vaults.StaticBearerParams,
    vaults.McpOauthParams, vaults.RefreshParams, vaults.BasicClientAuth, vaults.EnvironmentVariableParams,
    vaults.LimitedHosts, vaults.InjectionLocationParams, *get_args(vaults.AuthUpdate), vaults.RefreshUpdate,
    tools.McpToolsetParams, tools.McpToolConfigParams, tools.McpServer, multiagent.MultiagentCoordinatorParams,
    multiagent.Multiagent20261001Params, multiagent.TeamEnabledParams, multiagent.AdvisorParams,
    resources.FileResourceParams, events.TextRubric, events.FileRubric,
    resources.RepositoryResourceParams, resources.ResourceUpdate,
    resources.BranchCheckout, resources.CommitCheckout, events.EventsSend, *get_args(events.ClientEvent),
    work.WorkUpdate, work.WorkStop, work.EnvironmentKeyCreate,
]  # fmt: skip

WORKSPACE: list[Any] = [
    kind for module in (workspace, tasks, runbooks) for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, workspace.Asked)
]  # fmt: skip


def missing(words: Any, page: str) -> list[str]:
    """The words that a page doesn't have as code, be it alone or as part of an example like `{a, b}`."""
    code = set(re.findall(r"[\w.-]+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    return [word for word in words if word not in code]


def commands(group: click.Group, prefix: str = "hostler") -> dict[str, click.Command]:
    found = {}
    for name, command in group.commands.items():
        inner = commands(command, f"{prefix} {name}") if isinstance(command, click.Group) else {}
        found.update(inner or {f"{prefix} {name}": command})
    return found


def test_every_command_and_option() -> None:
    for name, command in commands(main).items():
        assert f"`{name}" in CONFIGURATION, name
        for parameter in command.params:
            options = [option for option in parameter.opts if option.startswith("--")]
            assert missing(options, CONFIGURATION) == [], name


def test_every_variable() -> None:
    source = Path(settings.__file__).read_text()
    assert missing(re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', source), CONFIGURATION) == []


def test_every_key_of_the_config_file() -> None:
    assert missing(settings._ServerTable.__struct_fields__, CONFIGURATION) == []
    for table in settings.TABLES:
        assert f"`[{table}]`" in CONFIGURATION
    assert missing(BACKENDS, CONFIGURATION) == []


@pytest.mark.parametrize(
    "struct",
    [
        GitConfig,
        HarnessConfig,
        SandboxConfig,
        KubernetesConfig,
        McpConfig,
        StdioServer,
        WebConfig,
        WorkConfig,
        DataPlaneConfig,
    ],
)
def test_every_key_of_a_table_with_its_default(struct: Any) -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", CONFIGURATION, re.MULTILINE))
    for field in msgspec.structs.fields(struct):
        said = documented[field.name].strip().strip("`")
        if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT:
            assert said == "required", field.name
        elif field.default in (None, "", (), msgspec.NODEFAULT):
            assert said in ("none", "all"), field.name
        else:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert said == str(default).replace("'", '"'), field.name


def test_every_route() -> None:
    nothing: Any = None
    routes = [f"{route.method} {route.path}" for route in api_routes(Services(*[nothing] * len(Services._fields)))]
    routes += [f"{route.method} {route.path}" for route in workspace_routes(Mock())]
    assert [route for route in [*routes, "GET /healthz"] if f"`{route}`" not in COMPATIBILITY] == []
    known = set(re.findall(r"`((?:GET|POST|PATCH|DELETE) /[^` ]+)`", COMPATIBILITY))
    assert known - set(routes) == {"GET /healthz"}


@pytest.mark.parametrize("struct", REQUESTS)
def test_every_field_of_a_request(struct: Any) -> None:
    assert missing(struct.__struct_fields__, COMPATIBILITY) == []


@pytest.mark.parametrize("struct", WORKSPACE)
def test_every_field_of_the_workspace(struct: Any) -> None:
    assert missing(struct.__struct_encode_fields__, COMPATIBILITY) == []


def test_every_event_and_error() -> None:
    types = [str(kind.__struct_config__.tag) for kind in get_args(events.SessionEvent)]
    assert missing([*types, "event_start", "event_delta"], COMPATIBILITY) == []
    errors = {str(kind.__struct_config__.tag) for kind in get_args(SessionErrorObject)}
    assert missing(errors, COMPATIBILITY) == []


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text()
    assert [page.name for page in DOCS.glob("*.md") if page.name != "index.md" and f"({page.name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.is_file(), target
        headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target


def test_the_example_of_a_config_file_is_valid(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", CONFIGURATION, re.DOTALL)
    assert set(tomllib.loads(example)) == {"server", *settings.TABLES}
    file = tmp_path / "config.toml"
    file.write_text(example)
    configuration.configuration(settings.load(config_file=file, environ={"HOME": str(tmp_path)}))
