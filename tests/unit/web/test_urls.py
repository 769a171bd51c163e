"""URLs in canonical form, and those that a text mentions."""

from __future__ import annotations

import pytest

from hostler.web.problem import WebProblem
from hostler.web.urls import follow, mentioned, parse


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("HTTPS://Example.COM:443/A?b#c", "https://example.com/A?b"),
        ("http://example.com", "http://example.com/"),
        ("http://example.com:8080/a/../b/./c", "http://example.com:8080/b/c"),
        ("http://example.com/ä?ö=ü", "http://example.com/%C3%A4?%C3%B6=%C3%BC"),
        ("http://[::1]:80/", "http://[::1]/"),
        ("http://Bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://example.com/%41", "http://example.com/%41"),
        ("http://example.com/../../..", "http://example.com/"),
    ],
)
def test_canonical(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical
    assert str(parse(canonical)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "ftp://example.com/", "file:///etc/passwd", "javascript:alert(1)", "example.com", "//example.com", "http://",
        "http://user@example.com/", "http://user:pw@example.com/", "http://good.com\\@evil.com/", "http://a b.com/",
        "http://example.com/\r\nX: y", "http://example.com:99999/", "http://example.com:0/", "http://exa%6dple.com/",
        "http://a..b/", "http://[::1", "",
    ],
)  # fmt: skip
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(WebProblem) as raised:
        parse(text)
    assert raised.value.code == "invalid_tool_input"
    assert "example.com" not in str(raised.value)  # a result never holds what the model wrote


def test_too_long() -> None:
    with pytest.raises(WebProblem, match="url_too_long"):
        parse("http://example.com/" + "a" * 3000)


def test_redirects() -> None:
    base = parse("https://example.com/a/b?c")
    assert str(follow(base, "d")) == "https://example.com/a/d"
    assert str(follow(base, "//other.org")) == "https://other.org/"
    for location in ("file:///etc/passwd", "http://[", "ftp://x.org/"):
        with pytest.raises(WebProblem):
            follow(base, location)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/a(b)?c=1&d=2",
        "See https://example.com/a(b)?c=1&d=2.",
        "(https://example.com/a(b)?c=1&d=2)",
        "[words](https://example.com/a(b)?c=1&d=2) and more",
        "**https://example.com/a(b)?c=1&d=2**",
        "<https://example.com/a(b)?c=1&d=2>",
        '<a href="https://example.com/a(b)?c=1&amp;d=2">',
        "{'url': 'https://example.com/a(b)?c=1&d=2'}",
        '{"url":"https:\\/\\/example.com\\/a(b)?c=1\\u0026d=2"}',
        '"text https://example.com/a(b)?c=1&d=2\\nnext line"',
        "| https://example.com/a(b)?c=1&d=2|x|",
        "请看 https://example.com/a(b)?c=1&d=2。好",
        "HTTP://EXAMPLE.com:80/a%28b%29/?c=1&d=2#frag".replace("/?", "?"),
        "https://example.com/a(b)?c=1&d=2, https://other.org",
    ],
)
def test_mentions(text: str) -> None:
    assert parse("https://example.com/a(b)?c=1&d=2").key in {key for key, _ in mentioned(text)}


def test_what_was_not_mentioned() -> None:
    text = "https://example.com/a and https://example.com/b?q=1"
    keys = {key for key, _ in mentioned(text)}
    for url in ("https://example.com/", "https://example.com/c", "https://example.com/b?q=2", "https://evil.org/a"):
        assert parse(url).key not in keys


def test_bare_names_count_only_where_wanted() -> None:
    text = "Look at example.com/docs, or mail me@hidden.org; run setup.py."
    assert not list(mentioned(text))
    found = dict(mentioned(text, bare=True))
    assert found[parse("https://example.com/docs").key] == "//example.com/docs"
    assert parse("https://hidden.org").key not in found


def test_a_hostile_text_takes_no_time() -> None:
    for text in ("http://" * 100_000, "https://a.b/" + "(" * 200_000, "a." * 200_000, "http://a/" + "&amp;" * 100_000):
        for _ in mentioned(text, bare=True):
            pass
