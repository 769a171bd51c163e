"""Reads the front matter of a runbook.md for a person who wrote it: with the code of what is wrong, and its line.

It must not decide what is deployed: `library` reads it again, by the same rules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hostler.errors import InvalidRequest
from hostler.runbooks.library import front_matter

MAX_BYTES = 256 * 1024


class FrontMatter(NamedTuple):
    """`lines` are those of its values by dotted path."""

    data: dict[str, Any]
    lines: dict[str, int]

    def line(self, path: str) -> int | None:
        return self.lines.get(path)


class Fault(NamedTuple):
    code: str
    message: str
    line: int | None = None


def read_front_matter(file: Path) -> tuple[FrontMatter | None, Fault | None]:
    """One of the two is None."""
    try:
        text = _text(file)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        return None, Fault("FRONTMATTER_PARSE_ERROR", f"it can't be read: {error}")
    lines = text.splitlines()
    first = next((index for index, line in enumerate(lines) if line.strip()), None)
    if first is None or lines[first].strip() != "---":
        return None, Fault("FRONTMATTER_MISSING", "it has to begin with YAML between two lines of `---`", 1)
    end = next((index for index in range(first + 1, len(lines)) if lines[index].strip() == "---"), None)
    if end is None:
        return None, Fault("FRONTMATTER_PARSE_ERROR", "the line `---` after the front matter is missing", first + 1)
    return _parsed("\n".join(lines[first + 1 : end]), first + 2, text)


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 1024} KiB")
    return content.decode("utf-8-sig").replace("\r\n", "\n")


def _parsed(block: str, offset: int, text: str) -> tuple[FrontMatter | None, Fault | None]:
    try:
        root = yaml.compose(block, Loader=yaml.SafeLoader)
        if root is not None and not isinstance(root, yaml.MappingNode):
            return None, Fault("FRONTMATTER_NOT_MAPPING", "it has to be a mapping such as `slug: my-runbook`", offset)
        if root is None:
            return FrontMatter({}, {}), None
        return FrontMatter(front_matter(text), _lines(root, offset)), None
    except yaml.MarkedYAMLError as error:
        line = offset + error.problem_mark.line if error.problem_mark else None
        return None, Fault("FRONTMATTER_PARSE_ERROR", f"not valid YAML: {error.problem or error.context}", line)
    except (yaml.YAMLError, InvalidRequest, RecursionError) as error:
        return None, Fault("FRONTMATTER_PARSE_ERROR", str(error).splitlines()[0], offset)


def _lines(root: Any, offset: int) -> dict[str, int]:
    """Of the keys at the top, and of the entries of their lists."""
    found: dict[str, int] = {}
    for key, value in root.value:
        name = str(getattr(key, "value", ""))
        found[name] = offset + int(key.start_mark.line)
        if isinstance(value, yaml.SequenceNode):
            for index, item in enumerate(value.value):
                found[f"{name}.{index}"] = offset + int(item.start_mark.line)
    return found
