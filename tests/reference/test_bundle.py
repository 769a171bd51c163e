"""The bundle nav-audit-handover on our runtime and a journal in memory: its ends, its gates, deaths at any point."""

from __future__ import annotations

import ast
import asyncio
import copy
import json
import re
import subprocess
import sys
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ntro.workflow.exceptions import WorkflowError
from replaying import Died, Memory, life, set_runtime

from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.worker import agents, bundle
from hostler.runbooks.worker.run import Run
from reference import periods

BUNDLE = Path(__file__).parents[2] / "runbooks" / "nav-audit-handover"
CLASS = "NavAuditHandoverWorkflow"
STEPS = ["load_period", "prepare_summary", "draft_auditor_handover", "review_handover", "record_outcome"]
AGENT = "5a7c4c1e-9d9b-4a1e-8a56-0a4b4d7f1c11"
SEED = """
result = await invoke(
    ctx.audit_agent_id,
    input={"period_summary": period_summary},
    tenant_slug=ctx.tenant_slug,
    entity_slug=ctx.entity_slug,
    task_id=ctx.task_id,
)
return result
"""
Json = dict[str, Any]


class Plane:
    """A tenant's tables, as far as the bundle uses them."""

    def __init__(self) -> None:
        self.records: dict[str, Json] = {}
        self.documents: dict[str, Json] = {}
        self.inserts = 0

    async def fetchrow(self, sql: str, *args: Any) -> Json | None:
        words = " ".join(sql.split())
        if words == "SELECT id FROM ingest.submitted_records WHERE id = $1::uuid":
            return {"id": args[0]} if args[0] in self.records else None
        if words.startswith("INSERT INTO ingest.submitted_records (id, entity_slug, task_id, kind, source_ref, data)"):
            self.inserts += 1
            assert args[0] not in self.records, "a unique key is violated"
            names = ("id", "entity_slug", "task_id", "kind", "source_ref", "data")
            self.records[args[0]] = dict(zip(names, args, strict=True)) | {"received_at": None}
            return self.records[args[0]]
        assert "FROM ingest.submitted_documents WHERE id = $1::uuid" in words
        return self.documents.get(args[0])

    def document(self, content: bytes) -> str:
        ref = str(uuid.uuid4())
        fields = {"entity_slug": "meadow-court", "source": "period-summary", "filename": "period.json"}
        self.documents[ref] = {"id": ref, **fields, "content_type": "application/json", "data_bytes": content}
        return ref


class Journal(Memory):
    """With an agent that hands over what it is told to."""

    def __init__(self, names: list[str], **more: Any) -> None:
        super().__init__()
        files = [
            {"document_ref": f"ref-{name}", "filename": name, "content_type": "x/y", "size_bytes": 9, "source": "a"}
            for name in names
        ]
        self.answer = {"status": "completed", "output_text": "Made.", "output_files": files, **more}

    async def agent(self, key: str, call: Json) -> Entry:
        self.agent_runs.append(call)
        body = {"agent_id": call["agent_id"], "session_id": "sesn_1", **self.answer}
        return self.add(Draft(kind="agent", key=key, body=body))


