"""What pages are looked at with: long output, errors, other scripts, many steps, open gates, hostile text."""

from __future__ import annotations

from typing import Any

from hostler.ids import new_id
from hostler.log.entries import Draft

HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>\"'>&amp;"
LONG = "\n".join(f"{number:04d}  {'#' * (number % 60)} λόγος строка 行 שורה" for number in range(400))


def use(name: str, given: dict[str, Any], kind: str = "agent.tool_use", **more: Any) -> Draft:
    return Draft(type=kind, id=new_id("sevt"), fields={"name": name, "input": given, **more})


def result(of: Draft, text: str, *, failed: bool = False, kind: str = "agent.tool_result") -> Draft:
    key = {"agent.tool_result": "tool_use_id", "agent.mcp_tool_result": "mcp_tool_use_id"}[kind]
    return Draft(type=kind, fields={key: of.id, "content": [{"type": "text", "text": text}], "is_error": failed})


def text(kind: str, words: str) -> Draft:
    return Draft(type=kind, fields={"content": [{"type": "text", "text": words}]})


def request(tokens: int, *, failed: bool = False) -> list[Draft]:
    start = Draft(type="span.model_request_start", id=new_id("sevt"))
    usage = {
        "input_tokens": tokens, "output_tokens": tokens // 7, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": tokens * 3, "speed": None,
    }  # fmt: skip
    fields = {"model_request_start_id": start.id, "is_error": failed, "model_usage": usage}
    return [start, Draft(type="span.model_request_end", fields=fields)]


def session_events() -> list[Draft]:
    """A session as one goes: work, a failure, an answer."""
    ls = use("bash", {"command": "ls -la /mnt/session\nwc -l /tmp/period.json"}, evaluated_permission="allow")
    big = use("bash", {"command": "cat /tmp/ledger.csv"}, evaluated_permission="allow")
    write = use("write", {"file_path": "/tmp/handover.md", "content": LONG[:2500]}, evaluated_permission="allow")
    wrong = use("bash", {"command": "python3 render.py --to /mnt/session/outputs/audit-handover-2026-10.docx"})
    task = use("ntro_task_get", {}, "agent.mcp_tool_use", mcp_server_name="ntropii", evaluated_permission="allow")
    return [
        text("user.message", '{"period_summary": {"entity": {"slug": "byng-street", "currency": "GBP"}}}'),
        Draft(type="session.status_running"),
        *request(1834),
        Draft(type="agent.thinking"),
        text("agent.message", "I'll look at the period first, then write the handover."),
        ls,
        result(ls, "total 12\ndrwxr-xr-x 3 agent agent 4096 Nov 21 12:00 outputs\n118 /tmp/period.json"),
        big,
        result(big, LONG),
        *request(12_400),
        write,
        result(write, "Wrote 2 500 bytes to /tmp/handover.md"),
        task,
        result(task, '{"id": "0f…", "status": "IN_PROGRESS"}', kind="agent.mcp_tool_result"),
        wrong,
        result(
            wrong, "Traceback (most recent call last):\n  File \"render.py\", line 4\nModuleNotFoundError: docx",
            failed=True,
        ),
        *request(15_002, failed=True),
        Draft(
            type="session.error",
            fields={
                "error": {
                    "type": "model_overloaded_error", "message": "The model is overloaded.",
                    "retry_status": {"type": "retrying"},
                }
            },
        ),
        *request(15_002),
        text("agent.message", f"Έτοιμο — 8 sections, 3 journal lines. {HOSTILE}\n\n貸借対照表は一致しています。"),
        Draft(type="session.status_idle", fields={"stop_reason": {"type": "end_turn"}}),
    ]  # fmt: skip


STEPS = ("Open period", "Collect sources", "Extract trial balance", "Post journals", "Reconcile bank",
         "Draft auditor handover", "Review", "Publish pack")  # fmt: skip


