"""What reads and writes: the submitted figures, the record of what was decided, and, on Temporal, the agent.

An activity may be tried again, so each does the same when it is done twice. They take and give plain JSON.
"""

import json
import re
import uuid
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from ntro.workflow import activity, runbook

RECORD_KIND = "audit_handover"
CHECKS = ("journal_balanced", "closing_tb_balanced", "bank_reconciles", "bank_vs_rentroll_reconciles")
STATUSES = ("pass", "warn", "fail")
TB_AMOUNTS = ("opening_total", "closing_total", "total_debits", "total_credits")
_PERIOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAMESPACE = uuid.UUID("6d2c1f6e-9a57-4f43-8b0e-0f3d5a7c9e21")
Json = dict[str, Any]


class BadPeriod(ValueError):
    """The figures can't be used; the message says which and why."""


# -- loading --


@activity.defn
async def load_period(source: Json) -> Json:
    """The checked `period_summary` of the task's context, or of the file `document_ref`; else what is wrong with it."""
    try:
        summary = source.get("period_summary")
        if summary is None:
            summary = await _submitted(source["tenant_slug"], source["document_ref"])
        return {"period_summary": checked(summary, source["period"]), "problem": None}
    except BadPeriod as problem:
        return {"period_summary": {}, "problem": str(problem)}


async def _submitted(tenant_slug: str, document_ref: str) -> Any:
    from ntro.data import get_data_plane
    from ntro.ingest import fetch_submitted_document_by_id

    db = await get_data_plane(tenant_slug)
    document = await fetch_submitted_document_by_id(db, document_ref=document_ref)
    if document is None:
        raise BadPeriod(f"There is no document {document_ref}.")
    try:
        said = json.loads(document.data_bytes, parse_float=_exact)
    except (ValueError, RecursionError) as error:
        raise BadPeriod(f"{document.filename} is not JSON: {error}") from error
    if not isinstance(said, dict) or "period_summary" not in said:
        raise BadPeriod(f"{document.filename} has no period_summary.")
    return said["period_summary"]


def _exact(digits: str) -> float | str:
    """A float where it keeps all digits, else the digits as text: amounts may be given as either."""
    number = float(digits)
    return number if Decimal(repr(number)) == Decimal(digits) else digits


def checked(summary: Any, period: str) -> Json:
    """The summary, which may leave things out, but may not say nonsense. Raises BadPeriod."""
    if not isinstance(summary, dict):
        raise BadPeriod("period_summary: Input should be an object")
    named = summary.get("period", period)
    if not isinstance(named, str) or not _PERIOD.fullmatch(named):
        raise BadPeriod("period: Input should be a month such as 2026-03")
    if named != period:
        raise BadPeriod(f"period: the figures are of {named}, and the task is for {period}")
    for key, kind in (("entity", dict), ("tb", dict), ("journal_proposal", dict), ("documents", list),
                      ("checks", dict), ("prior_period", dict)):  # fmt: skip
        if summary.get(key) is not None and not isinstance(summary[key], kind):
            raise BadPeriod(f"{key}: Input should be {'an object' if kind is dict else 'a list'}")
    if summary.get("tb") is None and summary.get("journal_proposal") is None:
        raise BadPeriod("tb: Input should be the trial balance, where there is no journal_proposal either")
    for key in ("tb", "prior_period"):
        _check_amounts(summary.get(key) or {}, key, TB_AMOUNTS)
        _check_lines(summary.get(key) or {}, key)
    journal = summary.get("journal_proposal") or {}
    _check_lines(journal, "journal_proposal")
    if journal.get("totals") is not None:
        _check_amounts(journal["totals"], "journal_proposal.totals", ("debits", "credits"))
    _check_objects(summary.get("documents") or [], "documents")
    _check_checks(summary.get("checks") or {})
    return {**summary, "period": period}


def _check_objects(items: Any, place: str) -> None:
    if not isinstance(items, list):
        raise BadPeriod(f"{place}: Input should be a list")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise BadPeriod(f"{place}.{index}: Input should be an object")


