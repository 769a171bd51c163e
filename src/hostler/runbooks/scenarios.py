"""What people and agents do in a rehearsal of a runbook, as data: the two that are built in, and those of files.

It must not run anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hostler.wire.base import explain
from hostler.yamlfile import read

Decision = Literal["approved", "rejected"]


class RowAction(msgspec.Struct, forbid_unknown_fields=True):
    """What is done to a row while a gate stays open."""

    action: Literal["edit_cell", "reject_row"]
    row_id: str
    field: str | None = None
    value: Any = None


class Review(msgspec.Struct, forbid_unknown_fields=True):
    """How a gate is answered; before that, `rows`."""

    decision: Decision = "approved"
    comments: str | None = None
    corrections: Any = None
    rows: list[RowAction] = []


class Answer(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a call returns, or with which words it fails."""

    returns: Any = None
    raises: str | None = None


class AgentAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """What an agent hands back: its last message and the names of its files; or why it failed."""

    text: str | None = None
    files: list[str] = []
    error: str | None = None


class Expected(msgspec.Struct, forbid_unknown_fields=True):
    """What has to come out. `result` may leave keys out; `error` is a part of the message."""

    status: Literal["completed", "failed"] | None = None
    result: Any = msgspec.UNSET
    error: str | None = None
    steps: list[str] | None = None


class Scenario(msgspec.Struct, forbid_unknown_fields=True):
    """`reviews` are by step, `uploads` by step or source. An upload is what its signal says; with `file` that is a
    document of the data plane. `real` lets the activities run that are not among `activities`."""

    name: str = ""
    input: dict[str, Any] = {}
    default: Decision = "approved"
    reviews: dict[str, Review] = {}
    uploads: dict[str, dict[str, Any]] = {}
    real: bool = False
    activities: dict[str, Answer | list[Answer]] = {}
    agents: list[AgentAnswer] = []
    children: dict[str, Answer] = {}
    seconds: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    expect: Expected | None = None


BUILT_IN = {
    "happy": Scenario(name="happy"),
    "reject_all": Scenario(name="reject_all", default="rejected"),
}


def load_scenario(file: Path) -> Scenario:
    """Raises BadDefinition with the line at fault."""
    document = read(file)
    try:
        scenario = msgspec.convert(document.data, Scenario)
    except msgspec.ValidationError as error:
        said = explain(error, "", Scenario)
        raise document.fault(said.partition(":")[0], said) from error
    scenario.name = scenario.name or file.stem
    for name, upload in scenario.uploads.items():
        if "file" in upload:
            found = file.parent / str(upload["file"])
            if not found.is_file():
                raise document.fault(f"uploads.{name}.file", f"uploads.{name}.file: there is no file {found}")
            upload["file"] = str(found)
    return scenario
