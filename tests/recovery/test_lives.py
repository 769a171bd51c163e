"""kill -9 around hibernation and restoring: the files are there afterwards, once, whatever was cut off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mortal import Mortal

from failures.client import IDLE as OVER
from failures.client import SECONDS, Api, errors, message, results

SCRIPT: dict[str, Any] = {
    "rules": [
        {
            "when": {"user_text_matches": r"^run: (.*)$"},
            "turns": [{"tools": [{"name": "bash", "input": {"command": "{{1}}"}}]}, {"text": "done"}],
        }
    ]
}
HIBERNATING = [
    "before:hibernate",
    "after:hibernate",
    "before:snapshot",
    "before:keep",
    "after:keep",
    "after:snapshot",
    "before:destroy",
    "after:destroy",
]
RESTORING = ["before:restore", "before:unpack", "after:unpack", "after:restore", "before:provision", "after:provision"]


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    harness = "retry_base = 0.2\ncheckpoint_seconds = 0"
    server = Mortal(tmp_path_factory.mktemp("lives"), harness=harness, scripted=SCRIPT)
    yield server
    server.close()


def idle(api: Api, session: str) -> list[Any]:
    """All events, once the session rests."""
    end = time.monotonic() + SECONDS
    while api.get(f"/v1/sessions/{session}")["status"] != "idle":
        assert time.monotonic() < end, "it did not come to rest"
        time.sleep(0.05)
    return api.events(session)


def begun(api: Api) -> str:
    session = api.session()
    api.turn(session, "run: echo kept > file; echo once >> count; export KEPT=yes")
    return session


def check(api: Api, session: str, events: list[Any]) -> None:
    assert results(events)[-1]["content"][0]["text"] == "kept\nonce\nyes"
    assert errors(events) == []
    folder = Path(api.server.data_dir)
    assert (folder / "sandboxes" / session).is_dir()
    assert not list((folder / "sandboxes").glob(".restore.*"))
    assert not list((folder / "snapshots").rglob("*.part"))


LOOK = "run: cat file count; echo $KEPT"


@pytest.mark.parametrize("point", HIBERNATING)
def test_killed_while_hibernating(mortal: Mortal, point: str) -> None:
    mortal.ensure()
    with Api(mortal) as api:
        session = begun(api)
        mortal.order(session, point)
        with pytest.raises(httpx2.TransportError):
            api.http.post(f"/v1/sessions/{session}/hibernate")
        mortal.wait_killed()
        mortal.ensure()
        api.turn(session, LOOK)
        check(api, session, api.events(session))


@pytest.mark.parametrize("point", RESTORING)
def test_killed_while_restoring(mortal: Mortal, point: str) -> None:
    mortal.ensure()
    with Api(mortal) as api:
        session = begun(api)
        api.post(f"/v1/sessions/{session}/hibernate")
        mortal.order("*" if "unpack" in point else session, point)
        api.send(session, message(LOOK))
        mortal.wait_killed()
        mortal.ensure()
        events = idle(api, session)
        assert events[-1]["type"] == OVER
        check(api, session, events)
