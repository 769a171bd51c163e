"""Bundles on Temporal: its sandbox takes them as they are, and a history of a real Temporal server is replayed.

`draft.history.json` is what Temporal 1.30 wrote down of one run of `bundles/draft`, with a worker of ours.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from attempting import environment

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUNDLES = ["runbooks/nav-audit-handover", "tests/recovery/bundles/whole", "tests/runbooks/bundles/caller"]
TAKEN = """
import asyncio, sys
from pathlib import Path
from temporalio import workflow
from hostler.runbooks.temporal.worker import prepare, runner

async def main():
    for bundle in prepare([Path(place) for place in sys.argv[1:]]):
        for cls in bundle.workflows:
            runner().prepare_workflow(workflow._Definition.must_from_class(cls))
            print(bundle.slug, cls.__name__, *sorted(each.__name__ for each in bundle.activities))

asyncio.run(main())
"""
REPLAYED = """
import asyncio, sys
from pathlib import Path
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from hostler.runbooks.temporal.worker import prepare, runner

async def main(folder, history):
    workflows = [cls for bundle in prepare([Path(folder)]) for cls in bundle.workflows]
    replayer = Replayer(workflows=workflows, workflow_runner=runner(), data_converter=pydantic_data_converter)
    await replayer.replay_workflow(WorkflowHistory.from_json("draft-1", Path(history).read_text()))
    print("replayed")

asyncio.run(main(*sys.argv[1:]))
"""


def run(program: str, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(**env), cwd=ROOT)


def test_the_sandbox_takes_the_bundles_as_they_are() -> None:
    """`whole` has a child, which a task queue of Temporal's could not have beside it: both have an activity `note`."""
    done = run(TAKEN, *(ROOT / bundle for bundle in BUNDLES))
    assert done.stdout.splitlines() == [
        "nav-audit-handover NavAuditHandoverWorkflow load_period prepare_summary record_outcome run_agent",
        "whole WholeWorkflow keep note",
        "caller CallerWorkflow",
    ], done.stderr


def test_a_history_of_temporal_s_is_replayed() -> None:
    """So a step that calls `invoke` asks Temporal for the same activity, with the same arguments, each time."""
    done = run(REPLAYED, HERE / "bundles/draft", HERE / "draft.history.json")
    assert done.stdout == "replayed\n", done.stderr


def test_a_history_is_not_replayed_by_another_program(tmp_path: Path) -> None:
    """What the test before says is said of something."""
    for file in (HERE / "bundles/draft").rglob("*.*"):
        if file.is_file() and file.suffix in (".py", ".md"):
            copy = tmp_path / "draft" / file.relative_to(HERE / "bundles/draft")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(
                file.read_text().replace("await self._draft(ctx, await self._load())", "await self._load()")
            )
    done = run(REPLAYED, tmp_path / "draft", HERE / "draft.history.json")
    assert "Nondeterminism" in done.stderr


@pytest.mark.parametrize(
    ("env", "place", "said"),
    [
        ({"TEMPORAL_HOST": ""}, "runbooks", "TEMPORAL_HOST is not set"),
        ({}, "docs", "there is no runbook.md in it, nor in a folder of it"),
        ({}, "tests/recovery/bundles", "There is more than one activity note: on one task queue names are unique."),
        ({}, "runbooks", "NTRO_TASK_QUEUE is not set, nor is NTRO_TENANT_SLUG"),
    ],
)
def test_a_worker_says_what_it_lacks(env: dict[str, str], place: str, said: str) -> None:
    command = [sys.executable, "-m", "hostler.runbooks.temporal.worker", str(ROOT / place)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**env))
    assert done.returncode == 2
    assert said in done.stderr
