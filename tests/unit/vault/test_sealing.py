"""Sealed secrets: they open for their owner only, with a known key only, and never show themselves."""

from __future__ import annotations

import base64
import os

import pytest

from hostler.vault.sealing import PREFIX_BYTES, Key, NotOpened, Sealer

RAW = bytes(range(32))


def test_what_was_sealed_opens_for_its_owner_only() -> None:
    sealer = Sealer([Key.new()])
    sealed = sealer.seal("vcrd_1", b"hunter2")
    assert sealer.open("vcrd_1", sealed) == b"hunter2"
    assert b"hunter2" not in sealed
    assert sealer.seal("vcrd_1", b"hunter2") != sealed, "no nonce twice"
    with pytest.raises(NotOpened, match="another owner"):
        sealer.open("vcrd_2", sealed)


@pytest.mark.parametrize("place", [PREFIX_BYTES, PREFIX_BYTES + 12, -1])
def test_a_changed_bit_is_noticed(place: int) -> None:
    sealer = Sealer([Key.new()])
    sealed = bytearray(sealer.seal("o", b"hunter2"))
    sealed[place] ^= 1
    with pytest.raises(NotOpened, match="damaged"):
        sealer.open("o", bytes(sealed))


@pytest.mark.parametrize("length", [0, 1, 8, 9, 15, 21, 30])
def test_what_is_cut_short_is_refused(length: int) -> None:
    sealer = Sealer([Key.new()])
    with pytest.raises(NotOpened):
        sealer.open("o", sealer.seal("o", b"")[:length])


def test_older_keys_open_and_the_first_one_seals() -> None:
    old, new = Key.new(), Key.new()
    before = Sealer([old]).seal("o", b"x")
    both = Sealer([new, old])
    assert both.open("o", before) == b"x"
    after = both.seal("o", b"x")
    assert (both.key_id, both.knows(before), after.startswith(both.prefix)) == (new.id, True, True)
    assert Sealer([new]).open("o", after) == b"x"
    with pytest.raises(NotOpened, match=old.id.hex()):
        Sealer([new]).open("o", before)


def test_the_same_key_twice_is_one_key() -> None:
    key, other = Key.new(), Key.new()
    assert Sealer([key, other, key]).key_id == key.id


@pytest.mark.parametrize(
    "text",
    [
        RAW.hex(),
        RAW.hex().upper(),
        base64.b64encode(RAW).decode(),
        base64.urlsafe_b64encode(RAW).decode(),
        base64.b64encode(RAW).decode().rstrip("="),
        f"  {base64.b64encode(RAW).decode()}\n",
    ],
)
def test_keys_are_read_in_these_encodings(text: str) -> None:
    assert Key.read(text) == Key(RAW)


def test_both_alphabets_of_base64() -> None:
    raw = b"\xfb\xff" * 16
    assert Key.read(base64.b64encode(raw).decode()) == Key.read(base64.urlsafe_b64encode(raw).decode()) == Key(raw)


@pytest.mark.parametrize(
    "text", ["", "hunter2", "z" * 64, RAW.hex()[:-2], base64.b64encode(RAW[:31]).decode(), "é" * 43]
)
def test_what_is_no_key_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="32 bytes") as refused:
        Key.read(text)
    assert not text or text not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_a_key_does_not_show_itself() -> None:
    raw = os.urandom(32)
    key = Key(raw)
    for shown in (repr(key), str(key), repr(Sealer([key]))):
        assert key.text not in shown
        assert raw.hex() not in shown
    assert Key.read(key.text) == key
