"""A runbook's folder on disk: which of its files are deployed, read as text and bounded. It must not import them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hostler.errors import InvalidRequest
from hostler.runbooks.library import MANIFEST, MAX_BYTES, MAX_FILES

FOLDERS = ("templates", "subledgers", "migrations")  # what beside runbook.md goes to the server
_PASSED_OVER = ("__pycache__", "node_modules")
_LOOKED_AT = 20_000  # entries of a folder; whoever names the root of a disk is told so


class Files(NamedTuple):
    """`left_out` are files that are no text, each with why."""

    texts: dict[str, str]
    left_out: list[str]


def read_files(folder: Path) -> Files:
    """Raises InvalidRequest for what is too much."""
    texts: dict[str, str] = {}
    left_out: list[str] = []
    size = 0
    for file in _files(folder):
        name = file.relative_to(folder).as_posix()
        try:
            content = file.read_bytes() if (size := size + file.stat().st_size) <= MAX_BYTES else None
            if content is None:
                raise InvalidRequest(
                    f"{folder}: its files have more than the {MAX_BYTES} bytes that a runbook may have"
                )
            texts[name] = content.decode().replace("\r\n", "\n")
        except UnicodeDecodeError:
            left_out.append(f"{name}: is not UTF-8 text")
        except OSError as error:
            raise InvalidRequest(f"{file}: can't be read: {error.strerror}") from error
        if len(texts) > MAX_FILES:
            raise InvalidRequest(f"{folder}: has more than the {MAX_FILES} files that a runbook may have")
    return Files(texts, left_out)


def class_name(slug: str) -> str:
    """The workflow class of a slug: `expense-processor` has ExpenseProcessorWorkflow."""
    return "".join(part.capitalize() for part in slug.split("-")) + "Workflow"


def _files(folder: Path) -> list[Path]:
    found = [folder / MANIFEST] if (folder / MANIFEST).is_file() else []
    looked_at = 0
    for name in FOLDERS:
        for path in sorted((folder / name).rglob("*")):
            looked_at += 1
            if looked_at > _LOOKED_AT:
                raise InvalidRequest(f"{folder / name}: has too many files for a runbook")
            parts = path.relative_to(folder).parts
            passed_over = any(part.startswith(".") or part in _PASSED_OVER for part in parts)
            if not passed_over and path.is_file() and not path.is_symlink():
                found.append(path)
    return found
