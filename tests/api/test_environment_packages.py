"""A session whose environment has packages has them in its sandbox, all made before its first tool call; one manager
that fails costs no other's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from failures.client import Api, errors, results
from hostler.sandbox.layers import toolchains
from running import Server
from sandbox import registries
from sandbox.registries import Registry, serving
from sandbox.wheels import serving as serving_wheels
from sandbox.wheels import wheel

PRESENT = {name: toolchains.find(name) is not None for name in ("npm", "apt-get")}
LOOK = (
    "run: hostler-probe; node -p 'require(\"hostler-tool\")'; "
    "python3 -c 'import hostler_wheel as w; print(w.VERSION)'; hostler-tool; true"
)


class Place:
    """A server with registries of its own."""

    def __init__(self, server: Server, registry: Registry, api: Api) -> None:
        self.server, self.registry, self.api = server, registry, api

    def session(self, **packages: list[str]) -> str:
        config = {"type": "cloud", "packages": packages}
        environment = self.api.post("/v1/environments", {"name": "e", "config": config})
        body = {"agent": self.api.agent()["id"], "environment_id": environment["id"]}
        return str(self.api.post("/v1/sessions", body)["id"])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "hostler_wheel")
    with serving() as registry, serving_wheels(wheels) as index:
        registries.apt_package(
            registry,
            "hostler-probe",
            {"usr/bin/hostler-probe": "#!/bin/sh\necho from apt\n"},
            modes={"./usr/bin/hostler-probe": 0o755},
        )
        registries.npm_package(registry, "hostler-tool")
        environ = {
            "PIP_FIND_LINKS": "",
            "PIP_EXTRA_INDEX_URL": "",
            "HTTPS_PROXY": "",
            "https_proxy": "",
            "PIP_INDEX_URL": index.url,
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_RETRIES": "0",
            **registries.npm_settings(registry, tmp_path / "npm"),
            **registries.apt_settings(registry, tmp_path / "apt"),
        }
        registries.share_base(tmp_path / "data" / "layers")
        with Server(tmp_path / "data", environ=environ) as server, Api(server) as api:
            yield Place(server, registry, api)


def text(events: list[dict[str, Any]]) -> str:
    return str(results(events)[0]["content"])


def here(**packages: list[str]) -> dict[str, list[str]]:
    """Less what this machine has no manager for."""
    managers = {"apt": "apt-get", "npm": "npm"}
    return {name: lines for name, lines in packages.items() if PRESENT.get(managers.get(name, ""), True)}


def test_a_session_has_the_packages(place: Place) -> None:
    wanted = here(apt=["hostler-probe"], npm=["hostler-tool"], pip=["hostler_wheel"])
    session = place.session(**wanted)
    events = place.api.turn(session, LOOK)
    said = text(events)
    assert errors(events) == []
    assert ("from apt" in said) == ("apt" in wanted)
    assert ("program of hostler-tool" in said) == ("npm" in wanted)
    assert (r"\nhostler-tool\n" in said) == ("npm" in wanted)
    assert "1.0" in said
    assert "s3cret" not in place.server.log() + str(place.api.events(session)) + said
    asked = len(place.registry.asked)
    again = place.session(**wanted)
    assert text(place.api.turn(again, LOOK)) == said
    assert len(place.registry.asked) == asked  # shared


def test_a_manager_that_fails_costs_no_others(place: Place) -> None:
    wanted = here(apt=["hostler-absent"], npm=["hostler-tool", "hostler-gone"], pip=["hostler_wheel"])
    session = place.session(**wanted)
    events = place.api.turn(session, LOOK)
    assert "1.0" in text(events)
    assert errors(events) == [("unknown_error", "retrying")] * (len(wanted) - 1)
    messages = [event["error"]["message"] for event in events if event["type"] == "session.error"]
    for manager, package, words in (("apt", "hostler-absent", "Unable to locate"), ("npm", "hostler-gone", "404")):
        if manager in wanted:
            (message,) = [message for message in messages if f"environment's {manager} packages" in message]
            assert package in message
            assert words in message
            assert "s3cret" not in message
    assert events[-1]["stop_reason"] == {"type": "end_turn"}
    asked = len(place.registry.asked)
    assert errors(place.api.turn(place.session(**wanted), LOOK)) == errors(events)
    assert len(place.registry.asked) == asked  # a build that failed is not repeated for each session


def test_a_limited_network_is_none_of_the_builds(place: Place) -> None:
    """Packages come by the machine's own way, whatever the session may reach."""
    networking = {"type": "limited", "allowed_hosts": [], "allow_package_managers": True}
    config = {"type": "cloud", "packages": {"pip": ["hostler_wheel"]}, "networking": networking}
    environment = place.api.post("/v1/environments", {"name": "e", "config": config})
    body = {"agent": place.api.agent()["id"], "environment_id": environment["id"]}
    events = place.api.turn(str(place.api.post("/v1/sessions", body)["id"]), LOOK)
    assert "1.0" in text(events)
    assert errors(events) == []


def test_building_begins_with_the_session(place: Place) -> None:
    place.session(**here(npm=["hostler-tool"], pip=["hostler_wheel"]))
    if PRESENT["npm"]:
        assert place.registry.reached.wait(60)
