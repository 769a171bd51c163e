"""`hostler runbook validate`: every fault has its code, file and line; what hangs is ended, and no key is seen."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from commands import bundles
from commands.bundles import ACTIVITIES, FRONT, WORKFLOW
from commands.command import hostler

Json = dict[str, Any]


def look(folder: Path, *more: object, status: int = 1, **environ: str) -> Json:
    done = hostler("runbook", "validate", folder, "--json", *more, environ=environ)
    assert done.returncode == status, (done.stdout, done.stderr)
    return dict(json.loads(done.stdout))


def codes(report: Json, kind: str = "errors") -> list[str]:
    return [each["code"] for each in report[kind]]


def test_one_that_is_right(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path)
    report = look(folder, status=0)
    assert (report["ok"], report["errors"], report["warnings"]) == (True, [], [])
    bundle = report["bundle"]
    assert bundle["steps"] == ["upload", "load", "review", "draft", "sign"]
    assert bundle["activities"] == ["load_balance", "post"]
    assert "period" in bundle["input"]["properties"]
    assert not list(folder.rglob("__pycache__")), "nothing is left in the folder"
    done = hostler("runbook", "validate", folder)
    assert done.stdout == f"{folder} is fine: monthly-close 1.0.0, steps: upload, load, review, draft, sign.\n"


def test_what_is_not_there(tmp_path: Path) -> None:
    assert codes(look(tmp_path / "nowhere")) == ["RUNBOOK_DIR_NOT_FOUND"]
    (tmp_path / "file").touch()
    assert codes(look(tmp_path / "file")) == ["RUNBOOK_DIR_NOT_A_DIR"]
    assert codes(look(tmp_path)) == ["RUNBOOK_MD_MISSING", "WORKFLOW_PY_MISSING", "ACTIVITIES_PY_MISSING"]


@pytest.mark.parametrize(
    ("front", "code", "line"),
    [
        ("# no front matter\n", "FRONTMATTER_MISSING", 1),
        ("---\nslug: a\n", "FRONTMATTER_PARSE_ERROR", 1),
        ("---\nslug: a\nname: [\n---\n", "FRONTMATTER_PARSE_ERROR", 3),
        ("---\n- a\n---\n", "FRONTMATTER_NOT_MAPPING", 2),
        (FRONT.replace("author: us\n", ""), "FRONTMATTER_FIELD_MISSING", 1),
        (FRONT.replace("monthly-close", "Monthly Close"), "FRONTMATTER_SLUG_INVALID", 2),
        (FRONT.replace("1.0.0", "1.0"), "FRONTMATTER_VERSION_INVALID", 4),
        (FRONT.replace("monthly-close", "yearly-close"), "WORKFLOW_CLASS_NOT_FOUND", None),
        (FRONT.replace("us\n", "us\nsteps:\n  - id: load\n  - id: lod\n"), "STEP_UNKNOWN", 9),
        (FRONT.replace("us\n", "us\nsteps:\n  - {id: load, activity: lod}\n"), "ACTIVITY_UNKNOWN", 8),
        (FRONT.replace("us\n", "us\nsteps:\n  - {label: load}\n"), "STEP_INVALID", 8),
        (FRONT.replace("us\n", "us\ntemplates:\n  - path: templates/no.py\n"), "TEMPLATE_MISSING", 8),
    ],
)
def test_front_matter_that_is_wrong_or_lies(tmp_path: Path, front: str, code: str, line: int | None) -> None:
    report = look(bundles.write(tmp_path, front=front))
    found = next(each for each in report["errors"] if each["code"] == code)
    assert found["line"] == line, found
    assert found["path"] == ("templates/workflow.py" if code.startswith("WORKFLOW") else "runbook.md")


def test_steps_of_the_code_that_are_not_declared(tmp_path: Path) -> None:
    report = look(bundles.write(tmp_path, front=FRONT.replace("us\n", "us\nsteps: [{id: load}]\n")), status=0)
    assert codes(report, "warnings") == ["STEP_UNDECLARED"] * 4


def test_a_version_in_the_code(tmp_path: Path) -> None:
    report = look(bundles.write(tmp_path, workflow=WORKFLOW + '\nVERSION = "2.0.0"\nSLUG = "monthly-close"\n'))
    assert codes(report) == ["FRONTMATTER_MISMATCH"]
    assert "the front matter says 1.0.0, templates/workflow.py says 2.0.0" in report["errors"][0]["message"]


@pytest.mark.parametrize(
    ("workflow", "code", "says"),
    [
        ("x = (", "WORKFLOW_PY_IMPORT_ERROR", "templates/workflow.py:1: '(' was never closed"),
        ("import nowhere_at_all", "WORKFLOW_PY_IMPORT_ERROR", "templates/workflow.py:1: ModuleNotFoundError"),
        ("from temporalio import workflow", "WORKFLOW_PY_IMPORT_ERROR", "install temporalio"),
        (WORKFLOW.replace("@runbook.defn", ""), "WORKFLOW_DEFN_MISSING", "@runbook.defn"),
        (WORKFLOW.replace("async def run(", "async def go("), "WORKFLOW_RUN_MISSING", "has no method `run`"),
        (WORKFLOW.replace("async def run(", "def run(").replace("await ", ""), "WORKFLOW_RUN_NOT_ASYNC", "async"),
        (WORKFLOW.replace("self, ctx: Ctx)", "self, ctx: Ctx, more)"), "WORKFLOW_RUN_ARGUMENTS", "one argument"),
        (WORKFLOW.replace('"load", title', '"upload", title'), "STEP_NAME_TWICE", "upload"),
        (WORKFLOW.replace("self.rows = []", "1 / 0"), "WORKFLOW_INIT_ERROR", "ZeroDivisionError"),
        ("import os\nos._exit(3)", "IMPORT_ENDED", "status 3"),
        ("raise SystemExit('no')", "IMPORT_ENDED", "no"),
        ("x = bytearray(64 * 1024**3)", "WORKFLOW_PY_IMPORT_ERROR", "MemoryError"),
    ],
)  # fmt: skip
def test_code_that_is_wrong(tmp_path: Path, workflow: str, code: str, says: str) -> None:
    report = look(bundles.write(tmp_path, workflow=workflow))
    found = [each for each in report["errors"] if each["code"] == code]
    assert found, report
    assert says in found[0]["message"]


def test_activities_that_are_wrong_are_told_once(tmp_path: Path) -> None:
    report = look(bundles.write(tmp_path, activities="import nowhere_at_all\n"))
    (found,) = report["errors"]
    assert (found["code"], found["path"], found["line"]) == ("ACTIVITIES_PY_IMPORT_ERROR", "templates/activities.py", 1)


def test_what_loops_is_ended_and_its_place_told(tmp_path: Path) -> None:
    looping = ACTIVITIES + "\nwhile True:\n    pass\n"
    folder = bundles.write(tmp_path, activities=looping)
    begun = time.monotonic()
    report = look(folder, "--seconds", "5")
    assert time.monotonic() - begun < 40
    (found,) = report["errors"]
    assert (found["code"], found["path"]) == ("IMPORT_TIMEOUT", "templates/activities.py")
    first = looping.splitlines().index("while True:") + 1
    assert found["line"] in (first, first + 1)


def test_no_key_is_seen_and_what_is_printed_is_no_answer(tmp_path: Path) -> None:
    spy = "import os\nprint('{}')\nassert not [n for n in os.environ if 'KEY' in n or 'TOKEN' in n], dict(os.environ)\n"
    folder = bundles.write(tmp_path, workflow=spy + WORKFLOW)
    report = look(folder, status=0, ANTHROPIC_API_KEY="sk-a", HOSTLER_API_KEY="sk-b", CRM_TOKEN="c")
    assert report["ok"]


def test_a_runbook_for_temporal(tmp_path: Path) -> None:
    plain = "class MonthlyCloseWorkflow:\n    __temporal_workflow_definition = 1\n    async def go(self, ctx): ...\n"
    named = plain.replace("__temporal", "pass\n    locals()['__temporal").replace("definition = 1", "definition'] = 1")
    report = look(bundles.write(tmp_path, workflow=named), status=0)
    assert codes(report, "warnings") == ["TEMPORAL_ONLY"]
    unmarked = WORKFLOW.replace("@runbook.run", "")
    assert codes(look(bundles.write(tmp_path, workflow=unmarked), status=0), "warnings") == ["WORKFLOW_RUN_NOT_MARKED"]


def test_files_that_are_no_text_and_folders_that_are_no_runbook(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path)
    (folder / "templates" / "logo.png").write_bytes(b"\x89PNG\xff")
    assert codes(look(folder, status=0), "warnings") == ["FILE_NOT_DEPLOYED"]
    (folder / "templates" / "big.txt").write_bytes(b"x" * (9 * 1024 * 1024))
    assert codes(look(folder)) == ["BUNDLE_TOO_LARGE"]
