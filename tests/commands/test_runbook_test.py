"""`hostler runbook test`: a runbook from beginning to end without a server, answered by scenarios."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands import bundles
from commands.bundles import ACTIVITIES, WORKFLOW
from commands.command import complaint, hostler

Json = dict[str, Any]
READ = """from ntro.data import get_data_plane
    from ntro.ingest import fetch_submitted_document_by_id

    document = await fetch_submitted_document_by_id(await get_data_plane("any"), document_ref=period)
    return Balance(total=len(document.data_bytes), currency="GBP", lines=[])"""


def trial(*arguments: object, status: int = 0) -> list[Json]:
    done = hostler("runbook", "test", *arguments, "--json")
    assert done.returncode == status, (done.stdout, done.stderr)
    return list(json.loads(done.stdout))


def scenario(folder: Path, text: str, name: str = "own") -> Path:
    (folder / "scenarios").mkdir(exist_ok=True)
    file = folder / "scenarios" / f"{name}.yaml"
    file.write_text(text)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundles.write(tmp_path / "monthly-close")


def test_the_two_that_are_built_in(folder: Path) -> None:
    happy, rejected = trial(folder, "--input", "period=2026-03", "--input", '{"audit_agent_id": "a"}')
    assert (happy["scenario"], happy["status"], happy["ok"]) == ("happy", "completed", True)
    assert happy["result"] == {
        "file": "bank_statement.bin", "total": 0, "rows": [], "review": {"type": "approved"}, "signed": "approved",
        "text": "mocked", "files": [], "period": "2026-03",
    }  # fmt: skip
    assert [step["status"] for step in happy["steps"]] == ["completed"] * 5
    kinds = [event["kind"] for event in happy["events"]]
    assert kinds == ["upload", "step", "step", "review", "step", "agent", "step", "review", "step"]
    assert (rejected["status"], rejected["ok"]) == ("failed", True)
    assert "the review was rejected" in rejected["error"]
    words = hostler("runbook", "test", folder, "-s", "happy").stdout
    assert words.splitlines()[0].startswith("ok   happy: completed after ")
    assert "review: approved" in words


def test_a_task_is_told_where_it_is_as_on_a_server(tmp_path: Path) -> None:
    workflow = """
from pydantic import BaseModel

from ntro.workflow import NtroWorkflow, runbook


class Ctx(BaseModel):
    period: str
    tenant_slug: str
    entity_slug: str
    task_id: str


@runbook.defn
class WhereAmIWorkflow(NtroWorkflow):
    @runbook.run
    async def run(self, ctx: Ctx) -> dict:
        return {"tenant": ctx.tenant_slug, "entity": ctx.entity_slug, "task": len(ctx.task_id)}
"""
    front = bundles.FRONT.replace("monthly-close", "where-am-i")
    made = bundles.write(tmp_path / "where-am-i", workflow=workflow, activities="", models="", front=front)
    happy, _ = trial(made, "--input", "period=2026-03", "--input", "entity_slug=fund-one")
    assert happy["result"] == {"tenant": "rehearsal", "entity": "fund-one", "task": 36}
    without = hostler("runbook", "test", made, "-s", "happy")
    assert without.returncode == 1
    assert "the task's context does not fit Ctx: period: Field required\n" in without.stdout


def test_a_scenario_of_its_own(folder: Path) -> None:
    scenario(
        folder,
        """
input: {period: 2026-04}
reviews:
  review: {comments: fine, corrections: [{row: 1}], rows: [{action: edit_cell, row_id: r1, field: a, value: 2}]}
  sign: {decision: rejected}
uploads:
  bank_statement: {filename: march.csv}
activities:
  load_balance: {returns: {total: 7, currency: GBP, lines: [a]}}
agents:
  - {text: "done: 3 files", files: [handover.docx]}
expect:
  status: completed
  steps: [upload, load, review, draft, sign]
  result: {file: march.csv, total: 7, rows: [r1], signed: rejected, files: [handover.docx], period: 2026-04}
