"""A bundle's code sees nothing of the server's: it tries, in a task on a real server, and in the trial before that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from calling import BUNDLES

from running import Server
from workspaces import Workspace

PROBE = """
import os
from pathlib import Path


def _read(path):
    try:
        return Path(path).read_bytes()[:100].decode(errors="replace")
    except OSError as error:
        return type(error).__name__


def probe(places):
    seen = {"environ": dict(os.environ), "processes": sorted(name for name in os.listdir("/proc") if name.isdigit())}
    seen["commands"] = [_read(f"/proc/{name}/cmdline").replace(chr(0), " ") for name in seen["processes"]]
    seen["environs"] = [_read(f"/proc/{name}/environ") for name in seen["processes"]]
    seen["places"] = {place: _read(place) for place in places}
    seen["oom"] = _read("/proc/self/oom_score_adj").strip()
    seen["home"] = os.listdir(os.path.expanduser("~"))
    try:
        Path("/usr/hostler-was-here").write_text("x")
        seen["system"] = "written"
    except OSError as error:
        seen["system"] = type(error).__name__
    return seen
"""
WORKFLOW = """
from ntro.workflow import NtroWorkflow, runbook

from .activities import look


@runbook.defn
class ProberWorkflow(NtroWorkflow):
    @runbook.run
    async def run(self, given: dict):
        return await runbook.execute_activity(look, given["places"])
"""
ACTIVITIES = (
    PROBE
    + """

from ntro.workflow import activity


@activity.defn
def look(places: list) -> dict:
    return probe(places)
"""
)
SECRET = "a-model-key-that-nobody-may-see"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("confined")
    shared = folder / "shared"
    shared.mkdir()
    (shared / "rates.csv").write_text("EUR,1.17")
    config = f'[runbooks]\nfolders = ["{shared}"]\nvariables = {{ RATES = "x" }}\n'
    environ = {"HOSTLER_MODEL_API_KEY": SECRET}
    with Server(folder / "data", config=config, scripted={"turns": [{"text": "x"}]}, environ=environ) as running:
        yield running, folder


@pytest.fixture(scope="module")
def space(guarded: Any) -> Any:
    import httpx2

    server, _ = guarded
    with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=60) as client:
        yield Workspace(client, "byng")


def bundle(folder: Path, **files: str) -> Path:
    made = folder / "prober"
    (made / "templates").mkdir(parents=True)
    (made / "runbook.md").write_text((BUNDLES / "caller" / "runbook.md").read_text().replace("caller", "prober"))
    (made / "templates" / "__init__.py").touch()
    for name, text in files.items():
        (made / "templates" / f"{name}.py").write_text(text)
    return made


def test_a_task_sees_nothing_of_the_server(guarded: Any, space: Workspace, tmp_path: Path) -> None:
    server, folder = guarded
    workflow = space.deploy(bundle(tmp_path, workflow=WORKFLOW, activities=ACTIVITIES), "ProberWorkflow")
    data = server.data_dir
    assert (data / "secret.key").is_file()
    hidden = [str(data / "hostler.db"), str(data / "secret.key"), str(data.with_suffix(".toml")), "/etc/shadow"]
    shown = str(folder / "shared" / "rates.csv")
    seen = space.result(space.start(workflow, {"places": [*hidden, shown]}))
    assert seen["places"] == {**dict.fromkeys(hidden, "FileNotFoundError"), shown: "EUR,1.17"}
    assert SECRET not in str(seen)
    assert server.key not in str(seen["environs"])
    assert not any("serve" in command for command in seen["commands"])
    assert seen["environ"]["RATES"] == "x"
    assert not [name for name in seen["environ"] if name.startswith(("HOSTLER_", "ANTHROPIC_"))]
    assert seen["oom"] == "500"
    assert seen["system"] in ("OSError", "PermissionError")
    assert not Path("/usr/hostler-was-here").exists()


def test_the_trial_of_a_deployment_sees_no_more(guarded: Any, space: Workspace, tmp_path: Path) -> None:
    server, _ = guarded
    places = [str(server.data_dir / "hostler.db"), f"/proc/{server.pid}/environ"]
    shout = f"\n\nraise RuntimeError(str(probe({places!r})['places']))\n"
    folder = bundle(tmp_path, workflow=WORKFLOW, activities=PROBE + shout)
    with pytest.raises(AssertionError, match="ACTIVITIES_PY_IMPORT_ERROR") as refused:
        space.deploy(folder, "ProberWorkflow")
    assert str(refused.value).count("FileNotFoundError") == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_of_the_sort\n", "No module named 'nothing_of_the_sort'"),
        ("def broken(:\n", "templates/workflow.py:1"),
        ("import os\n\nos._exit(3)\n", "ends the process"),
        ("x = 1\n", "no class ProberWorkflow"),
    ],
)
def test_a_bundle_that_does_not_import_is_not_kept(space: Workspace, tmp_path: Path, code: str, said: str) -> None:
    before = space.get("/v1/runbooks")
    with pytest.raises(AssertionError) as refused:
        space.deploy(bundle(tmp_path, workflow=code, activities=""), "ProberWorkflow")
    assert str(refused.value).startswith("400 ")
    assert said in str(refused.value).replace("\\n", " ")
    assert space.get("/v1/runbooks") == before
