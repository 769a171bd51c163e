"""Secrets that stay outside: their placeholders, where they may go, and what is taken out of results."""

from __future__ import annotations

from typing import Any

import pytest

from hostler.harness.secrets import RESERVED, placeholder, reachable, replaced
from hostler.sandbox.contract import NO_NETWORK, Network, Secret
from hostler.sandbox.rootfs import environment
from hostler.vault.variables import Variable


def variable(hosts: tuple[str, ...] | None) -> Variable:
    return Variable(
        name="TOKEN", value="s3cret", hosts=hosts, header=True, body=True, vault_id="vlt_1", credential_id="vcrd_1"
    )


@pytest.mark.parametrize(
    ("hosts", "network", "expected"),
    [
        (None, NO_NETWORK, False),
        (None, Network(hosts=("a.com",)), True),
        (None, Network(hosts=(), package_managers=True), True),
        (("a.com",), Network(hosts=("b.com",)), False),
        (("b.com", "A.com"), Network(hosts=("a.com",)), True),
        (("*.a.com",), Network(hosts=("a.com",)), False),
        (("*.a.com",), Network(hosts=("x.a.com",)), True),
        (("x.a.com",), Network(hosts=("*.a.com",)), True),
        (("*.a.com",), Network(hosts=("*.x.a.com",)), True),
        (("*.x.a.com",), Network(hosts=("*.a.com",)), True),
        (("*.ba.com",), Network(hosts=("*.a.com",)), False),
        (("1.2.3.4",), Network(hosts=("1.2.3.4",)), True),
    ],
)
def test_a_secret_is_of_use_where_both_lists_meet(
    hosts: tuple[str, ...] | None, network: Network, expected: bool
) -> None:
    assert reachable(variable(hosts), network) is expected


def test_a_placeholder_is_the_same_for_a_session_and_name_and_for_nothing_else() -> None:
    assert placeholder("sthr_1", "A") == placeholder("sthr_1", "A")
    assert len({placeholder(s, n) for s in ("sthr_1", "sthr_2") for n in ("A", "B")}) == 4


def test_no_secret_is_shown_when_it_is_printed() -> None:
    secret = Secret(placeholder="p", value="s3cret", hosts=None, header=True, body=True)
    assert "s3cret" not in f"{secret!r} {secret} {variable(None)!r} {variable(None)}"


def test_what_the_sandbox_needs_cannot_be_hidden_by_a_secret() -> None:
    ours = {name.upper() for name in environment({}, proxied=True)}
    pip = {"PIP_BREAK_SYSTEM_PACKAGES", "PIP_DISABLE_PIP_VERSION_CHECK"}
    assert ours - RESERVED <= pip | {"DEBIAN_FRONTEND", "GOBIN", "NPM_CONFIG_PREFIX"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": "a s3cret, as3cretb"}], [{"type": "text", "text": "a <P>, a<P>b"}]),
        ([{"type": "text", "text": "s3cret-longer"}], [{"type": "text", "text": "<Q>"}]),
        (
            [{"type": "document", "title": "s3cret", "source": {"type": "base64", "data": "s3cret"}}],
            [{"type": "document", "title": "<P>", "source": {"type": "base64", "data": "s3cret"}}],
        ),
    ],
)
def test_secrets_are_taken_out_of_results(content: Any, expected: Any) -> None:
    assert replaced(content, [("s3cret-longer", "<Q>"), ("s3cret", "<P>")]) == expected
