"""The demonstration that `scripts/demo` runs: a server of its own, a job through the official SDK, and a runbook.

What `run_job` does is what any program written for the hosted API does; only the base URL differs. At the end the
server stays for some minutes, so that the links that were printed open.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anthropic import Anthropic, AnthropicError
from demo_runbook import Demo, RunbookFailed

MODEL = os.environ.get("DEMO_MODEL", "claude-sonnet-5-5")
LIMIT_SECONDS = 300
# How long the server stays after the demonstration; 0 ends it at once.
KEEP_SECONDS = int(os.environ.get("DEMO_KEEP_SECONDS") or (0 if os.environ.get("CI") else 600))
SHOWN_LINES = 12
TASK = (
    "Please read /mnt/session/uploads/sales.csv, compute a summary by region and by product with a small program, "
    "and write a report to /mnt/session/outputs/report.md."
)
DIM, BOLD, PLAIN = ("\033[2m", "\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class DemoFailed(Exception):
    """Says what went wrong."""


def main() -> None:
    folder = Path("demo-data", time.strftime("%Y%m%d-%H%M%S")).absolute()
    folder.mkdir(parents=True)
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(LIMIT_SECONDS)
    try:
        with served(folder) as (url, key):
            report = run_job(Anthropic(base_url=url, api_key=key, max_retries=0), folder)
            document, task, session = Demo(url, key, step).run(folder)
    except (DemoFailed, RunbookFailed, AnthropicError) as problem:
        sys.exit(f"\nThe demo failed: {problem}\nThe server's own words: {folder}/server.log")
    print(f"\n{BOLD}{report.relative_to(Path.cwd())}{PLAIN}\n")
    print(report.read_text())
    print(f"{BOLD}Where everything is{PLAIN}")
    print(f"  the report      {report}")
    print(f"  the document    {document}")
    print(f"  the server log  {folder}/server.log")
    print(f"  the data        {folder}/server")
    print(f"\n{BOLD}Pages{PLAIN}, by links that are good for twelve hours")
    print(f"  the task        {task}")
    print(f"  the session     {session}")
    if KEEP_SECONDS:
        print(f"\nThe server stays for {KEEP_SECONDS // 60} minutes, or until: pkill -f {folder}/server")
    print(f"{'Afterwards' if KEEP_SECONDS else 'The server is stopped'}; to go on with this data at the same address:")
    print(f"  .venv/bin/hostler serve --data-dir {folder}/server --port {url.rpartition(':')[2]}")


def out_of_time(*_: Any) -> None:
    raise DemoFailed(f"it was not done after {LIMIT_SECONDS} seconds.")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, str]]:
    """Run `hostler serve` on a free port; yields its base URL and the API key that it made."""
    fixed = ("HOSTLER_API_KEY", "HOSTLER_CONFIG", "HOSTLER_DATABASE", "HOSTLER_HOST")
    environment = {name: value for name, value in os.environ.items() if name not in fixed}
    command = [sys.executable, "-m", "hostler.cli", "serve", "--port", "0", "--data-dir", str(folder / "server")]
    command.append("--scripted")  # only without a key
    command = ["timeout", str(LIMIT_SECONDS + KEEP_SECONDS), *command]  # whatever happens here, it ends
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        done = False
        try:
            yield announced(server)
            done = True
        finally:
            if not (done and KEEP_SECONDS):
                server.terminate()
                server.wait(timeout=12)


def announced(server: subprocess.Popen[str]) -> tuple[str, str]:
    """Read what the server prints when it is ready: two lines to paste into a shell."""
    said = {}
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            said[name] = value
        if len(said) == 2:
            return said["ANTHROPIC_BASE_URL"], said["ANTHROPIC_API_KEY"]
    raise DemoFailed("the server did not start.")


def run_job(client: Anthropic, folder: Path) -> Path:
    step("Create an environment, an agent, a file and a session that has the file mounted")
    environment = client.beta.environments.create(name="demo")
    agent = client.beta.agents.create(
        name="analyst",
        model=MODEL,
        system="You are a careful data analyst. Keep reports short.",
        tools=[{"type": "agent_toolset_20260401"}],
    )
    data = client.beta.files.upload(file=("sales.csv", sales(), "text/csv"))
    session = client.beta.sessions.create(
        agent=agent.id,
        environment_id=environment.id,
        title="Demo",
        resources=[{"type": "file", "file_id": data.id, "mount_path": "sales.csv"}],
    )
    for name, made in (("environment", environment), ("agent", agent), ("file", data), ("session", session)):
        print(f"  {name:12}{made.id}")

    step("Open the stream, send a message, and print the events as they come")
    began = time.monotonic()
    with client.beta.sessions.events.stream(session.id) as stream:
        client.beta.sessions.events.send(
            session.id, events=[{"type": "user.message", "content": [{"type": "text", "text": TASK}]}]
        )
        for event in stream:
            show(event, time.monotonic() - began)
            if event.type == "session.status_idle":
                break

    step("Download what the agent delivered")
    delivered = [file for file in client.beta.files.list(scope_id=session.id) if file.downloadable]
    for file in delivered:
        client.beta.files.download(file.id).write_to_file(folder / file.filename)
        print(f"  {file.filename}, {file.size_bytes} bytes")
    report = folder / "report.md"
    if not report.is_file():
        raise DemoFailed("the agent ended its turn without a report. Its events above say why.")
    usage = client.beta.sessions.retrieve(session.id).usage
    print(f"  {usage.input_tokens} input and {usage.output_tokens} output tokens")
    return report


def sales() -> bytes:
    """A table of 200 sales, the same every time."""
    dice = random.Random(7)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["date", "region", "product", "units", "revenue"])
    for day in range(200):
        product, price = dice.choice([("tea", 4.5), ("coffee", 7.0), ("cocoa", 5.25)])
        units = dice.randint(1, 40)
        date = f"2026-{day // 28 + 1:02}-{day % 28 + 1:02}"
        table.writerow([date, dice.choice(["north", "south", "east"]), product, units, f"{units * price:.2f}"])
    return text.getvalue().encode()


def step(text: str) -> None:
    print(f"\n{BOLD}{text}{PLAIN}", flush=True)


def show(event: Any, seconds: float) -> None:
    queued = getattr(event, "processed_at", "") is None
    print(
        f"  {DIM}{seconds:6.2f} s{PLAIN}  {event.type}{' (accepted, waits for its turn)' if queued else ''}", flush=True
    )
    lines = [] if queued else details(event).splitlines()
    for line in lines[:SHOWN_LINES]:
        print(f"            {DIM}|{PLAIN} {line}", flush=True)
    if len(lines) > SHOWN_LINES:
        print(f"            {DIM}| and {len(lines) - SHOWN_LINES} more lines{PLAIN}", flush=True)


def details(event: Any) -> str:
    """What of an event a person wants to read."""
    if event.type in ("user.message", "agent.message", "agent.tool_result"):
        return "\n".join(block.text for block in event.content or () if block.type == "text")
    if event.type == "agent.tool_use":
        return f"{event.name}: " + str(event.input.get("command") or event.input)
    if event.type == "session.error":
        return f"{event.error.type}: {event.error.message}"
    if event.type == "session.status_idle":
        return f"stop_reason: {event.stop_reason.type}"
    return ""


if __name__ == "__main__":
    main()