@pytest.fixture(scope="module")
def workflow() -> Iterator[type]:
    set_runtime()
    agents.stand_in()
    path = list(sys.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of `ui_step`, the older name of `runbook.step`
        yield bundle.load(BUNDLE, "nav-audit-handover", CLASS, ["activities"])
    sys.path[:] = path


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Plane:
    plane = Plane()

    async def get_data_plane(tenant_slug: str) -> Plane:
        assert tenant_slug == "byng"
        return plane

    monkeypatch.setattr("ntro.data.get_data_plane", get_data_plane)
    return plane


def context(workflow: type, **more: Any) -> Any:
    summary = json.loads(periods.SAMPLE.read_text())["period_summary"]
    given = {
        "period": "2026-03",
        "tenant_slug": "byng",
        "entity_slug": "meadow-court",
        "audit_agent_id": AGENT,
        "task_id": "task",
        "period_summary": summary,
        "ai": {"provider": "whatever the entity's configuration has besides"},
        **more,
    }
    return sys.modules[workflow.__module__].Context.model_validate(given)


class Person:
    """Answers each gate of a kind once, in order."""

    def __init__(self, *reviews: Json, files: tuple[str, ...] = ()) -> None:
        self.reviews = list(reviews)
        self.files = list(files)
        self.gates: list[Json] = []

    def __call__(self, instance: Any, port: Memory, run: Run) -> None:
        pending = instance.current_pending_action()
        answered = sum(entry.kind == "signal" for entry in port.entries)
        waited = sum(entry.kind == "waited" for entry in port.entries)
        if not pending or answered > waited:
            return
        self.gates.append(copy.deepcopy(pending))
        if pending["kind"] == "submit_file":
            sent = {"document_ref": self.files.pop(0), "source": pending["args"]["source"]}
            self._send(port, run, pending["args"]["signal_name"], sent)
        else:
            self._send(port, run, "user_action", self.reviews.pop(0))

    def _send(self, port: Memory, run: Run, name: str, argument: Json) -> None:
        run.signal(port.add(Draft(kind="signal", body={"name": name, "args": [argument]})))


HANDOVER = "audit-handover-2026-03.docx"
APPROVED = {"type": "approved", "comments": "Well done."}


def play(workflow: type, ctx: Any, person: Person, port: Memory | None = None) -> Any:
    return asyncio.run(asyncio.wait_for(life(workflow, port or Journal([HANDOVER]), ctx, person), 30))


def test_a_period_is_drafted_approved_and_recorded(workflow: type, plane: Plane) -> None:
    port, person = Journal([HANDOVER, "notes.txt"]), Person(APPROVED)
    outcome = play(workflow, context(workflow), person, port)
    (record,) = plane.records.values()
    assert outcome["record_id"] == record["id"]
    assert (outcome["decision"], outcome["comments"]) == ("approved", "Well done.")
    assert [each["filename"] for each in outcome["documents"]] == [HANDOVER, "notes.txt"]
    assert (record["kind"], record["task_id"], record["entity_slug"]) == ("audit_handover", "task", "meadow-court")
    assert json.loads(record["data"])["decision"] == "approved"
    assert json.loads(record["source_ref"]) == {"agent_id": AGENT, "session_id": "sesn_1"}
    (call,) = port.agent_runs
    assert (call["agent_id"], call["tenant_slug"], call["entity_slug"], call["task_id"]) == (
        AGENT, "byng", "meadow-court", "task",
    )  # fmt: skip
    assert json.loads(call["message"]) == json.loads(periods.SAMPLE.read_text()), "the sample needs nothing added"
    (gate,) = person.gates
    assert gate["display_hint"]["component"] == "APPROVAL_FORM"
    assert [each["document_ref"] for each in gate["payload"]["documents"]] == [f"ref-{HANDOVER}", "ref-notes.txt"]
    assert gate["payload"]["agent_said"] == "Made."
    (*_, view) = [each for each in port.views if each]
    assert [(step["id"], step["status"]) for step in view["current_steps"]] == [(name, "completed") for name in STEPS]
    assert len(json.dumps(view)) < 8000, "figures stay out of what is shown"


def test_a_rejection_is_recorded_too(workflow: type, plane: Plane) -> None:
    outcome = play(workflow, context(workflow), Person({"type": "rejected", "comments": "Unit 7 is missing."}))
    assert (outcome["decision"], outcome["comments"]) == ("rejected", "Unit 7 is missing.")
    assert [json.loads(record["data"])["decision"] for record in plane.records.values()] == ["rejected"]


def test_an_entity_without_an_agent_has_nothing_drafted(workflow: type, plane: Plane) -> None:
    port, person = Journal([HANDOVER]), Person()
    outcome = play(workflow, context(workflow, audit_agent_id=None), person, port)
    assert (outcome["decision"], outcome["documents"]) == ("skipped", [])
    assert (port.agent_runs, person.gates, len(plane.records)) == ([], [], 1)


def test_without_figures_it_waits_for_a_file_until_one_is_right(workflow: type, plane: Plane) -> None:
    wrong = plane.document(b'{"period_summary": {"period": "2026-02", "tb": {}}}')
    right = plane.document(periods.SAMPLE.read_bytes())
    person = Person(APPROVED, files=(plane.document(b"PK"), "absent", wrong, right))
    outcome = play(workflow, context(workflow, period_summary=None), person)
    assert outcome["decision"] == "approved"
    files = [gate for gate in person.gates if gate["kind"] == "submit_file"]
    said = [(gate.get("feedback") or {}).get("payload", {}).get("message", "") for gate in files]
    assert said[0] == ""
    assert "period.json is not JSON" in said[1]
    assert said[2] == "There is no document absent."
    assert said[3] == "period: the figures are of 2026-02, and the task is for 2026-03"
    assert files[0]["args"]["signal_task_id"] == "task"
    assert "feedback" not in person.gates[-1], "the review does not repeat what was wrong with a file"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"period": "2026-02"}, "period: the figures are of 2026-02"),
        ({"tb": None, "journal_proposal": None}, "tb: Input should be the trial balance"),
        ({"tb": []}, "tb: Input should be an object"),
        ({"tb": {"lines": {}}}, "tb.lines: Input should be a list"),
        ({"tb": {"lines": [7]}}, "tb.lines.0: Input should be an object"),
        ({"tb": {"lines": [{"debit": "1,5"}]}}, "tb.lines.0.debit: Input should be an amount"),
        ({"tb": {"total_debits": True}}, "tb.total_debits: Input should be an amount"),
        ({"tb": {"total_debits": "NaN"}}, "tb.total_debits: Input should be an amount"),
        ({"journal_proposal": {"totals": []}}, "journal_proposal.totals: Input should be an object"),
        ({"journal_proposal": {"totals": {"debits": {}}}}, "journal_proposal.totals.debits: Input should be"),
        ({"prior_period": {"lines": [{"credit": "x"}]}}, "prior_period.lines.0.credit: Input should be an amount"),
        ({"documents": {}}, "documents: Input should be a list"),
        ({"documents": ["a"]}, "documents.0: Input should be an object"),
        ({"checks": {"bank": {}}}, "checks.bank: there is no such check"),
        ({"checks": {"bank_reconciles": {"status": "ok"}}}, "checks.bank_reconciles.status: Input should be one of"),
        ({"entity": "x"}, "entity: Input should be an object"),
    ],
)
def test_figures_that_are_none_fail_with_their_place(workflow: type, plane: Plane, change: Json, says: str) -> None:
    summary = {**json.loads(periods.SAMPLE.read_text())["period_summary"], **change}
    with pytest.raises(WorkflowError, match=f"^{re.escape(says)}"):
        play(workflow, context(workflow, period_summary=summary), Person())
    assert plane.records == {}


