"""Which entries are domains, and which URLs a rule lets through."""

from __future__ import annotations

import pytest

from hostler.web.domains import BadDomain, Rules, check, covered
from hostler.web.problem import WebProblem
from hostler.web.urls import parse


@pytest.mark.parametrize(
    "entry", ["example.com", "Docs.Example.COM", "xn--bcher-kva.example", "a_b.example.org", "0x7f.com"]
)
def test_plain_hostnames(entry: str) -> None:
    check(entry, paths=False)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("127.0.0.1", 'IP addresses are not supported; provide a plain hostname like "example.com"'),
        ("[::1]", "IP addresses"),
        ("::1", "IP addresses"),
        ("2130706433", "IP addresses"),
        ("0x7f.1", "IP addresses"),
        ("127.1", "IP addresses"),
        ("com", "single label"),
        ("localhost", "local names"),
        ("app.localhost", "local names"),
        ("printer.local", "local names"),
        ("metadata.google.internal", "local names"),
        ("https://example.com", "scheme"),
        ("example.com:80", "port"),
        ("me@example.com", "port and user"),
        ("*.example.com", "sub-domains"),
        ("bücher.example", "ASCII"),
        ("example.com.", "not a hostname"),
        ("exa mple.com", "not a hostname"),
        ("-a.example.com", "not a hostname"),
        ("", "1 to 255"),
        ("a." * 130 + "com", "1 to 255"),
    ],
)
def test_what_is_no_domain(entry: str, says: str) -> None:
    with pytest.raises(BadDomain, match=says.replace("[", r"\[")):
        check(entry, paths=True)


def test_a_path_suffix_is_for_search_only() -> None:
    check("example.com/docs/a", paths=True)
    with pytest.raises(BadDomain, match="paths"):
        check("example.com/docs", paths=False)
    for entry in ("example.com/a b", "example.com/a?b", "example.com/a#b"):
        with pytest.raises(BadDomain, match="path suffix"):
            check(entry, paths=True)


def permitted(rules: Rules, url: str) -> bool:
    parsed = parse(url)
    return rules.permit(parsed.host, parsed.path)


def test_a_refusal_is_a_problem_for_the_model() -> None:
    with pytest.raises(WebProblem, match="url_not_allowed"):
        Rules(allowed=("a.com",)).check(parse("https://b.com/"))


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("https://example.com/", True),
        ("https://a.b.example.com/x", True),
        ("https://EXAMPLE.com./", True),
        ("http://example.com:8080/", True),
        ("https://notexample.com/", False),
        ("https://example.com.evil.org/", False),
        ("https://evil.org/example.com", False),
        ("https://evil.org?example.com", False),
        ("https://1.2.3.4/", False),
    ],
)
def test_domains_have_their_sub_domains(url: str, inside: bool) -> None:
    assert permitted(Rules(allowed=("Example.com",)), url) is inside
    assert permitted(Rules(blocked=("example.com",)), url) is not inside


def test_international_names_match_their_ascii_form() -> None:
    assert permitted(Rules(allowed=("xn--bcher-kva.example",)), "https://www.Bücher.example/")
    assert not permitted(Rules(blocked=("xn--bcher-kva.example",)), "https://bu\u0308cher.example/")


def test_paths() -> None:
    rules = Rules(allowed=("example.com/docs",))
    assert permitted(rules, "https://example.com/docs")
    assert permitted(rules, "https://www.example.com/docs/a?b")
    assert not permitted(rules, "https://example.com/docsx")
    assert not permitted(rules, "https://example.com/docs/../secret")
    assert not permitted(rules, "https://example.com/docs/%2e%2E/secret")


def test_hosts_of_an_environment_are_exact() -> None:
    assert covered("a.example.com", ["*.example.com"])
    assert not covered("example.com", ["*.example.com"])
    assert not covered("a.example.com", ["example.com"])
    rules = Rules(allowed=("example.com",), hosts=("api.example.com",))
    assert permitted(rules, "https://api.example.com/")
    assert not permitted(rules, "https://www.example.com/")
    assert Rules(hosts=()).closed
    assert not Rules().closed


def test_rules_of_several_agents_are_combined() -> None:
    rules = Rules(allowed=("a.com", "b.com"), within=Rules(allowed=("b.com", "c.com"), blocked=("x.b.com",)))
    assert permitted(rules, "https://b.com/")
    for url in ("https://a.com/", "https://c.com/", "https://x.b.com/"):
        assert not permitted(rules, url)
