"""Reads a page's bytes: the main program of the process that is made for one page and may be killed at any moment.

It must touch nothing but its standard input and output. It sets its own limits before it looks at the first byte.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import signal
import sys
from typing import Any

from hostler.web.charset import decode
from hostler.web.markdown import Converter, Enough
from hostler.web.pages import Order, Page, within

CHUNK = 256 * 1024
MAX_PAGES = 2000
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_BREAKS = re.compile(r"\n{4,}")


class TimeUp(BaseException):
    """What has been read by now must do. No library catches it by accident."""


def main() -> None:
    order = Order(*json.loads(sys.stdin.buffer.readline()))
    _limit(order)
    body = sys.stdin.buffer.read()
    try:
        page = read(order, body)
    except MemoryError:
        page = Page(problem="Reading it takes too much memory.")
    except Exception as error:
        page = Page(problem=f"It can't be read ({type(error).__name__}).")
    sys.stdout.write(json.dumps(page))


def read(order: Order, body: bytes) -> Page:
    if order.kind == "html":
        page = _html(order, body)
    elif order.kind == "pdf":
        page = _pdf(order, body)
    else:
        page = Page(text=decode(body, order.charset, markup=body[:5] == b"<?xml"))
    text = _BREAKS.sub("\n\n\n", _CONTROL.sub("", page.text.replace("\r\n", "\n"))).strip()
    kept = within(text, order.tokens)
    return page._replace(title=_CONTROL.sub("", page.title), text=kept, cut=page.cut or len(kept) < len(text))


def _html(order: Order, body: bytes) -> Page:
    converter = Converter(order.url, order.tokens * 4)
    cut = True
    with contextlib.suppress(Enough, TimeUp), _time_up(order.seconds):
        text = decode(body, order.charset, markup=True)
        for start in range(0, len(text), CHUNK):
            converter.feed(text[start : start + CHUNK])
        converter.close()
        cut = False
    return Page(title=converter.title, text=converter.text, cut=cut)


def _pdf(order: Order, body: bytes) -> Page:
    from pypdf import PdfReader  # only where a PDF is read

    texts: list[str] = []
    title, cut = "", True
    with contextlib.suppress(TimeUp), _time_up(order.seconds):
        document = PdfReader(io.BytesIO(body), strict=False)
        if document.is_encrypted and not document.decrypt(""):
            return Page(problem="The PDF is protected by a password.")
        title = _title(document)
        left = order.tokens * 4
        for page in document.pages:
            texts.append(page.extract_text())
            left -= len(texts[-1])
            if left < 0 or len(texts) >= MAX_PAGES:
                break
        else:
            cut = False
    if not any(text.strip() for text in texts):
        problem = "Reading the PDF takes too long." if cut else "The PDF holds no text; it may be a scan."
        return Page(problem=problem)
    return Page(title=title, text="\n\n".join(texts), cut=cut)


def _title(document: Any) -> str:
    with contextlib.suppress(Exception):
        return str((document.metadata or {}).get("/Title") or "")[:300]
    return ""


@contextlib.contextmanager
def _time_up(seconds: float) -> Any:
    """Raise TimeUp in the block when so much time has passed since it began."""

    def stop(_: int, __: object) -> None:
        raise TimeUp

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit(order: Order) -> None:
    memory = order.memory_mb * 1024 * 1024
    cpu = int(order.seconds * 2) + 2  # this process ends even when nobody is left to kill it
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (value, value) if most == resource.RLIM_INFINITY else (min(value, most), most))
