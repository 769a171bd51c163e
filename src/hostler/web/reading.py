"""Has a page read in a process of its own, and sees to its end: of time, of memory, of interest.

The process has no environment, no secrets and no open files of ours. Measured: 30 ms for a page of 100 KB, of which 20
are the start; a pool would save those at the price of one page's leftovers in the next one's memory.
It must not look at the bytes beyond what tells their kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec

from hostler.web.config import WebConfig
from hostler.web.fetch import Fetched
from hostler.web.pages import Kind, Order, Page
from hostler.web.problem import WebProblem

GRACE_SECONDS = 2.0  # for its start, and for handing over what it has read when its time is up
MAX_ANSWER = 32 * 1024 * 1024
SAMPLE = 64 * 1024
_PROGRAM = "import sys; sys.path[:0] = sys.argv[1:]; from hostler.web.reader import main; main()"
_TEXTS = frozenset(
    (
        "application/json", "application/xml", "application/javascript", "application/ecmascript",
        "application/x-javascript", "application/yaml", "application/x-yaml", "application/toml",
        "application/x-ndjson", "application/jsonl", "application/sql", "application/graphql", "application/x-sh",
        "application/rtf", "application/x-httpd-php", "application/x-tex",
    )
)  # fmt: skip
_UNKNOWN = ("", "application/octet-stream", "binary/octet-stream", "application/x-download", "text/plain")


class Reading:
    """One instance serves all sessions of a process; it reads as many pages at once as there are processors."""

    def __init__(self, config: WebConfig) -> None:
        self._config = config
        self._seats = asyncio.Semaphore(max(1, os.cpu_count() or 1))

    async def read(self, fetched: Fetched, tokens: int | None) -> Page:
        """The text of what was fetched, at most `tokens` of it, if that is less than the server's own bound. A PDF has
        only the latter. Raises WebProblem. Cancelling it kills the process."""
        media, charset = _content_type(fetched.content_type)
        kind = kind_of(media, fetched.body)
        if kind is None:
            shown = media or "an unknown type"
            raise WebProblem("unsupported_content_type", f"It is {shown[:80]}; only web pages, text and PDF are read.")
        if kind == "pdf" and fetched.cut:
            raise WebProblem("content_too_large", f"The PDF is larger than {self._config.fetch_mb} MiB.")
        most = self._config.fetch_tokens
        wanted = most if tokens is None or kind == "pdf" else min(tokens, most)
        seconds, memory = self._config.read_seconds, self._config.read_memory_mb
        order = Order(kind, charset, fetched.url, wanted, seconds, memory)
        async with self._seats:
            page = await self._run(order, fetched.body)
        if page.problem:
            raise WebProblem("unavailable", page.problem)
        return page._replace(cut=page.cut or fetched.cut)

    async def _run(self, order: Order, body: bytes) -> Page:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, *_folders(order.kind),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={}, cwd="/",
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async with asyncio.timeout(order.seconds + GRACE_SECONDS):
                feeding = asyncio.create_task(_feed(process, msgspec.json.encode(list(order)) + b"\n" + body))
                try:
                    answer = await _all(process.stdout)
                finally:
                    feeding.cancel()
                    await asyncio.wait({feeding})
            return Page(*msgspec.json.decode(answer, type=tuple[str, str, bool, str]))
        except TimeoutError:
            raise WebProblem("unavailable", "The page takes too long to read.") from None
        except msgspec.DecodeError:
            raise WebProblem("unavailable", "The page takes too much to read.") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())


async def _all(stream: asyncio.StreamReader) -> bytes:
    pieces, size = [], 0
    while size <= MAX_ANSWER and (piece := await stream.read(SAMPLE)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):  # it has ended, and its answer says why or is missing
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


def _folders(kind: Kind) -> list[str]:
    """Where the process finds what it imports: this package, and for PDFs the library."""
    folders = [str(Path(__file__).parents[2])]
    if kind == "pdf":
        spec = find_spec("pypdf")
        if spec is None or spec.origin is None:
            raise WebProblem("unavailable", "PDFs can't be read here.")
        folders.append(str(Path(spec.origin).parents[1]))
    return folders


def _content_type(header: str) -> tuple[str, str]:
    """The media type and the charset that the server declared."""
    media, *parameters = header.split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return media.strip().lower(), value.strip()[:40]
    return media.strip().lower(), ""


def kind_of(media: str, body: bytes) -> Kind | None:
    """What to read it as. The bytes decide where the server says nothing, or something vague."""
    head = body[:1024].lstrip().lower()
    if media == "application/pdf" or (media in _UNKNOWN and head.startswith(b"%pdf-")):
        return "pdf"
    if media in ("text/html", "application/xhtml+xml"):
        return "html"
    if media in _UNKNOWN[:-1]:
        if head.startswith((b"<!doctype html", b"<html")):
            return "html"
        return "text" if _is_text(body) else None
    if media.startswith("text/") or media in _TEXTS or media.endswith(("+json", "+xml")):
        return "text" if media != "image/svg+xml" else None
    return None


def _is_text(body: bytes) -> bool:
    sample = body[:SAMPLE]
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(sample) - 3 and b"\x00" not in sample  # cut in the middle of a character
    return b"\x00" not in sample
