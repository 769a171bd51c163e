"""What every command of this skill shares: errors as one line, files that are written whole or not at all, bounds.

The same file is in each of the skills docx, pdf, pptx and xlsx, which are used apart from each other.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

MOST_CHARACTERS = 100_000
MOST_UNPACKED = 1024 * 1024 * 1024
OFFICE_SECONDS = 170


class Problem(Exception):
    """Something that the caller can mend; the message says what."""


def run(parser: argparse.ArgumentParser) -> None:
    """Parse the command line, do what it says, and end the process: 0 done, 1 a check found something, 2 an error."""
    arguments = parser.parse_args()
    try:
        module, _, name = arguments.run.partition(":")
        status = getattr(importlib.import_module(module), name)(arguments)
        sys.stdout.flush()
    except Problem as problem:
        _end(parser, str(problem))
    except ModuleNotFoundError as missing:
        here = Path(__file__).resolve().parent.parent / "requirements.txt"
        _end(parser, f"the package {missing.name} is not installed; try: pip install -r {here}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        _end(parser, f"{type(error).__name__}: {error}")
    except (AttributeError, TypeError, IndexError) as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(at.filename).name}:{at.lineno}"
        _end(parser, f"{type(error).__name__}: {error} ({where}); is the input of the shape that SKILL.md describes?")
    sys.exit(status or 0)


def _end(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    print(f"{parser.prog}: {message}", file=sys.stderr)
    sys.exit(2)


def show(text: str, most: int = MOST_CHARACTERS) -> None:
    """Print a text, cut off with a word about it when it is longer than `most` characters."""
    if len(text) > most:
        text = text[:most]
        print(f"... cut off at {most} characters; use --max-chars or ask for a part", file=sys.stderr)
    print(text)


def show_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def source(path: str, *endings: str) -> Path:
    """An input file that exists, has one of these endings and does not unpack to something huge."""
    found = Path(path)
    if not found.is_file():
        raise Problem(f"{path}: there is no such file")
    if endings and found.suffix.lower() not in endings:
        raise Problem(f"{path}: expected a file ending in {' or '.join(endings)}")
    if found.suffix.lower() in (".docx", ".dotx", ".xlsx", ".xlsm", ".pptx", ".potx"):
        _check_zip(found)
    return found


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise Problem(
            f"{path}: not an Office Open XML file (it may be an old binary format, encrypted or damaged)"
        ) from None
    if size > MOST_UNPACKED:
        raise Problem(f"{path}: unpacks to {size} bytes, more than {MOST_UNPACKED}")


def text_of(path: str) -> str:
    """The text of a file, or of stdin for `-`."""
    if path == "-":
        return sys.stdin.read()
    try:
        return source(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Problem(f"{path}: not UTF-8 text") from None


def json_of(path: str) -> object:
    try:
        return json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise Problem(f"{path}: not valid JSON: {error}") from None


@contextlib.contextmanager
def written(path: str) -> Iterator[str]:
    """Give a path to write to; it takes the name `path` only when all went well."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    fd, half = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem[:50]}-", suffix=target.suffix)
    os.close(fd)
    try:
        yield half
        os.chmod(half, 0o644)
        os.replace(half, target)
    except BaseException:
        Path(half).unlink(missing_ok=True)
        raise


def to_format(path: Path, kind: str, folder: str) -> Path:
    """Convert with LibreOffice, where the machine has it."""
    program = shutil.which("soffice") or shutil.which("libreoffice")
    if program is None:
        raise Problem("LibreOffice (soffice) is not installed here, so the file cannot be converted or calculated")
    with tempfile.TemporaryDirectory() as profile:
        command = [program, f"-env:UserInstallation=file://{profile}", "--headless", "--convert-to", kind]
        try:
            done = subprocess.run(
                [*command, "--outdir", folder, str(path)],
                capture_output=True,
                text=True,
                timeout=OFFICE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Problem(f"LibreOffice did not end within {OFFICE_SECONDS} seconds") from None
    result = Path(folder) / f"{path.stem}.{kind.partition(':')[0]}"
    if done.returncode or not result.is_file():
        raise Problem(f"LibreOffice could not convert {path}: {(done.stderr or done.stdout).strip()[-500:]}")
    return result


def convert(arguments: argparse.Namespace) -> None:
    """Command: make a PDF of a document."""
    with tempfile.TemporaryDirectory() as folder, written(arguments.out) as half:
        made = to_format(source(arguments.file), "pdf", folder)
        shutil.copyfile(made, half)