""",
    )
    own = trial(folder)[2]
    assert (own["scenario"], own["ok"], own["faults"]) == ("own", True, [])
    assert own["result"]["review"] == {"type": "approved", "comments": "fine", "corrections": [{"row": 1}]}
    assert trial(folder, "-s", "own", "-s", "happy")[0]["scenario"] == "own"


def test_what_does_not_come_out_is_said(folder: Path) -> None:
    scenario(folder, "expect: {status: failed, steps: [load], result: {total: 1}, error: boom}\n")
    (own,) = trial(folder, "-s", "own", status=1)
    assert [fault.partition(":")[0] for fault in own["faults"]] == ["status", "result", "error", "steps"]
    done = hostler("runbook", "test", folder, "-s", "own")
    assert done.returncode == 1
    assert "wrong: status: completed instead of failed" in done.stdout


def test_activities_that_fail_and_those_that_are_real(folder: Path) -> None:
    scenario(folder, "activities: {load_balance: {raises: books are closed}}\nexpect: {error: books are closed}\n")
    (own,) = trial(folder, "-s", "own")
    assert own["status"] == "failed"
    raised, made = 'raise RuntimeError("it was really called")', 'return Balance(total=9, currency="x", lines=[])'
    bundles.write(folder, activities=ACTIVITIES.replace(raised, made))
    (outcome,) = trial(folder, "-s", "happy", "--real")
    assert outcome["result"]["total"] == 9
    scenario(folder, "activities: {load_balance: [{returns: {total: 5, currency: y, lines: []}}]}\n", "listed")
    assert trial(folder, "-s", "listed", "--real")[0]["result"]["total"] == 5


def test_agents_that_fail(folder: Path) -> None:
    scenario(folder, "agents: [{error: refused}]\n")
    (own,) = trial(folder, "-s", "own")
    assert own["result"]["text"] is None
    assert any("refused" in event["detail"] for event in own["events"])


def test_documents_are_collected_with_and_without_the_child(tmp_path: Path) -> None:
    parent, child = bundles.parent(tmp_path / "collect"), bundles.child(tmp_path / "document-ingest")
    (outcome,) = trial(parent, "-s", "happy")
    assert outcome["result"] == {"sources": ["bank", "rent"]}
    assert [event["kind"] for event in outcome["events"]].count("child") == 2
    (outcome,) = trial(parent, "-s", "happy", "--child", child)
    assert outcome["result"] == {"sources": ["bank", "rent"]}
    assert [event["kind"] for event in outcome["events"]].count("upload") == 2
    scenario(parent, "children: {document-ingest: {raises: unreadable}}\nexpect: {error: unreadable}\n")
    assert trial(parent, "-s", "own")[0]["status"] == "failed"


def test_what_nobody_answers_ends_in_time(folder: Path) -> None:
    bundles.write(folder, workflow=WORKFLOW.replace('"signal_name": "document_submitted"', '"signal_name": ""'))
    scenario(folder, "seconds: 2\n")
    (own,) = trial(folder, "-s", "own", status=1)
    assert own["status"] == "timeout"
    assert "it waits for submit_file: the statement is needed" in own["error"]


def test_code_that_never_lets_go_and_code_that_ends_the_process(folder: Path) -> None:
    exits = WORKFLOW.replace("self.document = None\n", "self.document = None\n        self.n = 1\n", 1)
    exits = exits.replace("name = await self._upload(ctx)", "import os; os._exit(4)")
    bundles.write(folder, workflow=exits)
    (outcome,) = trial(folder, "-s", "happy", status=1)
    assert "the runbook's process has ended" in outcome["error"]
    bundles.write(folder, workflow=WORKFLOW.replace("name = await self._upload(ctx)", "while True: pass"))
    (outcome,) = trial(folder, "-s", "happy", "--seconds", "2", status=1)
    assert outcome["status"] == "timeout"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("reviews: {a: {decision: maybe}}", "line 1: reviews"),
        ("revews: {}", "line 1: revews: Extra inputs are not permitted"),
        ("seconds: -1", "line 1: seconds"),
        ("agents: {}", "line 1: agents"),
        ("a: [", "not valid YAML"),
    ],
)
def test_scenarios_that_are_wrong(folder: Path, text: str, says: str) -> None:
    file = scenario(folder, text)
    said = complaint(hostler("runbook", "test", folder, "-s", file))
    assert said.startswith(str(file))
    assert says in said


def test_words_of_what_can_t_be_done(folder: Path) -> None:
    assert "There is no scenario sad: happy, reject_all" in complaint(hostler("runbook", "test", folder, "-s", "sad"))
    assert "give NAME=VALUE" in complaint(hostler("runbook", "test", folder, "--input", "period"))
    bundles.write(folder, workflow="x = (")
    said = complaint(hostler("runbook", "test", folder))
    assert "WORKFLOW_PY_IMPORT_ERROR" in said
    assert "hostler runbook validate" in said


def test_one_that_asks_for_the_same_for_ever(folder: Path) -> None:
    endless = WORKFLOW.replace("name = await self._upload(ctx)", "while True:\n            await self._review(ctx)")
    bundles.write(folder, workflow=endless)
    (outcome,) = trial(folder, "-s", "reject_all", status=1)
    assert outcome["error"].startswith("AskedAgain: review asks again and again: look at it")


def test_a_file_becomes_a_document_and_a_scenario_stands_in_for_a_built_in_one(folder: Path) -> None:
    (folder / "march.csv").write_text("a,b\n")
    reads = ACTIVITIES.replace('raise RuntimeError("it was really called")', READ)
    uses = WORKFLOW.replace("load_balance, ctx.period,", 'load_balance, self.document["document_ref"],')
    bundles.write(folder, activities=reads, workflow=uses)
    uploads = "uploads: {bank_statement: {file: ../march.csv}}"
    scenario(folder, f"real: true\n{uploads}\nexpect: {{result: {{total: 4}}}}\n", "happy")
    assert [each["scenario"] for each in trial(folder)] == ["reject_all", "happy"]
    scenario(folder, "uploads:\n  a: {file: nowhere}\n", "happy")
    assert "line 2: uploads.a.file: there is no file" in complaint(hostler("runbook", "test", folder))


def test_the_reference_runbook() -> None:
    outcomes = trial(Path(__file__).parents[2] / "runbooks" / "nav-audit-handover")
    assert len(outcomes) == 5
    assert all(each["ok"] for each in outcomes)
