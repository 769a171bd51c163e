"""Measures every path of the speed table: `python bench/run.py [--scale 0.1] [--only NAME] [--json FILE]`.

Everything runs on this machine's loopback: a mock model of fixed cadence, the real server with its durable settings,
a raw HTTP client. Take ratios, not absolutes.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import socket
import sys
import tempfile
from pathlib import Path

import uvloop

sys.path.insert(1, str(Path(__file__).parent.parent / "src"))

import container_rows
import layer_rows
import proxy_rows
import rows
import sandbox_rows
import snapshot_rows
import task_rows
from processes import Hostler, Mock
from rows import Bench, Row

GROUPS = [rows, sandbox_rows, snapshot_rows, layer_rows, proxy_rows, container_rows, task_rows]
ROWS = [row for group in GROUPS for row in group.ROWS]


async def measure(scale: float, only: str | None, folder: Path) -> list[Row]:
    mock = Mock()
    server = Hostler(folder, mock.url, _free_port())
    bench = Bench(server, mock, folder, scale)
    found: list[Row] = []
    await server.start()
    try:
        for row in ROWS:
            if only is None or only in row.__name__:
                print(f"... {row.__name__}", file=sys.stderr, flush=True)
                found += await row(bench)
    finally:
        await server.end()
        mock.close()
    return found


def show(found: list[Row]) -> None:
    print(f"{'path':<58}{'value':>10}  {'p99':>9}  {'raw':>8}  {'target':>8}")
    for row in found:
        mark = {True: "ok", False: "MISSED", None: ""}[row.reached]
        figures = [f"{row.value:g} {row.unit}".strip(), _cell(row.p99), _cell(row.raw), _cell(row.target)]
        print(f"{row.name:<58}{figures[0]:>10}  {figures[1]:>9}  {figures[2]:>8}  {figures[3]:>8}  {mark}  {row.note}")


def markdown(found: list[Row]) -> str:
    """The table of docs/speed.md."""
    lines = ["| path | Hostler | p99 | the raw thing | target |", "|---|---|---|---|---|"]
    for row in found:
        value = f"{row.value:g} {row.unit}".strip()
        lines.append(f"| {row.name} | {value} | {_cell(row.p99)} | {_cell(row.raw)} | {_cell(row.target)} |")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full counts, for a quick look")
    parser.add_argument("--only", help="only rows whose function name contains this")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/speed.md")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="hostler-bench-") as folder:
        found = uvloop.run(measure(arguments.scale, arguments.only, Path(folder)))
    print(markdown(found)) if arguments.markdown else show(found)
    if arguments.json:
        machine = {"python": platform.python_version(), "system": platform.platform(), "was_nofile": soft}
        figures = [{name: getattr(row, name) for name in row.__struct_fields__} for row in found]
        arguments.json.write_text(json.dumps({"machine": machine, "rows": figures}, indent=1))


if __name__ == "__main__":
    main()
