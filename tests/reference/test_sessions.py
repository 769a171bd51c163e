"""The scripted model makes handovers of any period in real sessions, through the official SDK."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic

from reference import periods
from reference.handover import problems
from reference.test_handover import PROGRAM, lacking
from running import Server

Json = dict[str, Any]
# In the sandbox: the program, once for each period of an archive, as if it was started for each.
EACH = """
import contextlib, io, sys, zipfile
sys.path.insert(0, "/mnt/session/uploads")
import handover
with zipfile.ZipFile("/mnt/session/uploads/periods.zip") as given, zipfile.ZipFile("made.zip", "w") as made:
    for name in given.namelist():
        with open("period.json", "wb") as file:
            file.write(given.read(name))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            handover.main(["period.json", f"out/{name}"])
        made.writestr(f"{name}/said", said.getvalue())
        for path in handover.Path(f"out/{name}").iterdir():
            made.write(path, f"{name}/{path.name}")
with open("made.zip", "rb") as whole, open("/mnt/session/outputs/made.zip", "wb") as file:
    file.write(whole.read())
print("made", len(made.namelist()))
"""


class House:
    """One agent, one environment, and sessions of them."""

    def __init__(self, server: Server) -> None:
        self.client = Anthropic(base_url=server.base_url, api_key=server.key, max_retries=0)
        self.environment = self.client.beta.environments.create(name="reference").id
        self.agent = self.client.beta.agents.create(
            name="audit-handover",
            model="claude-sonnet-4-6",
            tools=[{"type": "agent_toolset_20260401"}],
            skills=[{"type": "anthropic", "skill_id": "docx"}],
        ).id

    def session(self, **files: bytes) -> str:
        resources: list[Any] = []
        for name, content in files.items():
            name = name.replace("_", ".")
            uploaded = self.client.beta.files.upload(file=(name, content, "application/octet-stream"))
            resources.append({"type": "file", "file_id": uploaded.id, "mount_path": name})
        made = self.client.beta.sessions.create(agent=self.agent, environment_id=self.environment, resources=resources)
        return str(made.id)

    def turn(self, session: str, text: str) -> list[Any]:
        """What the session says until it rests."""
        events = self.client.beta.sessions.events
        seen = []
        with events.stream(session) as stream:
            events.send(session, events=[{"type": "user.message", "content": [{"type": "text", "text": text}]}])
            for event in stream:
                seen.append(event)
                if event.type == "session.status_idle":
                    assert event.stop_reason.type == "end_turn"
                    break
        assert [event for event in seen if event.type == "session.error"] == []
        return seen

    def files(self, session: str) -> dict[str, bytes]:
        listed = self.client.beta.files.list(scope_id=session)
        return {file.filename: self.client.beta.files.download(file.id).read() for file in listed if file.downloadable}


@pytest.fixture(scope="module")
def house(server: Server) -> Iterator[House]:
    house = House(server)
    yield house
    house.client.close()


def last_words(seen: list[Any]) -> str:
    return "".join(block.text for block in [event for event in seen if event.type == "agent.message"][-1].content)


def no_journal(summary: Json) -> None:
    del summary["journal_proposal"]


def no_checks(summary: Json) -> None:
    del summary["checks"]


KICKOFFS = {
    "the sample": periods.sample(),
    "much is missing": periods.sample(lacking),
    "no journal": periods.sample(no_journal),
    "no checks": periods.sample(no_checks),
    "odd words": next(message for message in periods.varied(100, seed=5) if "\\u5730" in message and "<b>" in message),
    "many accounts": periods.period(random.Random(3), "2026-03", accounts=1500),
}


@pytest.mark.parametrize("kind", KICKOFFS)
def test_a_session_makes_a_right_document(house: House, kind: str) -> None:
    session = house.session()
    seen = house.turn(session, KICKOFFS[kind])
    ((name, content),) = house.files(session).items()
    assert problems(KICKOFFS[kind], name, content, last_words(seen)) == []
    calls = [event.name for event in seen if event.type == "agent.tool_use"]
    assert calls == ["write", "write", "bash", "bash"], "the document is made by a program that the agent wrote"


def test_the_large_one_is_larger_than_what_conditions_look_at() -> None:
    assert len(KICKOFFS["many accounts"]) > 100_000


def test_many_kinds_of_periods_in_one_sandbox(house: House) -> None:
    kinds = {f"{number}": message for number, message in enumerate(periods.varied(80))}
    kinds["500"] = periods.period(random.Random(8), "2026-12", accounts=500)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as given:
        for name, message in kinds.items():
            given.writestr(name, message)
    session = house.session(handover_py=PROGRAM.read_bytes(), each_py=EACH.encode(), periods_zip=archive.getvalue())
    seen = house.turn(session, "run: python3 /mnt/session/uploads/each.py")
    assert f"made {2 * len(kinds)}" in last_words(seen), last_words(seen)
    made: dict[str, dict[str, bytes]] = {}
    with zipfile.ZipFile(io.BytesIO(house.files(session)["made.zip"])) as done:
        for path in done.namelist():
            name, _, file = path.partition("/")
            made.setdefault(name, {})[file] = done.read(path)
    wrong = {}
    for name, message in kinds.items():
        said = made[name].pop("said").decode().strip()
        ((file, content),) = made[name].items()
        if found := problems(message, file, content, said):
            wrong[name] = found
    assert wrong == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"period_summary": {"period": "2026-03", "tb": ',
        json.dumps({"period_summary": {"period": "2026-03"}}),
        json.dumps({"period_summary": {"period": "../x", "tb": {"lines": []}}}),
    ],
)
def test_of_what_can_t_be_read_no_document_is_made(house: House, text: str) -> None:
    session = house.session()
    said = last_words(house.turn(session, text))
    assert said.startswith("No handover was made: ")
    assert "\n" not in said
    assert house.files(session) == {}


def test_a_second_period_in_the_same_session(house: House) -> None:
    session = house.session()
    house.turn(session, KICKOFFS["the sample"])

    def april(summary: Json) -> None:
        summary["period"] = "2026-04"

    seen = house.turn(session, periods.sample(april))
    files = house.files(session)
    name = "audit-handover-2026-04.docx"
    assert problems(periods.sample(april), name, files[name], last_words(seen)) == []
    assert "audit-handover-2026-03.docx" in files


def test_without_the_skill_it_says_what_it_lacks(house: House) -> None:
    tools: list[Any] = [{"type": "agent_toolset_20260401", "default_config": {"enabled": False},
                         "configs": [{"name": "read", "enabled": True}]}]  # fmt: skip
    bare = house.client.beta.agents.create(name="bare", model="claude-sonnet-4-6", tools=tools)
    made = house.client.beta.sessions.create(agent=bare.id, environment_id=house.environment)
    assert last_words(house.turn(made.id, KICKOFFS["the sample"])).endswith("this agent has no bash tool.")
    full = house.client.beta.agents.create(
        name="full", model="claude-sonnet-4-6", tools=[{"type": "agent_toolset_20260401"}]
    )
    made = house.client.beta.sessions.create(agent=full.id, environment_id=house.environment)
    said = last_words(house.turn(made.id, KICKOFFS["the sample"]))
    assert said == "No handover was made: docx is not installed here."


def test_the_program_is_what_is_shown(house: House) -> None:
    """The timeline shows the very program that ran."""
    seen = house.turn(house.session(), KICKOFFS["the sample"])
    written = [event.input["content"] for event in seen if event.type == "agent.tool_use" and event.name == "write"]
    assert set(written) == {KICKOFFS["the sample"], Path(PROGRAM).read_text()}
