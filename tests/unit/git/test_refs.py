"""What hosts say they have, read without believing it."""

from __future__ import annotations

import pytest

from hostler.git.pktline import DELIMITER, FLUSH, BadFrame, Mark, frame, frames
from hostler.git.refs import Refs, good_branch, read_advertisement, read_listing

A, B = b"a" * 40, b"b" * 40


def test_frames() -> None:
    data = frame(b"one\n") + DELIMITER + frame(b"") + FLUSH + b"0002" + frame(b"two")
    assert list(frames(data)) == [b"one", Mark.DELIMITER, b"", Mark.FLUSH, Mark.END, b"two"]


@pytest.mark.parametrize("data", [b"zzzz", b"0003", b"0010short", b"00", b"-001", b"ffff"])
def test_frames_that_are_none(data: bytes) -> None:
    with pytest.raises(BadFrame):
        list(frames(data))


def test_a_listing_of_the_newer_protocol() -> None:
    lines = [
        b"%s HEAD symref-target:refs/heads/trunk" % A,
        b"%s refs/heads/trunk" % A,
        b"%s refs/tags/v1 peeled:%s" % (B, A),
        b"%s refs/pull/1/head" % B,
    ]
    refs = read_listing(b"".join(frame(line + b"\n") for line in lines) + FLUSH)
    assert refs == Refs({b"refs/heads/trunk": A, b"refs/tags/v1": B}, b"refs/heads/trunk", None)
    assert refs.branch("trunk") == A
    assert refs.branch("v1") is None


def test_an_advertisement_of_the_older_protocol() -> None:
    lines: list[bytes | Mark] = [
        b"# service=git-upload-pack",
        Mark.FLUSH,
        b"%s HEAD\0multi_ack symref=HEAD:refs/heads/main agent=x" % A,
        b"%s refs/heads/main" % A,
        b"%s refs/tags/v1^{}" % A,
        Mark.FLUSH,
    ]
    assert read_advertisement(lines) == Refs({b"refs/heads/main": A}, b"refs/heads/main", None)
    detached = read_advertisement([b"%s HEAD\0multi_ack" % B, b"%s refs/heads/main" % A])
    assert (detached.head, detached.detached) == (None, B)
    assert read_advertisement([b"0" * 40 + b" capabilities^{}\0agent=x"]) == Refs({})


@pytest.mark.parametrize(
    "name",
    [b"refs/heads/../../config", b"refs/heads/a\nb", b"refs/heads/a b", b"refs/heads/.x", b"refs/heads/x.lock",
     b"refs/heads/x.lock/y", b"refs/heads/", b"refs/heads//x", b"refs/heads/@{x", b"refs/notes/x", b"HEAD2",
     b"refs/heads/\x7f", b"refs/heads/" + b"x" * 1100],
)  # fmt: skip
def test_names_that_git_would_not_take_are_left_out(name: bytes) -> None:
    assert read_advertisement([b"%s %s" % (A, name)]).named == {}


@pytest.mark.parametrize("line", [b"nonsense", b"abc refs/heads/x", b"%s" % A, A.upper() + b" refs/heads/x"])
def test_lines_that_name_no_object(line: bytes) -> None:
    with pytest.raises(BadFrame):
        read_listing(frame(line))


def test_equal_refs_have_one_name() -> None:
    one, two = Refs({b"refs/heads/a": A, b"refs/heads/b": B}), Refs({b"refs/heads/b": B, b"refs/heads/a": A})
    assert one.digest() == two.digest()
    assert one.digest() != Refs({b"refs/heads/a": B, b"refs/heads/b": A}).digest()
    assert one.digest() != Refs(one.named, b"refs/heads/a").digest()


@pytest.mark.parametrize(
    ("name", "good"),
    [("main", True), ("a/b-c.d", True), ("ü", True), ("-x", False), ("HEAD", False), ("a/.b", False), ("x/", False)],
)
def test_names_of_branches(name: str, good: bool) -> None:
    assert good_branch(name) is good