def view(at: int, action: dict[str, Any] | None = None, **snapshots: Any) -> dict[str, Any]:
    """What a task shows of itself when it is at one of its steps."""
    steps = [
        {"id": f"s{index}", "title": title, "icon": "FileText",
         "status": "completed" if index < at else "active" if index == at else "pending"}
        for index, title in enumerate(STEPS)
    ]  # fmt: skip
    seen = {
        "s0": {"display_hint": {"component": "SUMMARY", "config": {"title": "Open period"}},
               "payload": {"period": "2026-10", "opened_by": "controller", "opening_total": "1 204 331.20"},
               "completed_at": "2026-11-21T09:12:44.120000+00:00"},
        "s2": {"display_hint": {"component": "DATA_TABLE", "config": TABLE}, "payload": {"rows": rows(4)},
               "decision": {"type": "approved", "comments": "Agreed with Ms. Łukasiewicz"},
               "completed_at": "2026-11-21T09:20:01+00:00"},
    }  # fmt: skip
    return {
        "current_steps": steps,
        "current_pending_action": action,
        "current_ui_state": {"current_step_id": f"s{at}", "steps_completed": [], "children": {}},
        "step_snapshots": {name: snap for name, snap in seen.items() if int(name[1:]) < at} | snapshots,
    }


def rows(count: int) -> list[dict[str, Any]]:
    names = ("Bank charges", "Légal fees — Müller & Søn", HOSTILE, "管理费", "Insurance")
    return [
        {"id": f"r{index}", "account_code": f"{4000 + index * 10}", "description": names[index % len(names)],
         "amount": 1234.5 + index * 101, "currency": "GBP", "posted": index % 2 == 0, "status": "pending"}
        for index in range(count)
    ]  # fmt: skip


TABLE = {
    "title": "Review journal lines",
    "datasets": [
        {"key": "expenserow", "label": "Journal lines", "data_key": "rows", "columns": [
            {"key": "account_code", "label": "Account", "type": "text", "editable": True},
            {"key": "description", "label": "Description", "type": "text", "editable": True},
            {"key": "amount", "label": "Amount", "type": "currency", "editable": True, "currencyKey": "currency"},
            {"key": "currency", "label": "Currency", "type": "text", "editable": False},
            {"key": "posted", "label": "Posted", "type": "boolean", "editable": True},
        ]}
    ],
}  # fmt: skip
CHECKS = {
    "status": "warn", "summary": "1 warning, 2 passing", "progress": {"completed": 3, "total": 4},
    "items": [
        {"id": "a", "title": "Journal balances", "status": "pass"},
        {"id": "b", "title": "Bank agrees with rent roll", "status": "warn", "detail": "£ 12.40 apart"},
        {"id": "c", "title": "Closing balance", "status": "running"},
    ],
}  # fmt: skip


def review(component: str = "APPROVAL_FORM", payload: Any = None, **config: Any) -> dict[str, Any]:
    return {
        "kind": "interactive_review", "tools": ["ntro_task_approve", "ntro_task_reject"],
        "reason": "The handover is ready to be read.", "payload": payload,
        "display_hint": {"component": component, "config": config},
    }  # fmt: skip


def table_gate(count: int = 6) -> dict[str, Any]:
    hint = {"component": "DATA_TABLE", "config": TABLE}
    return {**review(payload={"rows": rows(count), "total": 8_123.5}), "display_hint": hint, "checks": CHECKS}


def upload_gate() -> dict[str, Any]:
    config = {"accept": ["text/csv", ".xlsx"], "max_size_mb": 50, "instructions": "The period-end trial balance."}
    return {
        "kind": "submit_file", "reason": "The workflow needs the period-end trial balance.",
        "args": {"source": "xero-trial-balance", "schema_slug": "trial-balance-xero"},
        "display_hint": {"component": "FILE_UPLOAD", "config": config},
    }  # fmt: skip


def uploads_gate(task_id: str) -> dict[str, Any]:
    slots = [
        {"source": source, "title": title, "status": status, "accept": ["application/pdf"], "instructions": told,
         "args": {"source": source, "signal_task_id": f"{task_id}:s1:document-ingest:{source}",
                  "signal_name": "document_submitted"}}
        for source, title, status, told in (
            ("bank", "Bank statement", "pending", "October, all pages"), ("rent", "Rent roll", "completed", ""),
            ("gl", "General ledger", "pending", ""))
    ]  # fmt: skip
    config = {"title": "Upload sources", "instructions": "Three documents, in any order.", "expected": slots}
    return {
        "kind": "submit_files", "reason": "Workflow needs 3 document(s) — upload each below.",
        "display_hint": {"component": "MULTI_FILE_UPLOAD", "config": config},
    }  # fmt: skip
