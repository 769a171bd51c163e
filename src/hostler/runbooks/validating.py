"""Says what is wrong with a runbook's folder: first what can be read, then what comes out when it is imported.

Importing runs its code, so that happens in a child process without secrets, with limits of time and memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import hostler
from hostler.errors import InvalidRequest
from hostler.runbooks.bundlefolder import class_name, read_files
from hostler.runbooks.contract import Confine
from hostler.runbooks.frontmatter import FrontMatter, read_front_matter
from hostler.runbooks.library import MANIFEST

SECONDS = 30.0
MAX_ANSWER = 4 * 1024 * 1024
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
_FIELDS = ("slug", "name", "version", "state", "author")
_PROCESS = "hostler.runbooks.worker.check"
_GRACE = 5.0  # seconds in which a child that ends itself has to be gone
_SHAPES = {
    "slug": (re.compile(r"[a-z0-9][a-z0-9_-]{0,63}"), "lower-case letters, digits, `-` and `_`"),
    "version": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"), "letters, digits, `.`, `_`, `+` and `-`"),
}


class Finding(NamedTuple):
    code: str
    message: str
    path: str | None = None
    line: int | None = None


class Report(NamedTuple):
    """`bundle` is what was found in it: slug, version, workflow_class, modules, steps, activities, input (a JSON
    schema)."""

    errors: list[Finding]
    warnings: list[Finding]
    bundle: dict[str, Any]

    @property
    def ok(self) -> bool:
        return not self.errors


async def validate(folder: Path, *, seconds: float = SECONDS) -> Report:
    """Raises nothing for a bundle that is wrong: that is what the report is for."""
    report = Report([], [], {})
    front, code = await asyncio.to_thread(_text, folder, report)
    if code is not None:
        await _code(code, front, report, seconds)
    return report


async def import_faults(
    folder: Path, slug: str, workflow_class: str, names: list[str], *, confine: Confine
) -> list[Finding]:
    """Why a bundle can't be imported, or has no such class to run, in the words of `validate`. Raises NotConfined."""
    report = Report([], [], {})
    found = await _look(folder, slug, workflow_class, names, SECONDS, report, confine)
    if found is None:
        return report.errors
    if found["temporal"]:
        said = f"{workflow_class} is decorated for Temporal alone; import from ntro.workflow instead"
        return [Finding("TEMPORAL_ONLY", said, "templates/workflow.py")]
    return [Finding(code, message, path) for code, message, path in found["problems"]]


def _text(folder: Path, report: Report) -> tuple[FrontMatter | None, Path | None]:
    """What can be read: the front matter, and where there is code to look at."""
    if not folder.exists():
        report.errors.append(Finding("RUNBOOK_DIR_NOT_FOUND", f"there is no folder {folder}"))
        return None, None
    if not folder.is_dir():
        report.errors.append(Finding("RUNBOOK_DIR_NOT_A_DIR", f"{folder} is not a folder"))
        return None, None
    front = _manifest(folder, report)
    return front, folder.resolve() if _files(folder, report) else None


def _manifest(folder: Path, report: Report) -> FrontMatter | None:
    if not (folder / MANIFEST).is_file():
        report.errors.append(Finding("RUNBOOK_MD_MISSING", f"there is no {MANIFEST}", MANIFEST))
        return None
    front, fault = read_front_matter(folder / MANIFEST)
    if front is None:
        assert fault is not None
        report.errors.append(Finding(fault.code, fault.message, MANIFEST, fault.line))
        return None
    for name in _FIELDS:
        if front.data.get(name) in (None, ""):
            report.errors.append(Finding("FRONTMATTER_FIELD_MISSING", f"`{name}` is missing", MANIFEST, 1))
    for name, (shape, words) in _SHAPES.items():
        value = front.data.get(name)
        if value not in (None, "") and not (isinstance(value, str) and shape.fullmatch(value)):
            code = f"FRONTMATTER_{name.upper()}_INVALID"
            quotes = "" if isinstance(value, str) else "; put it in quotes, for it is read as a number"
            report.errors.append(
                Finding(code, f"{name}: {words} are expected, 64 at most{quotes}", MANIFEST, front.line(name))
            )
    for index, template in enumerate(_listed(front, "templates")):
        path = template.get("path") if isinstance(template, dict) else None
        if isinstance(path, str) and not (folder / path).is_file():
            finding = Finding("TEMPLATE_MISSING", f"templates.{index}: there is no file {path[:200]}", MANIFEST)
            report.errors.append(finding._replace(line=front.line(f"templates.{index}")))
    return front


def _files(folder: Path, report: Report) -> bool:
    """Whether there is code to look at."""
    try:
        files = read_files(folder)
    except InvalidRequest as error:
        report.errors.append(Finding("BUNDLE_TOO_LARGE", error.message))
        return False
    report.warnings.extend(Finding("FILE_NOT_DEPLOYED", said, said.split(":")[0]) for said in files.left_out)
    names = {"WORKFLOW_PY_MISSING": "templates/workflow.py", "ACTIVITIES_PY_MISSING": "templates/activities.py"}
    for code, name in names.items():
        if name not in files.texts:
            also = "; it may be empty" if code.startswith("ACT") else ""
            report.errors.append(Finding(code, f"there is no {name}{also}", name))
    return names["WORKFLOW_PY_MISSING"] in files.texts


