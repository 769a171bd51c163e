"""A session with a pre-built skill has its files and packages in the sandbox, or the client is told of the lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from failures.client import Api, errors, results
from hostler.skills import requirements
from running import Server
from sandbox.wheels import serving, wheel

LOOK = (
    "run: python3 -c 'import python_docx; print(python_docx.VERSION)'; python3 /mnt/skills/docx/scripts/word.py --help"
)


def settings(url: str) -> dict[str, str]:
    hidden = {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "HTTPS_PROXY": "", "https_proxy": ""}
    return hidden | {"PIP_INDEX_URL": url, "PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "0"}


@pytest.mark.parametrize("there", [True, False])
def test_a_session_with_the_skill(tmp_path: Path, there: bool) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for line in requirements.of("docx") if there else ():
        name, _, version = line.partition("==")
        wheel(wheels, name.replace("-", "_"), version)
    with serving(wheels) as index, Server(tmp_path / "data", environ=settings(index.url)) as server, Api(server) as api:
        session = api.session(api.agent(skills=[{"type": "anthropic", "skill_id": "docx"}]))
        events = api.turn(session, LOOK)
        text = str(results(events)[0]["content"])
        assert "Read, make, edit and check Word files" in text
        assert ("1.2.0" in text) == there
        assert events[-1]["stop_reason"] == {"type": "end_turn"}
        assert errors(events) == ([] if there else [("unknown_error", "retrying")])
        assert "s3cret" not in server.log() + str(api.events(session)) + text
        assert errors(api.turn(session, LOOK)) == []