def _check_lines(of: Json, place: str) -> None:
    lines = [] if of.get("lines") is None else of["lines"]
    _check_objects(lines, f"{place}.lines")
    for index, line in enumerate(lines):
        _check_amounts(line, f"{place}.lines.{index}", ("debit", "credit"))


def _check_amounts(of: Any, place: str, keys: tuple[str, ...]) -> None:
    if not isinstance(of, dict):
        raise BadPeriod(f"{place}: Input should be an object")
    for key in keys:
        if of.get(key) is not None and amount(of[key]) is None:
            raise BadPeriod(f"{place}.{key}: Input should be an amount such as 1234.50")


def _check_checks(checks: Json) -> None:
    for name, said in checks.items():
        if name not in CHECKS:
            raise BadPeriod(f"checks.{name}: there is no such check; they are {', '.join(CHECKS)}")
        if said is not None and (not isinstance(said, dict) or said.get("status") not in (*STATUSES, None)):
            raise BadPeriod(f"checks.{name}.status: Input should be one of {', '.join(STATUSES)}")


def amount(value: Any) -> Decimal | None:
    """The number that is meant, None for none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


# -- preparing --


@activity.defn
async def prepare_summary(summary: Json) -> Json:
    """The summary with an entity and with the checks that are arithmetic, where these were not made before."""
    slug = summary.pop("entity_slug", "")
    entity = {"slug": slug, **(summary.get("entity") or {})} if slug else summary.get("entity") or {}
    tb, totals = summary.get("tb") or {}, (summary.get("journal_proposal") or {}).get("totals") or {}
    made = {
        "journal_balanced": balance(totals.get("debits"), totals.get("credits")),
        "closing_tb_balanced": balance(tb.get("total_debits"), tb.get("total_credits")),
    }
    given = {name: said for name, said in (summary.get("checks") or {}).items() if said}
    return {**summary, "entity": entity, "checks": {**{name: each for name, each in made.items() if each}, **given}}


def balance(debits: Any, credits: Any) -> Json | None:
    """The result of a check; None where there is nothing to compare."""
    left, right = amount(debits), amount(credits)
    if left is None or right is None:
        return None
    if left == right:
        return {"status": "pass", "detail": f"Debits and credits are both {left:,.2f}."}
    return {"status": "fail", "detail": f"Debits less credits are {left - right:,.2f}."}


# -- recording --


@activity.defn
async def record_outcome(record: Json) -> Json:
    """Write what was decided into the data plane; done again for the same task, it finds what it wrote."""
    from ntro.data import get_data_plane
    from ntro.ingest import insert_submitted_record

    record_id = str(uuid.uuid5(_NAMESPACE, record["task_id"]))
    db = await get_data_plane(record["tenant_slug"])
    known = await db.fetchrow("SELECT id FROM ingest.submitted_records WHERE id = $1::uuid", record_id)
    if known is None:
        await insert_submitted_record(
            db,
            id=record_id,
            entity_slug=record["entity_slug"],
            task_id=record["task_id"],
            kind=RECORD_KIND,
            source_ref={"agent_id": record["agent_id"], "session_id": record["session_id"]},
            data={"period": record["period"], **record["decision"]},
        )
    return {"record_id": record_id, "period": record["period"], **record["decision"]}


# -- Temporal --


@activity.defn
async def run_agent(call: Json) -> Json:
    """`invoke`, where connections may be opened."""
    from ntro.workflow.agents import invoke

    return (await invoke(call.pop("agent_id"), **call)).model_dump(mode="json")


async def invoke_in_activity(agent_id: str, *, max_poll_seconds: float = 1800.0, **call: Any) -> Any:
    """What stands for `invoke` in a workflow on Temporal: the same signature and result.

    It is tried once: a second attempt would begin a second session.
    """
    from ntro.workflow.agents import AgentResult
    from temporalio.common import RetryPolicy

    said = await runbook.execute_activity(
        run_agent,
        {"agent_id": agent_id, "max_poll_seconds": max_poll_seconds, **call},
        start_to_close_timeout=timedelta(seconds=max_poll_seconds + 300),
        retry_policy=RetryPolicy(maximum_attempts=1),
    )
    return AgentResult.model_validate(said)