def modules(folder: Path) -> list[str]:
    """What is imported besides the workflow."""
    return [name for name in ("models", "activities") if (folder / "templates" / f"{name}.py").is_file()]


async def _code(folder: Path, front: FrontMatter | None, report: Report, seconds: float) -> None:
    slug = str(front.data.get("slug") or "") if front else ""
    names = modules(folder)
    found = await _look(folder, slug or folder.name, class_name(slug or folder.name), names, seconds, report)
    if found is None:
        return
    for code, message, path in found["problems"]:
        if not slug and code == "WORKFLOW_CLASS_NOT_FOUND":
            continue  # which class it should be is not known
        line = re.match(r"[^:]+:(\d+): ", message)
        report.errors.append(Finding(code, message, path, int(line[1]) if line else None))
    if found["temporal"]:
        said = "it is decorated for Temporal alone: it runs there, and here once it imports from ntro.workflow"
        report.warnings.append(Finding("TEMPORAL_ONLY", said, "templates/workflow.py"))
    if found.get("marked_run") is False:
        said = "`run` is not decorated with @runbook.run, which Temporal would want"
        report.warnings.append(Finding("WORKFLOW_RUN_NOT_MARKED", said, "templates/workflow.py"))
    report.bundle.update(
        slug=slug, version=str(front.data.get("version") or "") if front else "", workflow_class=class_name(slug),
        modules=names, steps=found["steps"], activities=found["activities"], input=found["input"],
    )  # fmt: skip
    if front is not None and not any(each.code.endswith(("ERROR", "NOT_FOUND")) for each in report.errors):
        _compare(front, found, report)


def _compare(front: FrontMatter, found: dict[str, Any], report: Report) -> None:
    """Whether the front matter says what the code does."""
    for name, said in found["says"].items():
        if str(front.data.get(name)) != said:
            message = f"{name}: the front matter says {front.data.get(name)}, templates/workflow.py says {said}"
            report.errors.append(Finding("FRONTMATTER_MISMATCH", message, MANIFEST, front.line(name)))
    declared = []
    for index, step in enumerate(_listed(front, "steps")):
        line = front.line(f"steps.{index}")
        name = step.get("id") if isinstance(step, dict) else None
        if not isinstance(name, str):
            report.errors.append(Finding("STEP_INVALID", f"steps.{index}: Input should have an `id`", MANIFEST, line))
            continue
        declared.append(name)
        if name not in found["steps"]:
            there = ", ".join(found["steps"]) or "none"
            message = f"steps.{index}: the code has no step {name}; it has {there}"
            report.errors.append(Finding("STEP_UNKNOWN", message, MANIFEST, line))
        activity = step.get("activity")
        if isinstance(activity, str) and activity and activity.rpartition(".")[2] not in found["activities"]:
            message = f"steps.{index}.activity: the code has no activity {activity}"
            report.errors.append(Finding("ACTIVITY_UNKNOWN", message, MANIFEST, line))
    for name in found["steps"] if declared else ():
        if name not in declared:
            report.warnings.append(Finding("STEP_UNDECLARED", f"the step {name} is not in the front matter", MANIFEST))


def _listed(front: FrontMatter, name: str) -> list[Any]:
    found = front.data.get(name)
    return found if isinstance(found, list) else []


async def _look(
    folder: Path,
    slug: str,
    workflow_class: str,
    names: list[str],
    seconds: float,
    report: Report,
    confine: Confine | None = None,
) -> dict[str, Any] | None:
    """What the child found; None where it found nothing, which the report then says."""
    with tempfile.TemporaryDirectory(prefix="hostler-validate-") as home:
        command = [sys.executable, "-P", "-m", _PROCESS, str(folder), slug, workflow_class, str(seconds), *names]
        if confine is not None:
            command = await confine(command, folder)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=home,
            env=_environ(home),
            start_new_session=True,
            limit=MAX_ANSWER,
        )
        try:
            async with asyncio.timeout(seconds + _GRACE):
                answer, said = await asyncio.gather(_read(process.stdout), _read(process.stderr))
                await process.wait()
        except TimeoutError:
            answer, said = b"", b"Timeout"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    try:
        return dict(json.loads(answer))
    except ValueError:
        report.errors.append(_ended(said.decode(errors="replace"), process.returncode, folder, seconds))
        return None


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    """All of it, kept as far as it is bounded."""
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(65536):
        kept += chunk[: MAX_ANSWER - len(kept)]
    return bytes(kept)


def _environ(home: str) -> dict[str, str]:
    """Nothing of a server's, and no keys of whoever runs the command."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    source = str(Path(hostler.__file__).parents[1])
    return {**passed, "HOME": home, "PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def _ended(said: str, status: int | None, folder: Path, seconds: float) -> Finding:
    """A child that gave no answer: it was busy when its time was up, or it ended in mid-import."""
    if "Timeout" in said:
        place = next(
            ((path, int(line)) for path, line in re.findall(r'File "(.+?)", line (\d+)', said) if str(folder) in path),
            None,
        )
        where = Path(place[0]).relative_to(folder).as_posix() if place else None
        message = f"importing it takes more than {seconds:g} seconds; it was still busy" + (" here" if where else "")
        return Finding("IMPORT_TIMEOUT", message, where, place[1] if place else None)
    last = said.strip().splitlines()[-1][:500] if said.strip() else f"status {status}"
    return Finding("IMPORT_ENDED", f"importing it ends the process: {last}", "templates")