@pytest.mark.parametrize(
    ("names", "more", "says"),
    [
        ([], {}, f"The agent was to make one {HANDOVER}, and made no file. It said: Made."),
        (["audit-handover-2026-02.docx"], {}, "and made audit-handover-2026-02.docx."),
        ([HANDOVER, HANDOVER], {}, f"and made {HANDOVER}, {HANDOVER}."),
        ([HANDOVER], {"status": "failed", "error": "The model refused."}, "sesn_1 ended as failed: The model refused."),
    ],
)
def test_an_agent_that_hands_over_something_else_fails_the_task(
    workflow: type, plane: Plane, names: list[str], more: Json, says: str
) -> None:
    with pytest.raises(WorkflowError, match=re.escape(says)):
        play(workflow, context(workflow), Person(), Journal(names, **more))
    assert plane.records == {}


def test_what_is_arithmetic_is_checked_where_nobody_has(workflow: type, plane: Plane) -> None:
    summary = json.loads(periods.SAMPLE.read_text())["period_summary"]
    summary["checks"] = {"bank_reconciles": {"status": "fail", "detail": "Off by 1."}, "closing_tb_balanced": None}
    summary["journal_proposal"]["totals"] = {"debits": "43800.00", "credits": 43799.9}
    del summary["entity"], summary["prepared_at_iso"]
    port = Journal([HANDOVER])
    play(workflow, context(workflow, period_summary=summary), Person(APPROVED), port)
    sent = json.loads(port.agent_runs[0]["message"])["period_summary"]
    assert sent["checks"] == {
        "bank_reconciles": {"status": "fail", "detail": "Off by 1."},
        "closing_tb_balanced": {"status": "pass", "detail": "Debits and credits are both 4,900,985.50."},
        "journal_balanced": {"status": "fail", "detail": "Debits less credits are 0.10."},
    }
    assert sent["entity"] == {"slug": "meadow-court"}
    assert sent["prepared_at_iso"].startswith("20")


def lives(workflow: type, plane: Plane, die_at: tuple[int, bool] | None) -> tuple[Any, Journal]:
    port, person = Journal([HANDOVER]), Person(APPROVED, APPROVED)
    port.die_at = die_at

    async def both() -> Any:
        try:
            return await life(workflow, port, context(workflow), person)
        except Died:
            port.die_at = None
            return await life(workflow, port, context(workflow), person)

    return asyncio.run(asyncio.wait_for(both(), 30)), port


APPENDS = 14  # at most: how often the runtime tells what is seen of a task is its own business


@pytest.mark.parametrize("written", [False, True], ids=["unwritten", "written"])
@pytest.mark.parametrize("at", range(1, APPENDS + 1))
def test_it_dies_at_any_append(workflow: type, plane: Plane, at: int, written: bool) -> None:
    outcome, port = lives(workflow, plane, (at, written))
    assert outcome["decision"] == "approved"
    assert (len(plane.records), plane.inserts) == (1, 1)
    assert len(port.agent_runs) == 1
    assert [entry.body["name"] for entry in port.entries if entry.kind == "step"] == STEPS


