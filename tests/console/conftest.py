"""One server for each module of page tests, and one browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import chromium
import httpx2
import pytest
import rig
from chromium import Chromium, Page
from rig import Console

from serving import KEY


@pytest.fixture(scope="module")
def database_url() -> str | None:
    """SQLite; modules whose statements matter override it to run on both databases."""
    return None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database_url: str | None) -> Iterator[Console]:
    server = rig.server(tmp_path_factory.mktemp("console"), database_url)
    yield server
    server.stop()


@pytest.fixture
def user(server: Console) -> Iterator[httpx2.Client]:
    """Somebody who has signed in with a key of the server."""
    with server.browser() as client:
        yield client


@pytest.fixture
def session(server: Console) -> str:
    return server.session()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if chromium.program() is None:
        pytest.skip(
            "No Chromium or Chrome is installed, so nobody has looked at the pages or clicked: install one (on Debian "
            "`apt-get install chromium`), or name it in the variable CHROMIUM. All else about the pages is tested."
        )
    with Chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


Look = Callable[..., Page]


@pytest.fixture
def look(browser: Chromium, server: Console) -> Iterator[Look]:
    """Open a page of the server, signed in; whatever the browser complained of fails the test."""
    opened: list[Page] = []

    def open_(path: str, width: int = 1440, *, dark: bool = False, key: str | None = KEY) -> Page:
        page = browser.page(width, 900, dark=dark)
        opened.append(page)
        if key is not None:
            page.goto(f"{server.url}/console/sign-in")
            page.type("#key", key)
            page.key("Enter")
            page.wait("location.pathname === '/console'")
        page.goto(server.url + path)
        return page

    yield open_
    complaints = [error for page in opened for error in page.errors]
    for page in opened:
        page.close()
    assert complaints == []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "Saldenliste Oktober.csv"
    path.write_text("account,debit\n4000,12.50\n")
    return path
