"""Hibernating, restoring, forking, exporting and deleting one session at once: nothing is lost, and nothing hangs."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from failures.client import Api, Json, errors
from lives.test_hibernation import directory, output, snapshots, until
from running import Server

ROUNDS = 6


def test_a_message_in_the_midst_of_a_hibernation(api: Api, server: Server) -> None:
    session = api.session()
    api.turn(session, "run: head -c 20000000 /dev/urandom > big; echo 0 > count")
    for number in range(1, ROUNDS):
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(api.http.post, f"/v1/sessions/{session}/hibernate")
            events = api.turn(session, f"run: wc -c < big; cat count; echo {number} > count")
            answer = asked.result()
        assert output(events).split() == ["20000000", str(number - 1)]
        assert errors(events) == []
        assert answer.status_code in (200, 400), answer.text
    until(lambda: not [path for path in snapshots(server, session) if path.name.endswith(".part")], "halves are left")


def test_many_at_once(api: Api) -> None:
    session = api.session()
    api.turn(session, "run: echo kept > file")
    verbs = [("POST", "hibernate"), ("POST", "fork"), ("GET", "export"), ("POST", "hibernate"), ("POST", "fork")]

    def ask(verb: tuple[str, str]) -> Json:
        body = {"json": {}} if verb[1] == "fork" else {}
        answer = api.http.request(verb[0], f"/v1/sessions/{session}/{verb[1]}", **body)
        assert answer.status_code == 200, answer.text
        return answer.json() if verb[1] == "fork" else {}

    with ThreadPoolExecutor(5) as pool:
        forks = [made["id"] for made in pool.map(ask, verbs * 2) if made]
    for each in (session, *forks):
        assert output(api.turn(each, "run: cat file")) == "kept"


@pytest.mark.parametrize("verb", ["hibernate", "fork", "export"])
def test_deleted_in_the_midst(api: Api, server: Server, verb: str) -> None:
    session = api.session()
    api.turn(session, "run: head -c 20000000 /dev/urandom > big")
    with ThreadPoolExecutor(1) as pool:
        if verb == "export":
            asked = pool.submit(api.http.get, f"/v1/sessions/{session}/export")
        else:
            asked = pool.submit(api.http.post, f"/v1/sessions/{session}/{verb}", json={})
        time.sleep(0.05)
        assert api.http.delete(f"/v1/sessions/{session}").status_code == 200
        assert asked.result().status_code in (200, 400, 404, 503)
    until(lambda: not snapshots(server, session) and not directory(server, session).exists(), "something is left")