def test_there_are_no_more_appends(workflow: type, plane: Plane) -> None:
    assert len(STEPS) < lives(workflow, plane, None)[1].appends <= APPENDS


def method(name: str) -> ast.AsyncFunctionDef:
    tree = ast.parse((BUNDLE / "templates" / "workflow.py").read_text())
    (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and node.name == name]
    return found


def test_the_step_is_the_one_that_the_documentation_shows() -> None:
    step = method("_step_draft_auditor_handover")
    decorator = "ui_step(name='draft_auditor_handover', title='Draft auditor handover', icon='FileText')"
    assert [ast.unparse(each) for each in step.decorator_list] == [decorator]
    assert [argument.arg for argument in step.args.args][:2] == ["self", "ctx"]
    assert ast.unparse(step.body[0]) == "if not ctx.audit_agent_id:\n    return None"
    shown = ast.parse("async def shown():\n" + "".join(f"    {line}\n" for line in SEED.strip().splitlines())).body[0]
    assert isinstance(shown, ast.AsyncFunctionDef)
    assert [ast.unparse(each) for each in step.body[-2:]] == [ast.unparse(each) for each in shown.body]
    assert "\nfrom ntro.workflow.agents import invoke\n" in (BUNDLE / "templates" / "workflow.py").read_text()


def test_the_front_matter_says_what_is_there(workflow: type) -> None:
    front = yaml.safe_load((BUNDLE / "runbook.md").read_text().split("---\n")[1])
    assert [step["id"] for step in front["steps"]] == STEPS
    declared = [vars(each)["__ntro_ui_step__"] for each in vars(workflow).values() if hasattr(each, "__ntro_ui_step__")]
    assert [step["name"] for step in declared] == STEPS
    assert [step["title"] for step in declared] == [step["label"] for step in front["steps"]]
    assert all((BUNDLE / template["path"]).is_file() for template in front["templates"])
    activities = (BUNDLE / "templates" / "activities.py").read_text()
    assert all(f"async def {step['activity']}(" in activities for step in front["steps"] if "activity" in step)


def python(program: str, **environ: str) -> str:
    """What a program says that imports bundles by the published package's own means."""
    done = subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", program, str(BUNDLE)],
        env={"PATH": "/usr/bin:/bin", **environ}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_published_validator_misses_nothing_but_temporal() -> None:
    said = python("""
import sys
from ntro.runbook.validate import validate_runbook
report = validate_runbook(sys.argv[1])
print([issue.code for issue in report.errors], report.warnings)
""")
    assert said == "['WORKFLOW_DEFN_MISSING'] []\n", "a mark of Temporal's, which is not installed here"


def test_on_temporal_an_activity_makes_the_same_call() -> None:
    """With stand-ins for Temporal's modules and its runtime: the names, the arguments and what goes into history."""
    said = python("""
import asyncio, contextlib, importlib.machinery, sys, types
temporalio, common = types.ModuleType("temporalio"), types.ModuleType("temporalio.common")
temporalio.__spec__ = importlib.machinery.ModuleSpec("temporalio", None)
passed = []
class Unsafe:
    @contextlib.contextmanager
    def imports_passed_through(self):
        yield
        passed.append("ntro.workflow.agents" in sys.modules)
temporalio.workflow = types.SimpleNamespace(unsafe=Unsafe())
common.RetryPolicy = lambda maximum_attempts: ("retries", maximum_attempts)
sys.modules |= {"temporalio": temporalio, "temporalio.common": common}
from ntro.workflow.runtime import LocalRuntime, set_runtime
class Temporal(LocalRuntime):
    name = "temporal"
    async def execute_activity(self, fn, arg=None, /, **kwargs):
        print(fn.__name__, *sorted(arg), kwargs["start_to_close_timeout"], kwargs["retry_policy"])
        return await fn(arg)
set_runtime(Temporal())
sys.path.insert(0, sys.argv[1])
from templates import workflow
from ntro.workflow import agents
print(passed, workflow.invoke is agents.invoke)
async def published(agent_id, *, input, tenant_slug=None, entity_slug=None, task_id=None, max_poll_seconds=1800.0):
    return agents.AgentResult(agent_id=agent_id, session_id=f"of {task_id}", status="completed", raw={"a": 1})
agents.invoke = published
call = workflow.invoke("one", input={"a": 1}, tenant_slug="byng", entity_slug="e", task_id="t", max_poll_seconds=60.0)
result = asyncio.run(call)
print(type(result).__name__, result.agent_id, result.session_id)
""")
    assert said.splitlines() == [
        "[True] False",
        "run_agent agent_id entity_slug input max_poll_seconds task_id tenant_slug 0:06:00 ('retries', 1)",
        "AgentResult one of t",
    ]
